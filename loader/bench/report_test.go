package bench_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/perf/benchfmt"

	"bulkload/loader/bench"
	"bulkload/loader/commit"
	"bulkload/loader/load"
	"bulkload/loader/server"
)

// limits are those of CockroachDB 21.1 for points, with what a chunk of n rows uses.
func limits(n int64, way commit.Mode) []load.LimitPreview {
	list := []load.LimitPreview{{Name: server.IntentSetting, Max: 262_143, Uses: 11 * n, Share: float64(11*n) / 262_143, MaxRows: 23_831}}
	if way == commit.Statement {
		list = append(list, load.LimitPreview{Name: server.OnePhase, Max: 9999, Uses: n, Share: float64(n) / 9999, MaxRows: 9999, Soft: true})
	}
	return list
}

// cell returns a cell with runs at about the given rate.
func cell(s bench.Setting, runs int, rate float64) bench.Cell {
	r := rand.New(rand.NewPCG(uint64(s.Chunk), uint64(s.Workers)))
	c := bench.Cell{Setting: s}
	if s.Chunk > 0 {
		c.Limits = limits(s.Chunk, s.CommitMode)
	}
	for range runs {
		const rows = 200_000
		got := rate * (1 + (r.Float64()-.5)/10)
		p50 := time.Duration(float64(s.Chunk) / got * float64(s.Workers) * 1e9)
		c.Runs = append(c.Runs, bench.Measure{
			Rows: rows, Elapsed: time.Duration(rows / got * 1e9), Chunks: rows / max(s.Chunk, 1), P50: p50, P99: 2*p50 + time.Millisecond,
			CPU: 200 * time.Millisecond, Condensed: 0, OnePhase: 7,
		})
	}
	return c
}

// sample is a report as one of CockroachDB: two ways, three numbers of workers, IMPORT.
func sample(runs int) *bench.Report {
	r := &bench.Report{
		Server: "CockroachDB 21.1.5", Table: "public.points", Kind: "points", Rows: 200_000, Count: runs, Cores: 2, GOOS: "linux", GOARCH: "amd64",
		Begun: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Seconds: 61,
	}
	for _, workers := range []int{1, 2, 4} {
		for _, chunk := range []int64{100, 500, 1000, 2000, 5000, 9999, 10_000, 20_000} {
			rate := 230_000 * float64(chunk) / (float64(chunk) + 300) * (1 - 1/(float64(workers)+.6))
			if chunk > 9999 {
				rate *= .43
			}
			r.Cells = append(r.Cells, cell(bench.Setting{Chunk: chunk, Workers: workers, Method: commit.Insert, CommitMode: commit.Statement, Indexes: load.KeepIndexes}, runs, rate))
			if chunk != 9999 {
				r.Cells = append(r.Cells, cell(bench.Setting{Chunk: chunk, Workers: workers, Method: commit.Copy, CommitMode: commit.Transaction, Indexes: load.KeepIndexes}, runs, rate/2.1))
			}
		}
	}
	r.Cells = append(r.Cells, cell(bench.Setting{Method: bench.Import, Indexes: load.KeepIndexes}, runs, 480_000))
	for i := range r.Cells {
		r.Cells[i].Current = r.Cells[i].Setting == bench.Setting{Chunk: 500, Workers: 2, Method: commit.Insert, CommitMode: commit.Statement, Indexes: load.KeepIndexes}
	}
	return bench.Finish(r, server.CockroachDB, bench.Setting{Chunk: 2000, Workers: 2, Method: commit.Insert, CommitMode: commit.Statement})
}

// TestRecommendation holds, over many made-up grids, that the recommended setting is
// within 5 % of the best one, and no further in flight than it.
func TestRecommendation(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		rep := &bench.Report{Kind: "points"}
		for _, chunk := range []int64{100, 1000, 5000} {
			for _, workers := range []int{1, 2} {
				s := bench.Setting{Chunk: chunk, Workers: workers, Method: commit.Insert, CommitMode: commit.Statement, Indexes: load.KeepIndexes}
				rep.Cells = append(rep.Cells, cell(s, 1+r.IntN(8), 1e5*(.8+.4*r.Float64())))
			}
		}
		rep.Cells[r.IntN(len(rep.Cells))].Current = r.IntN(2) == 0
		bench.Finish(rep, server.CockroachDB, bench.Setting{})
		rate := map[bench.Setting]float64{}
		best := 0.0
		for _, c := range rep.Cells {
			rate[c.Setting] = c.Rate.Center
			best = max(best, c.Rate.Center)
		}
		a := rep.Advice
		if got := rate[a.Use]; got < .95*best {
			t.Fatalf("recommended %v at %.0f rows/s; the best has %.0f", a.Use, got, best)
		}
		if rate[a.Best] != best {
			t.Fatalf("the best is said to be %v at %.0f rows/s, and is at %.0f", a.Best, rate[a.Best], best)
		}
		if !a.Keep && a.Use.Chunk*int64(a.Use.Workers) > a.Best.Chunk*int64(a.Best.Workers) {
			t.Fatalf("recommended %v has more rows in flight than the best, %v", a.Use, a.Best)
		}
	}
}

