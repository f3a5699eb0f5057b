// Command scale runs one large load as a process of its own and prints its memory and the rate of
// each tenth:
//
//	go run ./testdata/bench/scale --url URL --n 100000000
//	go run ./testdata/bench/scale --url URL --n 50000000 --via import
//	go run ./testdata/bench/scale --url URL --gib 20
//
// --n loads points, and --gib a CSV of so many GiB that is made while it is read. Its records have
// 4 KiB of text, which PostgreSQL compresses, so that the table stays small.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bulkload/testdata/bench/measure"
)

var (
	points = flag.Int64("n", 0, "points to load")
	gib    = flag.Int64("gib", 0, "GiB of CSV to load")
	via    = flag.String("via", "auto", "method")
)

const database = "scale_bench"

func main() { measure.Main("scale", run) }

// A moment is how much was done at a time.
type moment struct {
	at   time.Duration
	done int64
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "scale")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	loader, err := measure.BuildLoader(dir)
	if err != nil {
		return err
	}
	srv, url, err := measure.Open(ctx, database)
	if err != nil {
		return err
	}
	defer measure.Drop(context.WithoutCancel(ctx), srv, database)
	cmd := exec.Command(loader, "points", "--n", fmt.Sprint(*points), "--via", *via, "--url", url)
	var input *records
	if *gib > 0 {
		if err := measure.Exec(ctx, url, "CREATE TABLE t (id INT8 PRIMARY KEY, s TEXT)"); err != nil {
			return err
		}
		cmd = exec.Command(loader, "csv", "-", "--table", "t", "--header", "no", "--columns", "id,s", "--url", url)
		input = &records{total: *gib << 30, begin: time.Now()}
		cmd.Stdin = input
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	seen, said := watch(stderr, begin)
	err = cmd.Wait()
	elapsed := time.Since(begin)
	if err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	unit := "rows"
	if input != nil {
		seen, unit = input.seen, "MiB"
	} else {
		seen = append(seen, moment{elapsed, *points})
	}
	memory := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	fmt.Printf("%s: %.0f s, peak memory %d MiB\n%s/s of each tenth:", srv.Info, elapsed.Seconds(), memory>>10, unit)
	for _, rate := range tenths(seen) {
		fmt.Printf(" %.0f", rate)
	}
	fmt.Println()
	return nil
}

// progress matches a line of the loader's progress.
var progress = regexp.MustCompile(`^ *\d+%  (\d+) of \d+ `)

// watch reads the loader's lines to the end. It returns what was done when, and the last line.
func watch(r io.Reader, begin time.Time) (seen []moment, last string) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		last = lines.Text()
		if m := progress.FindStringSubmatch(last); m != nil {
			n, _ := strconv.ParseInt(m[1], 10, 64)
			seen = append(seen, moment{time.Since(begin), n})
		}
	}
	return seen, last
}

// tenths returns the rate of each tenth of what was done at the end, with what was done between
// two moments in proportion.
func tenths(seen []moment) (rates []float64) {
	total := seen[len(seen)-1].done
	from, before := time.Duration(0), moment{}
	for i := int64(1); i <= 10; i++ {
		want := total * i / 10
		for len(seen) > 1 && seen[0].done < want {
			before, seen = seen[0], seen[1:]
		}
		at := seen[0].at
		if n := seen[0].done - before.done; n > 0 {
			at = before.at + time.Duration(float64(seen[0].at-before.at)*float64(want-before.done)/float64(n))
		}
		rates = append(rates, float64(total/10)/(at-from).Seconds())
		from = at
	}
	return rates
}

// records makes the records of a CSV while it is read. What is done is in MiB.
type records struct {
	total, made, id int64
	begin           time.Time
	rest            string
	seen            []moment
}

var text = strings.Repeat("the same text again and again, ", 4<<10/31)

func (r *records) Read(p []byte) (int, error) {
	if r.made >= r.total && r.rest == "" {
		return 0, io.EOF
	}
	if r.rest == "" {
		r.rest = fmt.Sprintf("%d,\"%d %s\"\n", r.id, r.id, text)
		r.id++
		r.made += int64(len(r.rest))
		if n := len(r.seen); n == 0 || r.made>>20 >= r.seen[n-1].done+64 || r.made >= r.total {
			r.seen = append(r.seen, moment{time.Since(r.begin), r.made >> 20})
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
