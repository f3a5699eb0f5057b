package bench

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"golang.org/x/perf/benchfmt"

	"bulkload/loader/server"
)

// WriteBenchmark writes every run in the Go benchmark format. benchstat compares two such
// files:
//
//	benchstat old.txt new.txt
func (r *Report) WriteBenchmark(w io.Writer) error {
	out := benchfmt.NewWriter(w)
	for _, unit := range []struct{ name, better string }{
		{"rows/s", "higher"}, {"ns/op", "lower"}, {"chunk-p50-ns", "lower"}, {"chunk-p99-ns", "lower"}, {"cpu-ns/row", "lower"},
	} {
		u := &benchfmt.UnitMetadata{UnitMetadataKey: benchfmt.UnitMetadataKey{Unit: unit.name, Key: "better"}, OrigUnit: unit.name, Value: unit.better}
		if err := out.Write(u); err != nil {
			return err
		}
	}
	var config []benchfmt.Config
	for _, c := range [][2]string{
		{"goos", r.GOOS}, {"goarch", r.GOARCH}, {"cores", strconv.Itoa(r.Cores)},
		{"server", r.Server}, {"database", r.Database}, {"table", r.Table}, {"what", r.Kind}, {"rows", strconv.FormatInt(r.Rows, 10)},
	} {
		config = append(config, benchfmt.Config{Key: c[0], Value: []byte(c[1]), File: true})
	}
	for _, c := range r.measured() {
		for _, m := range c.Runs {
			res := &benchfmt.Result{Config: config, Name: benchfmt.Name(c.benchmark(r)), Iters: 1, Values: []benchfmt.Value{
				{Value: float64(m.Elapsed.Nanoseconds()), Unit: "ns/op"},
				{Value: m.Rate(), Unit: "rows/s"},
				{Value: float64(m.CPU.Nanoseconds()) / float64(max(m.Rows, 1)), Unit: "cpu-ns/row"},
				{Value: float64(m.Retries), Unit: "retries"},
			}}
			if m.Chunks > 0 && c.Chunk > 0 {
				res.Values = append(res.Values,
					benchfmt.Value{Value: float64(m.P50.Nanoseconds()), Unit: "chunk-p50-ns"},
					benchfmt.Value{Value: float64(m.P99.Nanoseconds()), Unit: "chunk-p99-ns"})
			}
			if err := out.Write(res); err != nil {
				return err
			}
		}
	}
	return nil
}

// benchmark returns the benchmark name of a cell.
func (c *Cell) benchmark(r *Report) string {
	name := fmt.Sprintf("Load/what=%s/via=%s", r.Kind, c.Method)
	if c.CommitMode != "" {
		name += "/commit=" + string(c.CommitMode)
	}
	name += "/indexes=" + string(c.Indexes)
	if c.Chunk > 0 {
		name += fmt.Sprintf("/workers=%d/chunk=%d", c.Workers, c.Chunk)
	}
	return name + "-" + strconv.Itoa(r.Cores)
}

// WriteJSON writes the whole report as JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// WriteCSV writes a header and one line per run.
func (r *Report) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	out.Write([]string{"what", "via", "commit", "indexes", "workers", "chunk", "current", "run", "rows", "seconds", "rows_per_second", "chunks",
		"chunk_p50_ms", "chunk_p99_ms", "retries", "looked_up", "client_cpu_seconds", "intent_bytes", "intent_bytes_limit", "condensed", "one_phase_commits"})
	text := func(x float64) string { return strconv.FormatFloat(x, 'g', 6, 64) }
	whole := func(n int64) string {
		if n < 0 {
			return "" // unknown
		}
		return strconv.FormatInt(n, 10)
	}
	for _, c := range r.measured() {
		uses, limit := int64(-1), int64(-1)
		if l := c.limit(server.IntentSetting); l != nil {
			uses, limit = l.Uses, l.Max
		}
		for i, m := range c.Runs {
			out.Write([]string{r.Kind, string(c.Method), string(c.CommitMode), string(c.Indexes), strconv.Itoa(c.Workers), whole(c.Chunk), strconv.FormatBool(c.Current),
				strconv.Itoa(i + 1), whole(m.Rows), text(m.Elapsed.Seconds()), text(m.Rate()), whole(m.Chunks), text(m.P50.Seconds() * 1000), text(m.P99.Seconds() * 1000),
				whole(m.Retries), whole(m.LookUps), text(m.CPU.Seconds()), whole(uses), whole(limit), whole(m.Condensed), whole(m.OnePhase)})
		}
	}
	out.Flush()
	return out.Error()
}
