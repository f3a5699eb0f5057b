package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"bulkload/loader/server"
	"bulkload/testdata/bench/measure"
)

// A bench holds the inputs of the contenders.
type bench struct {
	dir, self, loader string
	db                string // URL of the database with the table points
	far               string // the same, as the programs reach it
	srv               *server.Server
}

// A contender is a timed program.
type contender struct {
	name, version string
	missing       string   // why it is not timed
	rows          int64    // per run
	fills         bool     // it fills the table points
	against       string   // the contender with the same load, for comparison
	reset         []string // statements before each run
	command       func() *exec.Cmd

	rate, cpu []float64
	peak      []int64
	said      string // the last line of a failed run
}

// Names of the loader's own runs.
const (
	generating = "loader points"
	reading    = "loader csv, of a ready CSV"
	importing  = "loader points --via import"
)

// contenders returns the programs for the server, also missing ones.
func (b *bench) contenders() []*contender {
	n, w := strconv.FormatInt(*nRows, 10), strconv.Itoa(cmp.Or(*workers, 4))
	csv, tsv := filepath.Join(b.dir, "points.csv"), filepath.Join(b.dir, "points.tsv")
	cockroach := b.srv.Product == server.CockroachDB
	empty := []string{"TRUNCATE points"}
	if !cockroach {
		empty = append(empty, "CHECKPOINT")
	}
	var all []*contender
	add := func(name, against, program, version string, reset []string, args ...string) *contender {
		c := &contender{name: name, against: against, rows: *nRows, reset: reset, fills: len(reset) > 0 && reset[0] == empty[0]}
		path, err := exec.LookPath(program)
		if err != nil {
			c.missing = "not installed"
		} else {
			c.version = versionOf(path, version)
			c.command = func() *exec.Cmd { return exec.Command(path, args...) }
		}
		all = append(all, c)
		return c
	}
	own := func(name, against string, args ...string) {
		args = append(args, "--url", b.far, "--quiet")
		if *workers > 0 {
			args = append(args, "--workers", w)
		}
		add(name, against, b.loader, "", empty, args...)
	}
	own(generating, "", "points", "--n", n)
	own(reading, "", "csv", csv, "--table", "points", "--columns", "id,x,y,z", "--header", "no")
	if help, err := exec.Command(b.loader, "points", "--help").Output(); cockroach && err == nil && strings.Contains(string(help), "import") {
		own(importing, "", "points", "--n", n, "--via", "import")
	}
	loop := map[bool]string{true: "insert", false: "copy"}[cockroach]
	add("a bare loop of the same "+loop, generating, b.self, "", empty, "--bare", loop, "--url", b.far, "--rows", n, "--workers", w, "--chunk", strconv.FormatInt(*chunk, 10))
	if cockroach {
		// psql's COPY misreads CSV that is cut within a record.
		add(`psql \copy, of the same rows as text`, reading, "psql", "--version", empty, "-q", b.far, "-c", `\copy points from '`+tsv+`'`)
		add(`psql \copy, of the same rows as text, inside BEGIN`, reading, "psql", "--version", empty, "-q", "-v", "ON_ERROR_STOP=1", b.far,
			"-c", "BEGIN", "-c", `\copy points from '`+tsv+`'`, "-c", "COMMIT")
	} else {
		add(`psql \copy, of the same CSV`, reading, "psql", "--version", empty, "-q", b.far, "-c", `\copy points from '`+csv+`' csv`)
	}
	add("timescaledb-parallel-copy, of the same CSV", reading, "timescaledb-parallel-copy", "--version", empty,
		"--connection", b.far, "--table", "points", "--columns", "id,x,y,z", "--file", csv, "--workers", w)
	add("pgloader, of the same CSV", reading, "pgloader", "--version", empty,
		"--type", "csv", "--field", "id,x,y,z", "--with", "fields terminated by ','", "--with", "workers = "+w, "--on-error-stop",
		csv, strings.Replace(b.far, "postgres://", "pgsql://", 1)+"&tablename=points")
	scale := max(*nRows/100_000, 1)
	p := add("pgbench -i, its own rows", generating, "pgbench", "--version", []string{"DROP TABLE IF EXISTS pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers"},
		append([]string{"-i", "-I", "dtgp", "-q", "-s", strconv.FormatInt(scale, 10)}, libpq(b.far)...)...)
	p.rows = 100_000 * scale
	if cockroach {
		workload := func(kind, against string) {
			add("cockroach workload init bank, its own rows, "+kind, against, "cockroach", "version", []string{"DROP DATABASE IF EXISTS bank CASCADE"},
				"workload", "init", "bank", "--rows", n, "--payload-bytes=24", "--ranges=1", "--init-conns=4", "--data-loader="+kind, *measure.Target)
		}
		workload("INSERT", generating)
		workload("IMPORT", generating)
		if all[2].name == importing {
			all[len(all)-1].against = importing
		}
	} else {
		all = append(all, &contender{name: "cockroach workload", missing: "loads into CockroachDB only"})
	}
	return all
}

// libpq returns a URL as arguments of pgbench, which does not accept URLs.
func libpq(text string) []string {
	u, err := url.Parse(text)
	if err != nil {
		return []string{text}
	}
	args := []string{"-h", u.Hostname(), "-p", u.Port()}
	if user := u.User.Username(); user != "" {
		args = append(args, "-U", user)
	}
	return append(args, strings.TrimPrefix(u.Path, "/"))
}

var version = regexp.MustCompile(`v?\d+\.\d+(\.\d+)?\S*`)

// versionOf asks a program for its version.
func versionOf(path, flag string) string {
	if flag == "" {
		return ""
	}
	out, _ := exec.Command(path, flag).CombinedOutput()
	return strings.Trim(strings.TrimPrefix(version.FindString(string(out)), "v"), `"`)
}

// run times the contender once, as a whole process from start to end.
func (c *contender) run(ctx context.Context, db string, counts bool) error {
	if err := measure.Exec(ctx, db, c.reset...); err != nil {
		return err
	}
	_, use, err := measure.Process(c.command())
	if err != nil {
		lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
		c.said = strings.ReplaceAll(lines[len(lines)-1], "|", `\|`)
		return err
	}
	if c.fills {
		// Check the rows: a successful exit is not enough.
		n, err := measure.Value[int64](ctx, db, "SELECT count(*) FROM points")
		if err != nil {
			return err
		}
		if n != c.rows {
			c.said = fmt.Sprintf("says that it succeeds with %d of %d rows", n, c.rows)
			return &exec.ExitError{}
		}
	}
	if counts {
		c.rate = append(c.rate, float64(c.rows)/use.Elapsed.Seconds())
		c.cpu = append(c.cpu, use.CPU.Seconds())
		c.peak = append(c.peak, use.PeakKiB)
	}
	return nil
}
