// Command bank times the bank on a running server: transfers beside a bare loop of the same
// statements and cockroach workload, and loading accounts beside a psycopg2 program. The sides
// take turns. It prints the medians, and the ratios within a turn.
//
//	go run ./testdata/bench/bank --url 'postgres://root@localhost:26257/?sslmode=disable'
//
// It drops and creates the databases bank_bench and workload_bench on the server.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"bulkload/loader/server"
	"bulkload/testdata/bench/measure"
)

var (
	accounts  = flag.Int64("accounts", 1000, "accounts to move money between")
	transfers = flag.Int64("transfers", 2000, "transfers of each run")
	rows      = flag.Int64("rows", 100_000, "accounts to load in each run")
	workers   = flag.Int("workers", 4, "transfers at once")
	count     = flag.Int("count", 5, "runs of each program")
	python    = flag.String("python", "python3", "Python with psycopg2")
	only      = flag.String("only", "", "transfer or load: measure only that")
	bare      = flag.Bool("bare", false, "internal: be the bare loop")
	bareLoad  = flag.Bool("bare-load", false, "internal: be the bare loop that loads accounts")
)

func main() {
	measure.Main("bank", func(ctx context.Context) error {
		switch {
		case *bare:
			return bareLoop(ctx)
		case *bareLoad:
			return bareAccounts(ctx)
		}
		return compare(ctx)
	})
}

// A program is timed repeatedly. Its reset statements run before each run; rate runs it and
// returns its operations per second.
type program struct {
	name  string
	reset []string
	rate  func() (float64, error)
	rates []float64
}

