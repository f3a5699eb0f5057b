// Command bench times the loader beside bare loops and other programs on a server that
// runs, interleaved, and prints the medians and the ratios of one run. It builds the
// loader itself:
//
//	go run ./testdata/bench --url 'postgres://root@localhost:26257/?sslmode=disable' --rows 400000
//
// It drops and makes the databases loader_bench and bank on the server.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"bulkload/chunker"
	"bulkload/loader/commit"
	"bulkload/loader/rows"
	"bulkload/loader/server"
	"bulkload/loader/source"
)

var (
	target  = flag.String("url", "", "server, with a user who may create databases")
	nRows   = flag.Int64("rows", 400_000, "rows of each run")
	count   = flag.Int("count", 5, "runs of each program")
	workers = flag.Int("workers", 2, "connections of the loader and the bare loop")
	only    = flag.String("only", "", "run only programs whose name contains this, beside the loader")
	bare    = flag.String("bare", "", "internal: be the bare loop insert or copy")
	chunk   = flag.Int64("chunk", 0, "rows per chunk of the bare loop; 0 is the loader's default")
)

func main() {
	flag.Parse()
	if *target == "" {
		fmt.Fprintln(os.Stderr, "bench: --url is needed")
		os.Exit(2)
	}
	err := compare
	if *bare != "" {
		err = bareLoop
	}
	if err := err(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// withDatabase returns the target's URL with another database.
func withDatabase(name string) string {
	u, err := url.Parse(*target)
	if err != nil {
		panic("bench: --url is no URL")
	}
	u.Path = "/" + name
	return u.String()
}

// A contender is a program that is timed.
type contender struct {
	name    string
	reset   []string // statements before each run
	command func() *exec.Cmd

	rate, cpu []float64
	peak      []int64
}

func compare(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	loader := filepath.Join(dir, "loader")
	if out, err := exec.Command("go", "build", "-o", loader, "./cmd/loader").CombinedOutput(); err != nil {
		return fmt.Errorf("build the loader: %w: %s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cfg, err := server.Parse(*target)
	if err != nil {
		return err
	}
	srv, err := server.Open(ctx, cfg, "")
	if err != nil {
		return err
	}
	db := withDatabase("loader_bench")
	if err := run(ctx, *target, "DROP DATABASE IF EXISTS loader_bench"+cascade(srv), "CREATE DATABASE loader_bench"); err != nil {
		return err
	}
	// The loader makes its table and its registry; every program then fills the
	// same empty table.
	if out, err := exec.Command(loader, "points", "--n", "1", "--url", db).CombinedOutput(); err != nil {
		return fmt.Errorf("first run of the loader: %w: %s", err, out)
	}
	n := strconv.FormatInt(*nRows, 10)
	empty := []string{"TRUNCATE points"}
	if srv.Product == server.PostgreSQL {
		empty = append(empty, "CHECKPOINT")
	}
	all := []*contender{{name: "loader", reset: empty, command: func() *exec.Cmd {
		return exec.Command(loader, "points", "--n", n, "--url", db, "--quiet", "--workers", strconv.Itoa(*workers))
	}}}
	add := func(c *contender) {
		if strings.Contains(c.name, *only) {
			all = append(all, c)
		}
	}
	loop := func(via string) *contender {
		return &contender{name: "bare loop, " + via, reset: empty, command: func() *exec.Cmd {
			return exec.Command(self, "--bare", via, "--url", db, "--rows", n, "--workers", strconv.Itoa(*workers), "--chunk", strconv.FormatInt(*chunk, 10))
		}}
	}
	if srv.Product == server.CockroachDB {
		add(loop("insert"))
		if path, err := exec.LookPath("cockroach"); err == nil {
			add(&contender{name: "cockroach workload init bank (INSERT, 4 connections)", reset: []string{"DROP DATABASE IF EXISTS bank CASCADE"}, command: func() *exec.Cmd {
				return exec.Command(path, "workload", "init", "bank", "--rows", n, "--payload-bytes=24", "--ranges=1", "--init-conns=4", "--data-loader=INSERT", withDatabase(""))
			}})
		} else {
			fmt.Println("missing: cockroach workload")
		}
	} else {
		add(loop("copy"))
		if path, err := exec.LookPath("psql"); err == nil {
			csv := filepath.Join(dir, "points.csv")
			if err := writeCSV(csv); err != nil {
				return err
			}
			add(&contender{name: `psql \copy of a ready CSV`, reset: empty, command: func() *exec.Cmd {
				return exec.Command(path, "-q", db, "-c", `\copy points from '`+csv+`' csv`)
			}})
		} else {
			fmt.Println("missing: psql")
		}
	}
	for i := range *count + 1 { // the first round warms up
		for _, c := range all {
			if err := c.run(ctx, db, i > 0); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	fmt.Printf("%s, %d rows, %d workers, median of %d interleaved runs (least to most)\n\n", srv.Info, *nRows, *workers, *count)
	fmt.Println("| program | rows/s | loader's rows/s to its | CPU s | peak MiB |\n|---|---|---|---|---|")
	for _, c := range all {
		ratios := make([]float64, len(c.rate))
		for i := range ratios {
			ratios[i] = all[0].rate[i] / c.rate[i]
		}
		fmt.Printf("| %s | %.0f (%.0f to %.0f) | %.2f (%.2f to %.2f) | %.2f | %d |\n", c.name,
			median(c.rate), slices.Min(c.rate), slices.Max(c.rate), median(ratios), slices.Min(ratios), slices.Max(ratios), median(c.cpu), median(c.peak)>>10)
	}
	return run(ctx, *target, "DROP DATABASE loader_bench"+cascade(srv), "DROP DATABASE IF EXISTS bank"+cascade(srv))
}

func cascade(srv *server.Server) string {
	if srv.Product == server.CockroachDB {
		return " CASCADE"
	}
	return ""
}

func median[T int64 | float64](list []T) T {
	s := slices.Clone(list)
	slices.Sort(s)
	return s[len(s)/2]
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

// run times the contender once: whole processes, start and end included.
func (c *contender) run(ctx context.Context, db string, counts bool) error {
	if err := run(ctx, db, c.reset...); err != nil {
		return err
	}
	cmd := c.command()
	start := time.Now()
	out, err := cmd.CombinedOutput()
	elapsed := time.Since(start)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if counts {
		usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		c.rate = append(c.rate, float64(*nRows)/elapsed.Seconds())
		c.cpu = append(c.cpu, (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())
		c.peak = append(c.peak, usage.Maxrss)
	}
	return nil
}

func points() source.Points {
	return source.Points{Seed: 7, Keys: source.KeyLayout{Base: source.MinKeyBase, Rows: *nRows}}
}

// writeCSV writes the points to a file, in small parts: a child's peak memory is
// counted from that of this process on.
func writeCSV(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	c := rows.NewChunk(points().Columns())
	var b []byte
	for first := int64(0); first < *nRows; first += 10_000 {
		if err := points().Fill(c, chunker.RowSpan(first, min(10_000, *nRows-first))); err != nil {
			return err
		}
		b = b[:0]
		for i := range c.Len() {
			b = strconv.AppendInt(b, c.Col(0).Ints[i], 10)
			for k := 1; k < 4; k++ {
				b = append(b, ',')
				b = strconv.AppendFloat(b, c.Col(k).Floats[i], 'g', -1, 64)
			}
			b = append(b, '\n')
		}
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
	return f.Close()
}

// bareLoop sends what the loader sends, with no registry, no look-up, no ledger, no
// retry and no check.
func bareLoop(ctx context.Context) error {
	size := *chunk
	if size == 0 {
		size = chunker.DefaultRowsPerChunk
		if *bare == "copy" {
			size = 20_000
		}
	}
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range *workers {
		group.Go(func() error {
			conn, err := pgx.Connect(ctx, *target)
			if err != nil {
				return err
			}
			defer conn.Close(ctx)
			commit.Prepare(conn)
			c := rows.NewChunk(points().Columns())
			var buf []byte
			for {
				first := next.Add(size) - size
				if first >= *nRows {
					return nil
				}
				if err := points().Fill(c, chunker.RowSpan(first, min(size, *nRows-first))); err != nil {
					return err
				}
				if *bare == "copy" {
					buf = encode(buf[:0], c)
					_, err = conn.PgConn().CopyFrom(ctx, bytes.NewReader(buf), "COPY points (id, x, y, z) FROM STDIN (FORMAT binary)")
				} else {
					_, err = conn.Exec(ctx, "INSERT INTO points (id, x, y, z) SELECT * FROM unnest($1::INT8[], $2::FLOAT8[], $3::FLOAT8[], $4::FLOAT8[])", c.Col(0), c.Col(1), c.Col(2), c.Col(3))
				}
				if err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// encode writes a chunk of points in COPY's binary format.
func encode(buf []byte, c *rows.Chunk) []byte {
	be := binary.BigEndian
	buf = append(buf, "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	ids, x, y, z := c.Col(0).Ints, c.Col(1).Floats, c.Col(2).Floats, c.Col(3).Floats
	for i := range ids {
		buf = be.AppendUint16(buf, 4)
		for _, v := range [4]uint64{uint64(ids[i]), math.Float64bits(x[i]), math.Float64bits(y[i]), math.Float64bits(z[i])} {
			buf = be.AppendUint32(buf, 8)
			buf = be.AppendUint64(buf, v)
		}
	}
	return be.AppendUint16(buf, 0xffff)
}