// TestAdviceNamesIt reads the answer for people.
func TestAdviceNamesIt(t *testing.T) {
	text := strings.Join(sample(6).Advice.Lines, "\n")
	for _, want := range []string{
		"use --chunk ", " × your current setting (--chunk 500 --workers 2 --via insert)",
		"above 9999 rows the server needs two phases to commit a chunk: 10000 rows have 0.4",
		"IMPORT, which takes the table offline meanwhile: ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the answer does not say %q:\n%s", want, text)
		}
	}
}

// TestFewRunsProveNothing: three runs cannot show a difference, six can.
func TestFewRunsProveNothing(t *testing.T) {
	for runs, proven := range map[int]bool{3: false, 6: true} {
		text := sample(runs).Advice.Lines[0]
		if strings.Contains(text, "not prove it") == proven {
			t.Errorf("%d runs: %s", runs, text)
		}
	}
}

// TestIntervals compares with what the order of values gives: the range of n values holds
// the median with a probability of 1 - 2/2^n.
func TestIntervals(t *testing.T) {
	for n := 1; n <= 12; n++ {
		rep := &bench.Report{Cells: []bench.Cell{cell(bench.Setting{Chunk: 1000, Workers: 2, Method: commit.Insert}, n, 1e5)}}
		bench.Finish(rep, server.PostgreSQL, bench.Setting{})
		i := rep.Cells[0].Rate
		if math.IsInf(i.Lo, 0) || math.IsInf(i.Hi, 0) || i.Lo > i.Center || i.Hi < i.Center {
			t.Errorf("%d values: %+v", n, i)
		}
		want := 1 - 2/math.Pow(2, float64(n))
		if n <= 6 && math.Abs(i.Confidence-want) > 1e-6 || n > 6 && i.Confidence < .95 {
			t.Errorf("%d values have a confidence of %g, want %g", n, i.Confidence, want)
		}
	}
}

// TestFormats reads each format back by what is made for it.
func TestFormats(t *testing.T) {
	r := sample(6)
	var b bytes.Buffer
	if err := r.WriteBenchmark(&b); err != nil {
		t.Fatal(err)
	}
	in := benchfmt.NewReader(&b, "out.txt")
	results, better := 0, 0
	for in.Scan() {
		switch rec := in.Result().(type) {
		case *benchfmt.Result:
			results++
			if rate, ok := rec.Value("rows/s"); !ok || rate < 1000 {
				t.Errorf("%s has %g rows/s", rec.Name, rate)
			}
			// The reader turns nanoseconds into seconds.
			if _, ok := rec.Value("sec/op"); !ok {
				t.Errorf("%s has no time", rec.Name)
			}
			if got := rec.GetConfig("server"); got != "CockroachDB 21.1.5" {
				t.Errorf("server is %q", got)
			}
		case *benchfmt.UnitMetadata:
			better++
		case *benchfmt.SyntaxError:
			t.Error(rec)
		}
	}
	if err := in.Err(); err != nil {
		t.Error(err)
	}
	if want := 6 * len(r.Cells); results != want || better == 0 {
		t.Errorf("%d results and %d lines of units, want %d results", results, better, want)
	}

	b.Reset()
	if err := r.WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(lines) != 1+6*len(r.Cells) {
		t.Errorf("%d lines of CSV, %v", len(lines), err)
	}

	b.Reset()
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back bench.Report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || len(back.Cells) != len(r.Cells) || back.Advice.Use != r.Advice.Use {
		t.Errorf("JSON does not read back: %v", err)
	}

	b.Reset()
	if err := r.WriteText(&b, 80); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"96 % confidence", "┄┄ the one-phase commit limit: 9 999 rows", "CONDENSED", "* is the setting that a load of this table uses now"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the text has no %q:\n%s", want, b.String())
		}
	}
}
