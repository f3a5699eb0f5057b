// Command csv times loader csv beside other programs that load the same file, on a running
// server, interleaved, and prints the medians and the ratios of one run. The file is a data set
// of testdata/csv, with its records repeated up to a given size. From the root of the
// repository:
//
//	go run ./testdata/bench/csv --url 'postgres://postgres@localhost:5432/?sslmode=disable' --file seattle-weather.csv
//
// It drops and creates the database loader_csvbench on the server. It reads the server's CPU
// time from /proc, so the server must run on this machine.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"bulkload/loader/server"
	"bulkload/testdata/bench/measure"
)

var (
	file    = flag.String("file", "seattle-weather.csv", "data set of testdata/csv, with a header")
	size    = flag.Int64("bytes", 1<<30, "bytes of the file to load")
	count   = flag.Int("count", 5, "runs of each program")
	warm    = flag.Bool("warm", true, "begin with a run of each that does not count")
	workers = flag.Int("workers", 2, "connections of the programs that have several; 0 leaves the loader its choice, IMPORT too")
	only    = flag.String("only", "", "run only programs whose name contains this, beside the loader")
	key     = flag.Bool("key", false, "number the records, as a primary key")
	extra   = flag.String("args", "", "more arguments for loader csv, with blanks between")
	binary  = flag.String("loader", "", "the loader; built without it")
	judge   = flag.Bool("judge", false, "also time --create-table, which judges all records before it loads them")
	other   = flag.String("other", "", "another build of the loader, timed beside it")
	pid     = flag.Int("pid", 0, "process of the server; 0 asks PostgreSQL, and is none elsewhere")
	dir     = flag.String("dir", "", "where the files are made; a new directory that is removed without it")
)

func main() { measure.Main("csv", compare) }

// A contender is a timed program.
type contender struct {
	name    string
	command func() *exec.Cmd
	makes   bool // it makes the table

	rate, client, server []float64
	peak                 []int64
}

// A fileSet is the file to load, in the formats that the programs read.
type fileSet struct {
	csv, text string // text: in the text format of COPY, without a header
	rows      int64
	columns   []string
}

