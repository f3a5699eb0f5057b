// Command generators measures loader rows beside other ways to fill a table with generated rows:
// INSERT … SELECT … FROM generate_series of the server itself, on CockroachDB the generator of
// cockroach workload for its own table, and loader csv of the same rows from a file.
//
//	go run ./testdata/bench/generators --url URL --rows 1000000 --count 5
//
// It prints rows per second, the CPU time of the client, and the ratio of loader rows to each.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"bulkload/loader/server"
	"bulkload/testdata/bench/measure"
)

var (
	rows  = flag.Int("rows", 400_000, "rows of each load")
	count = flag.Int("count", 5, "turns")
)

const database = "generators_bench"

func main() { measure.Main("generators", run) }

// people is a table of ten columns of ordinary types.
const people = `CREATE TABLE people (id INT8 PRIMARY KEY, name TEXT NOT NULL, email VARCHAR(80) NOT NULL, city TEXT, status VARCHAR(10) NOT NULL CHECK (status IN ('new', 'paid', 'sent')),
	price NUMERIC(8,2) NOT NULL, quantity INT NOT NULL, score FLOAT8, active BOOLEAN NOT NULL, created_at TIMESTAMPTZ NOT NULL)`

// series fills people by the server alone. Its e-mail addresses and names are numbers, its keys are
// those of the series, and no value depends on a seed.
const series = `INSERT INTO people SELECT i, 'name ' || i, 'user' || i || '@example.com', 'city ' || i %% 100, (ARRAY['new','paid','sent'])[1 + i %% 3],
	round((random() * 1000)::NUMERIC, 2), (random() * 100)::INT, random(), random() < 0.5, now() - i * '1 second'::INTERVAL FROM generate_series(1, %d) AS g (i)`

// A way fills a table.
type way struct {
	name string
	// before readies the tables of a turn.
	before []string
	run    func(ctx context.Context) (measure.Use, error)
	rate   []float64
	cpu    []float64
}

func run(ctx context.Context) error {
	srv, url, err := measure.Open(ctx, database)
	if err != nil {
		return err
	}
	defer measure.Drop(context.WithoutCancel(ctx), srv, database)
	dir, err := os.MkdirTemp("", "generators")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	loader, err := measure.BuildLoader(dir)
	if err != nil {
		return err
	}
	if err := measure.Exec(ctx, url, people); err != nil {
		return err
	}
	command := func(name string, args ...string) func(context.Context) (measure.Use, error) {
		return func(ctx context.Context) (measure.Use, error) {
			_, use, err := measure.Process(exec.CommandContext(ctx, name, args...))
			return use, err
		}
	}
	n, file := fmt.Sprint(*rows), filepath.Join(dir, "people.csv")
	if _, err := command(loader, "rows", "--url", url, "--table", "people", "--n", n, "--seed", "7", "--out", file)(ctx); err != nil {
		return err
	}
	chunks := func(args ...string) []string {
		args = append(args, "--url", url, "--workers", "2")
		if srv.Product == server.CockroachDB {
			args = append(args, "--via", "insert")
		}
		return args
	}
	fresh := []string{"DROP TABLE people", people}
	ways := []*way{
		{name: "loader rows", before: fresh, run: command(loader, chunks("rows", "--table", "people", "--n", n, "--seed", "7")...)},
		{name: "loader csv, of the same rows in a file", before: fresh, run: command(loader, chunks("csv", file, "--table", "people", "--header", "no")...)},
		{name: "INSERT … SELECT … FROM generate_series", before: fresh, run: command("psql", "-q", "-X", "-v", "ON_ERROR_STOP=1", "-c", fmt.Sprintf(series, *rows), url)},
	}
	if srv.Product == server.CockroachDB {
		ways = append(ways,
			&way{name: "loader rows --via import", before: fresh, run: command(loader, "rows", "--url", url, "--table", "people", "--n", n, "--seed", "7", "--via", "import")},
			&way{name: "loader rows, of workload's table bank", before: []string{"DROP TABLE IF EXISTS bank", "CREATE TABLE bank (id INT PRIMARY KEY, balance INT, payload STRING)"},
				run: command(loader, chunks("rows", "--table", "bank", "--n", n, "--seed", "7", "--nulls", "0%", "--value", "payload=pattern({hex100})")...)},
			&way{name: "cockroach workload init bank, INSERT", before: []string{"DROP TABLE IF EXISTS bank"},
				run: command("cockroach", "workload", "init", "bank", "--rows", n, "--payload-bytes", "100", "--ranges", "1", "--data-loader", "INSERT", "--db", database, url)},
		)
	}
	for turn := range *count {
		for _, w := range ways {
			if err := measure.Exec(ctx, url, w.before...); err != nil {
				return err
			}
			use, err := w.run(ctx)
			if err != nil && turn == 0 && errors.Is(err, exec.ErrNotFound) {
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			w.rate = append(w.rate, float64(*rows)/use.Elapsed.Seconds())
			w.cpu = append(w.cpu, use.CPU.Seconds()*1e6/float64(*rows))
		}
	}
	fmt.Printf("%d rows, %s\n\n| | rows/s | client's CPU s per million rows | ratio of loader rows to it |\n|---|---|---|---|\n", *rows, srv.Info)
	of := ways[0]
	for _, w := range ways {
		if len(w.rate) == 0 {
			fmt.Printf("| %s | not installed | | |\n", w.name)
			continue
		}
		if strings.Contains(w.name, "bank") && !strings.Contains(w.name, "workload init") {
			of = w
		}
		ratio := ""
		if w != of {
			ratio = measure.Spread("%.2f", measure.Ratios(of.rate, w.rate))
		}
		fmt.Printf("| %s | %s | %s | %s |\n", w.name, measure.Spread("%.0f", w.rate), measure.Spread("%.2f", w.cpu), ratio)
	}
	return nil
}
