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

// A Report is what was measured, and what to make of it.
type Report struct {
	Server   string    `json:"server"`
	Host     string    `json:"host"`
	Database string    `json:"database"`
	Table    string    `json:"table"` // the named one; nothing was written into it
	Kind     string    `json:"what"`
	Rows     int64     `json:"rows"` // of each run; of files about
	Count    int       `json:"count"`
	Cores    int       `json:"client_cores"`
	GOOS     string    `json:"client_os"`
	GOARCH   string    `json:"client_arch"`
	Begun    time.Time `json:"begun"`
	Seconds  float64   `json:"seconds"`
	// Ended says why it ended before every cell had Count runs; empty where all have.
	Ended  string   `json:"ended,omitempty"`
	Cells  []Cell   `json:"cells"`
	Advice Advice   `json:"advice"`
	Notes  []string `json:"notes"`

	product  server.Product
	auto     Setting // what a load takes by itself
	failure  error   // the first of a cell
	registry *registry.Registry
}

// A Cell is one setting and what its runs took.
type Cell struct {
	Setting
	// Current says that a load of the table has this setting now.
	Current bool `json:"current"`
	// Limits are the server's, with what one chunk uses of each; nil where there are
	// no chunks.
	Limits []load.LimitPreview `json:"limits"`
	Error  string              `json:"error,omitempty"` // why it was not measured, or not any more
	Runs   []Measure           `json:"runs"`

	// Over the runs. P50 and P99 are those of the runs' own, in seconds.
	Rate      Interval `json:"rows_per_second"`
	P50       Interval `json:"chunk_p50_seconds"`
	P99       Interval `json:"chunk_p99_seconds"`
	CPU       Interval `json:"client_cpu_seconds_per_row"`
	Retries   int64    `json:"retries"`   // sum
	Condensed int64    `json:"condensed"` // sum; -1 is unknown

	rows      int64
	limitedBy string // the limit that clamps chunks
}

// An Interval is a median and bounds that hold it with the given confidence, by the
// order of the values alone. Fewer than six values cannot give 95 %: the confidence is
// then what their range has, 1 - 2/2^n. One value has bounds equal to it, and none.
type Interval struct {
	Center     float64 `json:"median"`
	Lo         float64 `json:"low"`
	Hi         float64 `json:"high"`
	Confidence float64 `json:"confidence"`
}

// maxConfidence is the confidence of intervals where there are enough values.
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

// summarize fills in what is over the runs.
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

// limit returns the limit of that name and what a chunk uses of it; nil where the server
// has none.
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

// A Mark is a limit as it is drawn: the most rows of a chunk that it allows.
type Mark struct {
	Name string
	Rows int64
}

// marks returns the limits that lie within, or not far above, the measured sizes.
func (r *Report) marks() []Mark {
	var largest int64
	for _, c := range r.measured() {
		largest = max(largest, c.Chunk)
	}
	var list []Mark
	for _, c := range r.measured() {
		for _, l := range c.Limits {
			m := Mark{l.Name, l.MaxRows}
			if m.Rows == 0 || m.Rows > marksUpTo*largest || slices.Contains(list, m) || l.Name == server.OnePhase && c.CommitMode != commit.Statement {
				continue
			}
			list = append(list, m)
		}
	}
	slices.SortStableFunc(list, func(a, b Mark) int { return int(a.Rows - b.Rows) })
	return list
}

// marksUpTo times the largest measured chunk is as far as limits are shown.
const marksUpTo = 4

// lines returns the cells with chunks in lines, each sorted by the size of its chunks.
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

// origin is that of tunings which this package saves.
const origin = registry.ByBench

// Save keeps the advice in the registry, where loads of the table with --chunk auto
// begin from it.
func (r *Report) Save(ctx context.Context, reg *registry.Registry) error {
	s := r.Advice.Use
	if s == (Setting{}) {
		return fmt.Errorf("%w: there is nothing to save", ErrNothing)
	}
	if !s.plain() {
		return &GridError{"IMPORT and deferred indexes are not kept for loads that do not ask for them: there is nothing to save"}
	}
	return reg.SaveTuning(ctx, registry.Tuning{
		Target: r.Table, Kind: r.Kind, Chunk: s.Chunk, Workers: s.Workers, Method: string(s.Method), CommitMode: string(s.CommitMode), Origin: origin,
	})
}
