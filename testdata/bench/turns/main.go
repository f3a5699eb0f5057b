// Command turns times shell commands as whole processes on a running server. The commands take
// turns, the order is reversed from round to round, and a first round of each does not count. It
// prints the medians in seconds, and how many times as fast each is as the first one, within a
// round:
//
//	go run ./testdata/bench/turns --url 'postgres://root@localhost:26257/?sslmode=disable' --reset 'TRUNCATE points' \
//		'psql=psql -q "$URL" -c "\copy points from points.tsv"' 'loader="$LOADER" csv points.csv --table points --url "$URL"'
//
// A command finds the loader in $LOADER and the server in $URL, with --rtt over a link of that
// round trip. --loader names a loader; otherwise it is built. The statements of --setup run once,
// and those of --reset before each run, in the database turns_bench, which is dropped and created.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"bulkload/testdata/bench/measure"
)

var (
	rtt    = flag.Duration("rtt", 0, "round trip to the server")
	count  = flag.Int("count", 5, "rounds that count")
	title  = flag.String("title", "", "what the table is of")
	setup  = flag.String("setup", "", "statements before the first run, with semicolons between")
	reset  = flag.String("reset", "", "statements before each run, with semicolons between")
	want   = flag.Int64("want", -1, "rows that --of must have after each run; -1 does not count them")
	of     = flag.String("of", "points", "table whose rows are counted")
	first  = flag.String("first", "", "command before the first run, for what the others shall find, such as the registry")
	loader = flag.String("loader", "", "the loader; built without it")
)

func main() { measure.Main("turns", compare) }

// A side is a timed command.
type side struct {
	name, command string
	seconds       []float64
}

func compare(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "turns")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if *loader == "" {
		if *loader, err = measure.BuildLoader(dir); err != nil {
			return err
		}
	}
	srv, db, err := measure.Open(ctx, "turns_bench")
	if err != nil {
		return err
	}
	defer measure.Drop(ctx, srv, "turns_bench")
	far, err := measure.Distant(db, *rtt)
	if err != nil {
		return err
	}
	var sides []*side
	for _, arg := range flag.Args() {
		name, command, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q is no name=command", arg)
		}
		sides = append(sides, &side{name: name, command: command})
	}
	if len(sides) == 0 {
		return errors.New("commands are needed")
	}
	if err := measure.Exec(ctx, db, statements(*setup)...); err != nil {
		return err
	}
	if *first != "" {
		if err := shell(*first, far).Run(); err != nil {
			return fmt.Errorf("%s: %w", *first, err)
		}
	}
	for i := range *count + 1 {
		for k := range sides {
			s := sides[k]
			if i%2 == 1 {
				s = sides[len(sides)-1-k]
			}
			if err := s.run(ctx, db, far, i > 0); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	fmt.Printf("%s, %s, a round trip of %s, %d rounds\n\n| command | seconds (least to most) | times as fast as the first |\n|---|---|---|\n", *title, srv.Info, *rtt, *count)
	for _, s := range sides {
		fmt.Printf("| %s | %s | %s |\n", s.name, measure.Spread("%.2f", s.seconds), measure.Spread("%.2f", measure.Ratios(sides[0].seconds, s.seconds)))
	}
	fmt.Println()
	return nil
}

// statements splits a flag's text.
func statements(text string) (list []string) {
	for _, s := range strings.Split(text, ";") {
		if strings.TrimSpace(s) != "" {
			list = append(list, s)
		}
	}
	return list
}

// shell returns a command that finds the loader and the server.
func shell(command, url string) *exec.Cmd {
	cmd := exec.Command("sh", "-ec", command)
	cmd.Env = append(os.Environ(), "LOADER="+*loader, "URL="+url)
	return cmd
}

// run runs the command once. A success with other rows than wanted is an error.
func (s *side) run(ctx context.Context, db, far string, counts bool) error {
	if err := measure.Exec(ctx, db, statements(*reset)...); err != nil {
		return err
	}
	_, use, err := measure.Process(shell(s.command, far))
	if err != nil {
		return err
	}
	if *want >= 0 {
		n, err := measure.Value[int64](ctx, db, "SELECT count(*) FROM "+*of)
		if err != nil {
			return err
		}
		if n != *want {
			return fmt.Errorf("%s has %d rows, want %d", *of, n, *want)
		}
	}
	if counts {
		s.seconds = append(s.seconds, use.Elapsed.Seconds())
	}
	return nil
}