func compare(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	loader, err := measure.BuildLoader(dir)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	srv, db, err := measure.Open(ctx, "bank_bench")
	if err != nil {
		return err
	}
	cockroach := srv.Product == server.CockroachDB
	other, err := measure.WithDatabase(*measure.Target, "workload_bench")
	if err != nil {
		return err
	}
	if *only != "load" {
		if _, err := output(loader, "accounts", "--n", str(*accounts), "--seed", "1", "--url", db); err != nil {
			return err
		}
		if _, err := output(loader, "transfer", "--url", db); err != nil { // creates the history
			return err
		}
		fresh := []string{"DELETE FROM loader.transfers", "UPDATE accounts SET balance = 1000000000000"}
		if !cockroach {
			fresh = append(fresh, "VACUUM FULL accounts", "CHECKPOINT")
		}
		all := []*program{{name: "loader transfer", reset: fresh, rate: func() (float64, error) {
			out, err := output(loader, "transfer", "--n", str(*transfers), "--workers", strconv.Itoa(*workers), "--url", db, "--format", "json", "--quiet")
			var r struct {
				Run struct {
					Seconds float64 `json:"seconds"`
				} `json:"run"`
			}
			if err == nil {
				err = json.Unmarshal(out, &r)
			}
			return float64(*transfers) / r.Run.Seconds, err
		}}, {name: "a bare loop of the same statements", reset: fresh, rate: func() (float64, error) {
			out, err := output(self, "--bare", "--url", db, "--transfers", str(*transfers), "--workers", strconv.Itoa(*workers))
			if err != nil {
				return 0, err
			}
			return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
		}}}
		if path, err := exec.LookPath("cockroach"); cockroach && err == nil {
			if err := measure.Fresh(ctx, srv, "workload_bench"); err != nil {
				return err
			}
			if _, err := output(path, "workload", "init", "bank", "--db=workload_bench", "--rows="+str(*accounts), "--ranges=1", "--payload-bytes=24", other); err != nil {
				return err
			}
			all = append(all, &program{name: "cockroach workload run bank", rate: func() (float64, error) {
				out, err := output(path, "workload", "run", "bank", "--db=workload_bench", "--rows="+str(*accounts), "--ranges=1", "--payload-bytes=24",
					"--max-ops="+str(*transfers), fmt.Sprint("--concurrency=", *workers), "--display-every=1h", other)
				if err != nil {
					return 0, err
				}
				// The last line is the summary: elapsed, errors, operations, …
				lines := strings.Split(strings.TrimSpace(string(out)), "\n")
				fields := strings.Fields(lines[len(lines)-1])
				elapsed, err := time.ParseDuration(fields[0])
				if err != nil {
					return 0, fmt.Errorf("read the summary %q: %w", lines[len(lines)-1], err)
				}
				ops, err := strconv.ParseFloat(fields[2], 64)
				return ops / elapsed.Seconds(), err
			}})
		}
		if err := turns(ctx, srv, db, fmt.Sprintf("transfers/s, %d accounts, %d at once, %d a run", *accounts, *workers, *transfers), all); err != nil {
			return err
		}
	}
	if *only != "transfer" {
		if _, err := output(loader, "accounts", "--n", "1", "--url", db); err != nil { // creates table and registry
			return err
		}
		whole := func(name string, args ...string) func() (float64, error) {
			return func() (float64, error) {
				start := time.Now()
				_, err := output(name, args...)
				return float64(*rows) / time.Since(start).Seconds(), err
			}
		}
		fresh := []string{"TRUNCATE accounts"}
		if !cockroach {
			fresh = append(fresh, "CHECKPOINT")
		}
		load := []string{"accounts", "--n", str(*rows), "--url", db, "--quiet"}
		all := []*program{{name: "loader accounts", reset: fresh, rate: whole(loader, load...)}}
		if cockroach {
			all = []*program{
				{name: "loader accounts in chunks", reset: fresh, rate: whole(loader, append(load, "--via", "insert")...)},
				{name: "a bare loop of the same transactions", reset: fresh,
					rate: whole(self, "--bare-load", "--url", db, "--rows", str(*rows), "--workers", strconv.Itoa(*workers))},
				{name: "loader accounts by IMPORT", reset: fresh, rate: whole(loader, append(load, "--via", "import")...)},
			}
		}
		if exec.Command(*python, "-c", "import psycopg2").Run() == nil {
			all = append(all, &program{name: "psycopg2, multi-row INSERTs of 1000", reset: fresh, rate: whole(*python, "testdata/bench/bank/insert.py", db, str(*rows), "1000")})
		} else {
			fmt.Fprintf(os.Stderr, "bank: %s has no psycopg2\n", *python)
		}
		err := turns(ctx, srv, db, fmt.Sprintf("accounts/s, %d a run, whole processes", *rows), all)
		if err != nil {
			return err
		}
	}
	return measure.Drop(ctx, srv, "bank_bench", "workload_bench")
}

// bareChunk is the number of accounts that bareAccounts inserts in a transaction: the loader's.
const bareChunk = 2000

// bareAccounts loads accounts by the statements of loader accounts on CockroachDB, without
// retries, leases and checks.
func bareAccounts(ctx context.Context) error {
	name := "bare" + str(time.Now().UnixNano())
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range *workers {
		group.Go(func() error {
			conn, err := pgx.Connect(ctx, *measure.Target)
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(ctx))
			for {
				lo := next.Add(bareChunk) - bareChunk
				if lo >= *rows {
					return nil
				}
				hi := min(lo+bareChunk, *rows)
				ids, balances := make([]int64, hi-lo), make([]int64, hi-lo)
				for i := range ids {
					ids[i], balances[i] = rand.Int64(), rand.Int64N(1_000_000)
				}
				slices.Sort(ids)
				var open, end pgx.Batch
				open.Queue("BEGIN")
				open.Queue("SAVEPOINT cockroach_restart")
				open.Queue("INSERT INTO accounts (id, balance) SELECT * FROM unnest($1::INT8[], $2::INT8[])", ids, balances)
				open.Queue("INSERT INTO loader.ledger (load, lo, hi) VALUES ($1, $2, $3)", name, lo, hi)
				end.Queue("RELEASE SAVEPOINT cockroach_restart")
				end.Queue("COMMIT")
				for _, b := range []*pgx.Batch{&open, &end} {
					if err := conn.SendBatch(ctx, b).Close(); err != nil {
						return err
					}
				}
			}
		})
	}
	return group.Wait()
}

