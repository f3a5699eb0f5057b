// Command handoff times loads by IMPORT beside a bare IMPORT INTO of the same rows. The bare
// IMPORT reads existing files from a static file server. The runs are interleaved on a running
// CockroachDB. It prints the medians, and builds the loader itself:
//
//	go run ./testdata/bench/handoff --url 'postgres://root@localhost:26257/?sslmode=disable' --rows 1000000
//
// It drops and creates the database loader_bench on the server.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/testdata/bench/measure"
)

var (
	nRows  = flag.Int64("rows", 1_000_000, "points of each run")
	count  = flag.Int("count", 5, "runs of each way")
	upload = flag.Bool("upload", true, "time the upload too")
)

func main() { measure.Main("handoff", compare) }

// A way is one timed method.
type way struct {
	name string
	run  func() (sample, error)

	samples []sample
}

// A sample is one run: rows per second until confirmation and for the whole process, and the
// process's CPU time and memory.
type sample struct {
	rate, whole, cpu float64
	peak             int64 // KiB
}

func compare(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "handoff")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	loader, err := measure.BuildLoader(dir)
	if err != nil {
		return err
	}
	_, db, err := measure.Open(ctx, "loader_bench")
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, db)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	n := strconv.FormatInt(*nRows, 10)
	files := filepath.Join(dir, "files")
	if err := os.Mkdir(files, 0o700); err != nil {
		return err
	}
	if out, err := exec.Command(loader, "points", "--n", n, "--seed", "5", "--out", filepath.Join(files, "points.csv")).CombinedOutput(); err != nil {
		return fmt.Errorf("write the file: %w: %s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	go http.Serve(l, http.FileServer(http.Dir(files)))
	empty := func() error {
		for _, q := range []string{"DROP TABLE IF EXISTS points", "CREATE TABLE points (id INT PRIMARY KEY DEFAULT unique_rowid(), x FLOAT NOT NULL, y FLOAT NOT NULL, z FLOAT NOT NULL)"} {
			if _, err := conn.Exec(ctx, q); err != nil {
				return err
			}
		}
		return nil
	}
	rate := func(d time.Duration) float64 { return float64(*nRows) / d.Seconds() }
	by := func(args ...string) func() (sample, error) {
		return func() (sample, error) {
			out, use, err := measure.Process(exec.Command(loader, append([]string{"points", "--n", n, "--via", "import", "--format", "json", "--quiet", "--url", db}, args...)...))
			if err != nil {
				return sample{}, err
			}
			var res struct {
				Rate float64 `json:"rows_per_second"`
			}
			if err := json.Unmarshal(out, &res); err != nil {
				return sample{}, err
			}
			return sample{res.Rate, rate(use.Elapsed), use.CPU.Seconds(), use.PeakKiB}, nil
		}
	}
	ways := []*way{
		{name: "bare IMPORT INTO of a ready file", run: func() (sample, error) {
			start := time.Now()
			_, err := conn.Exec(ctx, fmt.Sprintf("IMPORT INTO points (id, x, y, z) CSV DATA ('http://%s/points.csv')", l.Addr()), pgx.QueryExecModeSimpleProtocol)
			r := rate(time.Since(start))
			return sample{rate: r, whole: r}, err
		}},
		{name: "loader --via import (serve)", run: by()},
	}
	if *upload {
		ways = append(ways, &way{name: "loader --via import --handoff upload", run: by("--handoff", "upload")})
	}
	for i := range *count {
		// Each way comes first in one of the turns: one way's compaction slows the next.
		for k := range ways {
			w := ways[(i+k)%len(ways)]
			if err := empty(); err != nil {
				return err
			}
			s, err := w.run()
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			fmt.Fprintf(os.Stderr, "run %d of %d: %s: %.0f rows/s\n", i+1, *count, w.name, s.rate)
			w.samples = append(w.samples, s)
		}
	}
	median := func(w *way, f func(sample) float64) float64 {
		list := make([]float64, len(w.samples))
		for i, s := range w.samples {
			list[i] = f(s)
		}
		return measure.Median(list)
	}
	fmt.Printf("| %d points | rows/s | to the bare | whole process, to the bare | CPU s | peak MiB |\n|---|---|---|---|---|---|\n", *nRows)
	bare := median(ways[0], func(s sample) float64 { return s.rate })
	for _, w := range ways {
		r := median(w, func(s sample) float64 { return s.rate })
		fmt.Printf("| %s | %.0f | %.2f | %.2f | %.2f | %.0f |\n", w.name, r, r/bare, median(w, func(s sample) float64 { return s.whole })/bare,
			median(w, func(s sample) float64 { return s.cpu }), median(w, func(s sample) float64 { return float64(s.peak) / 1024 }))
	}
	return nil
}