func compare(ctx context.Context) error {
	work := *dir
	if work == "" {
		var err error
		if work, err = os.MkdirTemp("", "csv"); err != nil {
			return err
		}
		defer os.RemoveAll(work)
	}
	loader := *binary
	if loader == "" {
		var err error
		if loader, err = measure.BuildLoader(work); err != nil {
			return err
		}
	}
	srv, db, err := measure.Open(ctx, "loader_csvbench")
	if err != nil {
		return err
	}
	cockroach := srv.Product == server.CockroachDB
	set, err := makeFiles(work, cockroach)
	if err != nil {
		return err
	}
	if *pid == 0 && !cockroach {
		if *pid, err = postmaster(ctx); err != nil {
			return err
		}
	}
	// The loader creates the table, with the types that it finds in the data set.
	create := []string{"csv", filepath.Join(work, "sample.csv"), "--table", "t", "--create-table", "--url", db, "--quiet"}
	if *key {
		create = append(create, "--key", "record")
	}
	if _, _, err := measure.Process(exec.Command(loader, create...)); err != nil {
		return fmt.Errorf("first run of the loader: %w", err)
	}
	all := contenders(loader, db, set, cockroach)
	rounds := *count
	if *warm {
		rounds++
	}
	for i := range rounds {
		for _, c := range all {
			if err := c.run(ctx, db, set.rows, i > 0 || !*warm, cockroach); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	report(srv, set, all)
	return measure.Drop(ctx, srv, "loader_csvbench")
}

// contenders returns the installed programs.
func contenders(loader, db string, set fileSet, cockroach bool) []*contender {
	w := strconv.Itoa(max(*workers, 1))
	args := append([]string{"csv", set.csv, "--table", "t", "--url", db, "--quiet"}, strings.Fields(*extra)...)
	if *workers > 0 {
		args = append(args, "--workers", w)
	}
	all := []*contender{{name: "loader csv", command: func() *exec.Cmd { return exec.Command(loader, args...) }}}
	if *other != "" {
		all = append(all, &contender{name: "the other loader csv", command: func() *exec.Cmd { return exec.Command(*other, args...) }})
	}
	if *judge {
		all = append(all, &contender{name: "loader csv --create-table", makes: true, command: func() *exec.Cmd { return exec.Command(loader, append(args[:len(args):len(args)], "--create-table")...) }})
	}
	add := func(program, name string, args ...string) {
		path, err := exec.LookPath(program)
		switch {
		case !strings.Contains(name, *only):
		case err != nil:
			fmt.Println("missing:", program)
		default:
			all = append(all, &contender{name: name, command: func() *exec.Cmd { return exec.Command(path, args...) }})
		}
	}
	columns := "(" + strings.Join(set.columns, ", ") + ")"
	if cockroach {
		add("psql", `psql, \copy in text format inside BEGIN`, "-q", "-v", "ON_ERROR_STOP=1", db,
			"-c", "BEGIN", "-c", `\copy t `+columns+` from '`+set.text+`'`, "-c", "COMMIT")
		return all
	}
	add("timescaledb-parallel-copy", "timescaledb-parallel-copy", "-connection", db, "-table", "t", "-file", set.csv,
		"-skip-header", "-columns", strings.Join(set.columns, ","), "-workers", w, "-copy-options", "CSV")
	add("psql", `psql \copy`, "-q", db, "-c", `\copy t `+columns+` from '`+set.csv+`' csv header`)
	return all
}

// run times the contender once, as a whole process from start to end.
func (c *contender) run(ctx context.Context, db string, rows int64, counts, cockroach bool) error {
	reset := []string{"TRUNCATE t"}
	if c.makes {
		reset = []string{"DROP TABLE t"}
	}
	if *other != "" { // it may not know the registry of this version
		reset = append(reset, "DROP SCHEMA IF EXISTS loader CASCADE")
	}
	if !cockroach {
		reset = append(reset, "CHECKPOINT")
	}
	if err := measure.Exec(ctx, db, reset...); err != nil {
		return err
	}
	before, err := cpuOf(*pid)
	if err != nil {
		return err
	}
	_, use, err := measure.Process(c.command())
	if err != nil {
		return err
	}
	after, err := cpuOf(*pid)
	if err != nil {
		return err
	}
	got, err := measure.Value[int64](ctx, db, "SELECT count(*) FROM t")
	if err != nil {
		return err
	}
	if got != rows {
		return fmt.Errorf("%d rows are in the table, and the file has %d", got, rows)
	}
	fmt.Fprintf(os.Stderr, "%s: %.2f s, CPU %.2f + %.2f s\n", c.name, use.Elapsed.Seconds(), use.CPU.Seconds(), after-before)
	if counts {
		c.rate = append(c.rate, float64(rows)/use.Elapsed.Seconds())
		c.client = append(c.client, use.CPU.Seconds())
		c.server = append(c.server, after-before)
		c.peak = append(c.peak, use.PeakKiB)
	}
	return nil
}

func report(srv *server.Server, set fileSet, all []*contender) {
	fmt.Printf("%s, %s repeated to %d MiB, %d rows, %d workers, median of %d interleaved runs (least to most)\n\n", srv.Info, *file, *size>>20, set.rows, *workers, *count)
	fmt.Println("| program | rows/s | loader's rows/s to its | CPU s: client + server | peak MiB |\n|---|---|---|---|---|")
	for _, c := range all {
		cpu := make([]float64, len(c.rate))
		for i := range cpu {
			cpu[i] = c.client[i] + c.server[i]
		}
		fmt.Printf("| %s | %s | %s | %.2f + %.2f = %s | %d |\n", c.name, measure.Spread("%.0f", c.rate), measure.Spread("%.2f", measure.Ratios(all[0].rate, c.rate)),
			measure.Median(c.client), measure.Median(c.server), measure.Spread("%.2f", cpu), measure.Median(c.peak)>>10)
	}
}

// postmaster returns the process ID of a PostgreSQL server.
func postmaster(ctx context.Context) (int, error) {
	text, err := measure.Value[string](ctx, *measure.Target, "SELECT pg_read_file('postmaster.pid')")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(text, "\n")
	return strconv.Atoi(line)
}

// cpuOf returns the CPU seconds of a process and its children, including ended children.
func cpuOf(pid int) (float64, error) {
	if pid == 0 {
		return 0, nil
	}
	sum, err := ticks(pid, true)
	if err != nil {
		return 0, err
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, err
	}
	for _, c := range strings.Fields(string(children)) {
		child, err := strconv.Atoi(c)
		if err != nil {
			return 0, err
		}
		if n, err := ticks(child, false); err == nil { // the child may have ended
			sum += n
		}
	}
	const ticksPerSecond = 100 // USER_HZ of Linux
	return float64(sum) / ticksPerSecond, nil
}

// ticks reads the CPU times of a process: proc_pid_stat(5), fields 14 to 17.
func ticks(pid int, waited bool) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))[11:15]
	if !waited {
		fields = fields[:2]
	}
	var sum int64
	for _, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}
