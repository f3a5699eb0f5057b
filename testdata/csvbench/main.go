// Command csvbench times loader csv beside other programs that load the same file, on a
// server that runs, interleaved, and prints the medians and the ratios of one run. The
// file is a data set of testdata/csv, its records repeated up to a size. From the root
// of the repository:
//
//	go run ./testdata/csvbench --url 'postgres://postgres@localhost:5432/?sslmode=disable' --file seattle-weather.csv
//
// It drops and makes the database loader_csvbench on the server. The CPU time of the
// server is read from /proc, so that it must run on this machine.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/server"
)

var (
	target  = flag.String("url", "", "server, with a user who may create databases")
	file    = flag.String("file", "seattle-weather.csv", "data set of testdata/csv, with a header")
	size    = flag.Int64("bytes", 1<<30, "bytes of the file to load")
	count   = flag.Int("count", 5, "runs of each program")
	warm    = flag.Bool("warm", true, "begin with a run of each that does not count")
	workers = flag.Int("workers", 2, "connections of the programs that have several")
	only    = flag.String("only", "", "run only programs whose name contains this, beside the loader")
	key     = flag.Bool("key", false, "number the records, as a primary key")
	extra   = flag.String("args", "", "more arguments for loader csv, with blanks between")
	binary  = flag.String("loader", "", "the loader; built without it")
	pid     = flag.Int("pid", 0, "process of the server; 0 asks PostgreSQL, and is none elsewhere")
	dir     = flag.String("dir", "", "where the files are made; a new directory that is removed without it")
)

func main() {
	flag.Parse()
	if *target == "" {
		fmt.Fprintln(os.Stderr, "csvbench: --url is needed")
		os.Exit(2)
	}
	if err := compare(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "csvbench:", err)
		os.Exit(1)
	}
}

// A contender is a program that is timed.
type contender struct {
	name    string
	command func() *exec.Cmd

	rate, client, server []float64
	peak                 []int64
}

// A fileSet is the file to load, in the forms that the programs read.
type fileSet struct {
	csv, text string // text: in the text format of COPY, without a header
	rows      int64
	columns   []string
}

func compare(ctx context.Context) error {
	work := *dir
	if work == "" {
		var err error
		if work, err = os.MkdirTemp("", "csvbench"); err != nil {
			return err
		}
		defer os.RemoveAll(work)
	}
	loader := *binary
	if loader == "" {
		loader = filepath.Join(work, "loader")
		if out, err := exec.Command("go", "build", "-o", loader, "./cmd/loader").CombinedOutput(); err != nil {
			return fmt.Errorf("build the loader: %w: %s", err, out)
		}
	}
	cfg, err := server.Parse(*target)
	if err != nil {
		return err
	}
	srv, err := server.Open(ctx, cfg, "")
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
	cascade := ""
	if cockroach {
		cascade = " CASCADE"
	}
	db := withDatabase("loader_csvbench")
	if err := run(ctx, *target, "DROP DATABASE IF EXISTS loader_csvbench"+cascade, "CREATE DATABASE loader_csvbench"); err != nil {
		return err
	}
	// The loader makes the table, of the types that it finds in the data set.
	create := []string{"csv", filepath.Join(work, "sample.csv"), "--table", "t", "--create-table", "--url", db, "--quiet"}
	if *key {
		create = append(create, "--key", "record")
	}
	if out, err := exec.Command(loader, create...).CombinedOutput(); err != nil {
		return fmt.Errorf("first run of the loader: %w: %s", err, out)
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
	return run(ctx, *target, "DROP DATABASE loader_csvbench"+cascade)
}

// contenders returns the programs that are there.
func contenders(loader, db string, set fileSet, cockroach bool) []*contender {
	w := strconv.Itoa(*workers)
	args := append([]string{"csv", set.csv, "--table", "t", "--url", db, "--quiet", "--workers", w}, strings.Fields(*extra)...)
	all := []*contender{{name: "loader csv", command: func() *exec.Cmd { return exec.Command(loader, args...) }}}
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

// run times the contender once: whole processes, start and end included.
func (c *contender) run(ctx context.Context, db string, rows int64, counts, cockroach bool) error {
	reset := []string{"TRUNCATE t"}
	if !cockroach {
		reset = append(reset, "CHECKPOINT")
	}
	if err := run(ctx, db, reset...); err != nil {
		return err
	}
	before, err := cpuOf(*pid)
	if err != nil {
		return err
	}
	cmd := c.command()
	start := time.Now()
	out, err := cmd.CombinedOutput()
	elapsed := time.Since(start)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	after, err := cpuOf(*pid)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, db)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var got int64
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM t").Scan(&got); err != nil {
		return err
	}
	if got != rows {
		return fmt.Errorf("%d rows are in the table, and the file has %d: %s", got, rows, out)
	}
	seconds := (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	fmt.Fprintf(os.Stderr, "%s: %.2f s, CPU %.2f + %.2f s\n", c.name, elapsed.Seconds(), seconds, after-before)
	if counts {
		usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		c.rate = append(c.rate, float64(rows)/elapsed.Seconds())
		c.client = append(c.client, seconds)
		c.server = append(c.server, after-before)
		c.peak = append(c.peak, usage.Maxrss)
	}
	return nil
}

func report(srv *server.Server, set fileSet, all []*contender) {
	fmt.Printf("%s, %s repeated to %d MiB, %d rows, %d workers, median of %d interleaved runs (least to most)\n\n", srv.Info, *file, *size>>20, set.rows, *workers, *count)
	fmt.Println("| program | rows/s | loader's rows/s to its | CPU s: client + server | peak MiB |\n|---|---|---|---|---|")
	for _, c := range all {
		ratios, cpu := make([]float64, len(c.rate)), make([]float64, len(c.rate))
		for i := range ratios {
			ratios[i] = all[0].rate[i] / c.rate[i]
			cpu[i] = c.client[i] + c.server[i]
		}
		fmt.Printf("| %s | %.0f (%.0f to %.0f) | %.2f (%.2f to %.2f) | %.2f + %.2f = %.2f (%.2f to %.2f) | %d |\n", c.name,
			median(c.rate), slices.Min(c.rate), slices.Max(c.rate), median(ratios), slices.Min(ratios), slices.Max(ratios),
			median(c.client), median(c.server), median(cpu), slices.Min(cpu), slices.Max(cpu), median(c.peak)>>10)
	}
}

func median[T int64 | float64](list []T) T {
	s := slices.Clone(list)
	slices.Sort(s)
	return s[len(s)/2]
}

// withDatabase returns the target's URL with another database.
func withDatabase(name string) string {
	u, err := url.Parse(*target)
	if err != nil {
		panic("csvbench: --url is no URL")
	}
	u.Path = "/" + name
	return u.String()
}

// run runs statements at a URL.
func run(ctx context.Context, url string, statements ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, q := range statements {
		if _, err := conn.Exec(ctx, q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return nil
}

// postmaster returns the process of a PostgreSQL server.
func postmaster(ctx context.Context) (int, error) {
	conn, err := pgx.Connect(ctx, *target)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	var text string
	if err := conn.QueryRow(ctx, "SELECT pg_read_file('postmaster.pid')").Scan(&text); err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(text, "\n")
	return strconv.Atoi(line)
}

// cpuOf returns the CPU seconds of a process, of its children, and of those that have
// ended.
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
		if n, err := ticks(child, false); err == nil { // it may have ended
			sum += n
		}
	}
	const ticksPerSecond = 100 // USER_HZ of Linux
	return float64(sum) / ticksPerSecond, nil
}

// ticks reads the times of a process: proc_pid_stat(5), fields 14 to 17.
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