// turns runs all programs in turn and prints their rates. The first turn is a warm-up.
func turns(ctx context.Context, srv *server.Server, db, what string, all []*program) error {
	for i := range *count + 1 {
		for _, p := range all {
			if err := measure.Exec(ctx, db, p.reset...); err != nil {
				return err
			}
			rate, err := p.rate()
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			if i > 0 {
				p.rates = append(p.rates, rate)
			}
		}
	}
	fmt.Printf("\n%s, %s, median of %d turns (least to most)\n\n| program | per second | loader's to its |\n|---|---|---|\n", srv.Info, what, *count)
	for _, p := range all {
		fmt.Printf("| %s | %s | %s |\n", p.name, measure.Spread("%.0f", p.rates), measure.Spread("%.2f", measure.Ratios(all[0].rates, p.rates)))
	}
	return nil
}

func str(n int64) string { return strconv.FormatInt(n, 10) }

// output runs a program and returns its stdout.
func output(name string, args ...string) ([]byte, error) {
	out, _, err := measure.Process(exec.Command(name, args...))
	return out, err
}

// bareLoop sends the same statements as loader transfer, without retries, look-ups and checks,
// and prints its rate.
func bareLoop(ctx context.Context) error {
	conns := make([]*pgx.Conn, *workers)
	for i := range conns {
		conn, err := pgx.Connect(ctx, *measure.Target)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		conns[i] = conn
	}
	var version string
	if err := conns[0].QueryRow(ctx, "SELECT version()").Scan(&version); err != nil {
		return err
	}
	begin, end := []string{"begin"}, []string{"commit"}
	if strings.HasPrefix(version, "CockroachDB") {
		begin, end = append(begin, "SAVEPOINT cockroach_restart"), []string{"RELEASE SAVEPOINT cockroach_restart", "commit"}
	}
	found, err := conns[0].Query(ctx, "SELECT id FROM accounts")
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(found, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	name := "bare" + str(time.Now().UnixNano())
	var next atomic.Int64
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for _, conn := range conns {
		group.Go(func() error {
			for {
				n := next.Add(1) - 1
				if n >= *transfers {
					return nil
				}
				i := rand.IntN(len(ids))
				j := (i + 1 + rand.IntN(len(ids)-1)) % len(ids)
				if err := bareTransfer(ctx, conn, begin, end, name, n, ids[i], ids[j]); err != nil {
					return err
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	fmt.Println(float64(*transfers) / time.Since(start).Seconds())
	return nil
}

func bareTransfer(ctx context.Context, conn *pgx.Conn, begin, end []string, name string, n, source, sink int64) error {
	for _, q := range begin {
		if _, err := conn.Exec(ctx, q); err != nil {
			return err
		}
	}
	found, err := conn.Query(ctx, "SELECT id::INT8, balance::INT8 FROM accounts WHERE id IN ($1, $2) ORDER BY id FOR UPDATE", source, sink)
	if err != nil {
		return err
	}
	had := map[int64]int64{}
	var id, balance int64
	if _, err := pgx.ForEachRow(found, []any{&id, &balance}, func() error { had[id] = balance; return nil }); err != nil {
		return err
	}
	amount := had[source] / 2
	var batch pgx.Batch
	batch.Queue("UPDATE accounts SET balance = balance + CASE id WHEN $1 THEN -$3::INT8 ELSE $3::INT8 END WHERE id IN ($1, $2)", source, sink, amount)
	batch.Queue("INSERT INTO loader.transfers (run, n, source, sink, amount, source_had, sink_had) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		name, n, source, sink, amount, had[source], had[sink])
	if err := conn.SendBatch(ctx, &batch).Close(); err != nil {
		return err
	}
	for _, q := range end {
		if _, err := conn.Exec(ctx, q); err != nil {
			return err
		}
	}
	return nil
}
