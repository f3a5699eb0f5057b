package bench

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/perf/benchmath"

	"bulkload/loader/commit"
	"bulkload/loader/load"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// A Report holds the results of a measurement and the advice.
type Report struct {
	Server   string    `json:"server"`
	Host     string    `json:"host"`
	Database string    `json:"database"`
	Table    string    `json:"table"` // the named table; nothing was written into it
	Kind     string    `json:"what"`
	Rows     int64     `json:"rows"` // per run; an estimate for files
	Count    int       `json:"count"`
	Cores    int       `json:"client_cores"`
	GOOS     string    `json:"client_os"`
	GOARCH   string    `json:"client_arch"`
	Begun    time.Time `json:"begun"`
	Seconds  float64   `json:"seconds"`
	// Ended is the reason why it ended before every cell had Count runs; empty if all have.
	Ended  string   `json:"ended,omitempty"`
	Cells  []Cell   `json:"cells"`
	Advice Advice   `json:"advice"`
	Notes  []string `json:"notes"`

	product  server.Product
	auto     Setting // the default setting of a load
	failure  error   // the first failure of a cell
	registry *registry.Registry
}

// A Cell is one setting with the results of its runs.
type Cell struct {
	Setting
	// Current means that loads of the table use this setting now.
	Current bool `json:"current"`
	// Limits are the server's limits, with the use that one chunk makes of each; nil if there
	// are no chunks.
	Limits []load.LimitPreview `json:"limits"`
	Error  string              `json:"error,omitempty"` // why it was not measured, or not in all rounds
	Runs   []Measure           `json:"runs"`

	// Summaries of the runs. P50 and P99 summarize the runs' quantiles, in seconds.
	Rate      Interval `json:"rows_per_second"`
	P50       Interval `json:"chunk_p50_seconds"`
	P99       Interval `json:"chunk_p99_seconds"`
	CPU       Interval `json:"client_cpu_seconds_per_row"`
	Retries   int64    `json:"retries"`   // sum
	Condensed int64    `json:"condensed"` // sum; -1 means unknown

	rows      int64
	limitedBy string // the limit that bounds the chunk size
}

// An Interval is a median with bounds that contain it with the given confidence, based only on
// the order of the values. Fewer than six values cannot give 95 %: the confidence is then that
// of their range, 1 - 2/2^n. For a single value the bounds equal it, and the confidence is 0.
type Interval struct {
	Center     float64 `json:"median"`
	Lo         float64 `json:"low"`
	Hi         float64 `json:"high"`
	Confidence float64 `json:"confidence"`
}

// maxConfidence is the confidence of an Interval if there are enough values.
const maxConfidence = 0.95

func intervalOf(values []float64) Interval {
	if len(values) == 0 {
		return Interval{}
	}
	level := min(maxConfidence, 1-math.Pow(2, 1-float64(len(values)))-1e-9)
	if len(values) == 1 {
		return Interval{Center: values[0], Lo: values[0], Hi: values[0]}
	}
	s := benchmath.AssumeNothing.Summary(sample(values), level)
	return Interval{Center: s.Center, Lo: s.Lo, Hi: s.Hi, Confidence: math.Round(s.Confidence*1e6) / 1e6}
}

func sample(values []float64) *benchmath.Sample {
	t := benchmath.DefaultThresholds
	return benchmath.NewSample(slices.Clone(values), &t)
}

// rates returns the rows per second of the runs.
func (c *Cell) rates() []float64 { return c.values(Measure.Rate) }

func (c *Cell) values(of func(Measure) float64) []float64 {
	var list []float64
	for _, m := range c.Runs {
		list = append(list, of(m))
	}
	return list
}

// summarize computes the summaries of the runs.
func (c *Cell) summarize() {
	c.Rate = intervalOf(c.rates())
	c.P50 = intervalOf(c.values(func(m Measure) float64 { return m.P50.Seconds() }))
	c.P99 = intervalOf(c.values(func(m Measure) float64 { return m.P99.Seconds() }))
	c.CPU = intervalOf(c.values(func(m Measure) float64 { return m.CPU.Seconds() / float64(max(m.Rows, 1)) }))
	c.Retries, c.Condensed = 0, 0
	for _, m := range c.Runs {
		c.Retries += m.Retries
		if m.Condensed < 0 || c.Condensed < 0 {
			c.Condensed = -1
		} else {
			c.Condensed += m.Condensed
		}
	}
	if len(c.Runs) == 0 {
		c.Condensed = -1
	}
}

// limit returns the limit of that name and a chunk's use of it, or nil if the server has no
// such limit.
func (c *Cell) limit(name string) *load.LimitPreview {
	for i := range c.Limits {
		if c.Limits[i].Name == name && c.Limits[i].Max > 0 {
			return &c.Limits[i]
		}
	}
	return nil
}

// measured returns the cells that have runs.
func (r *Report) measured() []*Cell {
	var list []*Cell
	for i := range r.Cells {
		if len(r.Cells[i].Runs) > 0 {
			list = append(list, &r.Cells[i])
		}
	}
	return list
}

// A LimitMark is a limit in a chart: the maximum number of rows per chunk that it allows.
type LimitMark struct {
	Name string
	Rows int64
}

// marks returns the limits within the measured sizes or not far above them.
func (r *Report) marks() []LimitMark {
	var largest int64
	for _, c := range r.measured() {
		largest = max(largest, c.Chunk)
	}
	var list []LimitMark
	for _, c := range r.measured() {
		for _, l := range c.Limits {
			m := LimitMark{l.Name, l.MaxRows}
			if m.Rows == 0 || m.Rows > marksUpTo*largest || slices.Contains(list, m) || l.Name == server.OnePhase && c.CommitMode != commit.Statement {
				continue
			}
			list = append(list, m)
		}
	}
	slices.SortStableFunc(list, func(a, b LimitMark) int { return int(a.Rows - b.Rows) })
	return list
}

// marksUpTo bounds the shown limits, as a multiple of the largest measured chunk.
const marksUpTo = 4

// lines groups the cells with chunks into lines, each sorted by chunk size.
func (r *Report) lines() [][]*Cell {
	var list [][]*Cell
	for _, c := range r.measured() {
		if c.Chunk == 0 {
			continue
		}
		i := slices.IndexFunc(list, func(l []*Cell) bool { return l[0].line() == c.line() })
		if i < 0 {
			list = append(list, nil)
			i = len(list) - 1
		}
		list[i] = append(list[i], c)
	}
	for _, l := range list {
		slices.SortFunc(l, func(a, b *Cell) int { return int(a.Chunk - b.Chunk) })
	}
	return list
}

// origin marks the tunings saved by this package.
const origin = registry.ByBench

// Save stores the advice in the registry. Later loads of the table with --chunk auto begin
// with it.
func (r *Report) Save(ctx context.Context, reg *registry.Registry) error {
	s := r.Advice.Use
	if s == (Setting{}) {
		return fmt.Errorf("%w: there is nothing to save", ErrNothing)
	}
	if !s.plain() {
		return &GridError{"--save does not store settings with IMPORT or deferred indexes"}
	}
	return reg.SaveTuning(ctx, registry.Tuning{
		Target: r.Table, Kind: r.Kind, Chunk: s.Chunk, Workers: s.Workers, Method: string(s.Method), CommitMode: string(s.CommitMode), Origin: origin,
	})
}
