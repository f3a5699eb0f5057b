// Package bench measures the rate of a load under a grid of settings, and recommends one of
// them. Each run is a normal load, by package load, into a scratch table like the named table.
// After the run, its registry record and its table are removed. The package writes nothing
// into the named table.
//
// The runs of the cells are interleaved, in a new random order in each round, so that other
// activity on the machine affects all cells alike. A report can be written as text, JSON, CSV,
// HTML, SVG or in the Go benchmark format.
//
// Begin with Bench.Run; advice.go recommends a setting.
package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"bulkload/loader"
	"bulkload/loader/failure"
	"bulkload/loader/load"
	"bulkload/loader/server"
)

// A Bench is one measurement. Fill in the fields, then call Run.
type Bench struct {
	Server *server.Server
	// Request returns the load that every run executes. It must return a new one for each
	// call: a load cannot reuse opened files. The scratch tables are made like its Table. Of
	// its Settings only the time limits are used.
	Request func() load.Request
	Grid    Grid
	Count   int // runs of each cell; zero means DefaultCount
	// Budget bounds the time of the measurement. Run starts no run that would probably end
	// after it, and does not count one that does. Zero means no bound.
	Budget time.Duration
	// Stop, when closed, ends the measurement after the running chunks. The report then covers
	// the runs made so far.
	Stop <-chan struct{}
	// Note, when not nil, receives messages for the user during the measurement.
	Note func(string)
	// Loading, when not nil, is called with the load of each run before it runs.
	Loading func(*load.Load)
	// Observe, when not nil, is called at the start of each run.
	Observe func(Progress)
}

// DefaultCount is the number of runs of each cell. It is the smallest count for which the
// range of the values bounds the median with a confidence of at least 95 % (1 - 2/2^6).
const DefaultCount = 6

// A Progress describes how far a measurement has come.
type Progress struct {
	Done, Total int           // runs, including warm-up runs
	Left        time.Duration // estimated time left; zero means unknown
	Setting     Setting       // of the run that starts
	Warm        bool          // it is a warm-up run
}

// ErrNothing: the measurement ended before any run did.
var ErrNothing = failure.New(failure.Usage, "nothing was measured")

// bench is the state of one Run.
type bench struct {
	*Bench
	begun   time.Time
	report  *Report
	scratch *scratch
	stop    chan struct{} // closed by Stop or at the end of the budget
	took    map[Setting]time.Duration
	done    int
	total   int
}

// Run measures. If an error ends the measurement early, it also returns a report of the runs
// made so far. The error wraps loader.ErrStopped after Stop, or the error of ctx, or
// ErrNothing, or is that of load.New or a run if no cell could be measured. A *GridError means
// that the grid cannot be measured, and precedes any run.
func (b *Bench) Run(ctx context.Context) (*Report, error) {
	if err := b.Grid.check(); err != nil {
		return nil, err
	}
	if err := b.Server.NotPooled("a bench through it does not measure the server"); err != nil {
		return nil, err
	}
	r := &bench{Bench: b, begun: time.Now(), stop: make(chan struct{}), took: map[Setting]time.Duration{}}
	// 1. The place for scratch tables.
	var err error
	if r.scratch, err = openScratch(ctx, b); err != nil {
		return nil, err
	}
	defer r.scratch.close(ctx)
	// 2. The settings of each cell, and whether the server supports them.
	if err := r.plan(ctx); err != nil {
		return nil, err
	}
	// 3. The runs.
	over := make(chan struct{})
	defer close(over)
	go r.watch(over)
	if err := r.warmUp(ctx); err != nil {
		return r.end(err)
	}
	return r.end(r.measure(ctx))
}

// Check returns a *GridError if the grid cannot be measured, or the contradiction of the request
// where no combination of the grid is without one. It asks no server.
func (b *Bench) Check() error {
	if err := b.Grid.check(); err != nil {
		return err
	}
	var first error
	for _, method := range b.Grid.Methods {
		for _, mode := range b.Grid.CommitModes {
			if method == Import {
				mode = "" // it has none
			}
			req := b.Request()
			req.Method, req.CommitMode = method, mode
			err := req.Check()
			if err == nil {
				return nil
			}
			if first == nil {
				first = err
			}
		}
	}
	return first
}

// watch stops the running load after Stop or at the end of the budget.
func (r *bench) watch(over <-chan struct{}) {
	var budget <-chan time.Time
	if r.Budget > 0 {
		t := time.NewTimer(time.Until(r.begun.Add(r.Budget)))
		defer t.Stop()
		budget = t.C
	}
	select {
	case <-r.Stop:
	case <-budget:
	case <-over:
		return
	}
	close(r.stop)
}

// stopped reports whether the user, not the budget, ended the measurement.
func (r *bench) stopped() bool {
	select {
	case <-r.Stop:
		return true
	default:
		return false
	}
}

// plan prepares the report and its cells.
func (r *bench) plan(ctx context.Context) error {
	count := r.Count
	if count == 0 {
		count = DefaultCount
	}
	req := r.Request()
	r.report = &Report{
		Server: r.Server.Info.String(), Host: r.Server.Config.Host(), Database: r.Server.Config.Database(), Table: r.scratch.target,
		Kind: req.Dataset.Facts().Kind, Rows: req.Dataset.Size().Rows, Count: count, Cores: runtime.NumCPU(), GOOS: runtime.GOOS, GOARCH: runtime.GOARCH,
		Begun: r.begun.Round(time.Second), Notes: []string{}, product: r.Server.Product, registry: r.scratch.registry,
	}
	cells, err := r.cells(ctx)
	if err != nil {
		return err
	}
	r.report.Cells = cells
	return nil
}

// warmUp runs each combination of method, commit mode and indexes once, with a medium chunk
// size and the most workers. It keeps the times only for estimates.
func (r *bench) warmUp(ctx context.Context) error {
	var ways []Setting
	of := map[Setting][]Setting{}
	for _, c := range r.report.Cells {
		if of[c.commitMode()] == nil {
			ways = append(ways, c.commitMode())
		}
		of[c.commitMode()] = append(of[c.commitMode()], c.Setting)
	}
	for i, w := range ways {
		cells := of[w]
		slices.SortFunc(cells, func(a, b Setting) int {
			return cmp.Or(cmp.Compare(b.Workers, a.Workers), cmp.Compare(a.Chunk, b.Chunk))
		})
		same := slices.IndexFunc(cells, func(s Setting) bool { return s.Workers < cells[0].Workers })
		if same < 0 {
			same = len(cells)
		}
		ways[i] = cells[same/2]
	}
	r.total = len(ways) + len(r.report.Cells)*r.report.Count
	for _, s := range ways {
		if _, err := r.run(ctx, s, true); err != nil {
			if ended(ctx, err) {
				return err
			}
			r.fail(s, err)
		}
		r.done++
	}
	if left := r.left(); r.Budget > 0 && left > r.Budget-time.Since(r.begun) {
		r.note(fmt.Sprintf("all settings take about %s; the budget of %s allows about %.1f runs of each", left.Round(time.Second), r.Budget,
			float64(r.report.Count)*float64(r.Budget-time.Since(r.begun))/float64(left)))
	}
	return nil
}

// measure runs the cells in rounds. An error is the reason why it ended early.
func (r *bench) measure(ctx context.Context) error {
	for range r.report.Count {
		order := rand.Perm(len(r.report.Cells))
		for _, i := range order {
			c := &r.report.Cells[i]
			if c.Error != "" {
				continue
			}
			if r.late(c.Setting) {
				return errBudget
			}
			m, err := r.run(ctx, c.Setting, false)
			r.done++
			switch {
			case err == nil:
				c.Runs = append(c.Runs, m)
			case ended(ctx, err):
				return err
			default:
				r.fail(c.Setting, err)
			}
		}
	}
	return nil
}

// errBudget means that the budget is spent.
var errBudget = errors.New("the budget is spent")

// ended reports whether the error of a run ends the whole measurement, not just one cell.
func ended(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, loader.ErrStopped)
}

// fail removes a cell from the grid.
func (r *bench) fail(s Setting, err error) {
	if r.report.failure == nil {
		r.report.failure = err
	}
	for i := range r.report.Cells {
		if c := &r.report.Cells[i]; c.Setting == s && c.Error == "" {
			c.Error = server.Reason(err)
			r.note(fmt.Sprintf("%s: %v; left out", s, err))
		}
	}
}

// end completes the report.
func (r *bench) end(err error) (*Report, error) {
	r.report.Seconds = time.Since(r.begun).Seconds()
	r.report.Notes = append(r.report.Notes, r.scratch.notes...)
	measured := 0
	for i := range r.report.Cells {
		c := &r.report.Cells[i]
		c.summarize()
		measured += len(c.Runs)
		if len(c.Runs) > 0 {
			r.report.Rows = c.Runs[0].Rows // for files it was an estimate
		}
	}
	spent := errors.Is(err, errBudget) || errors.Is(err, loader.ErrStopped) && !r.stopped()
	if spent {
		err = nil
		r.report.Ended = fmt.Sprintf("the budget of %s was spent", r.Budget)
	} else if err != nil {
		r.report.Ended = "stopped"
	}
	if measured > 0 {
		r.report.advise()
		return r.report, err
	}
	switch {
	case err != nil:
		return r.report, err
	case r.report.failure != nil:
		return r.report, r.report.failure
	}
	return r.report, fmt.Errorf("%w: one run takes longer than the budget of %s; use fewer rows (--n) or a longer --budget", ErrNothing, r.Budget)
}

// late reports whether a run would end after the budget.
func (r *bench) late(s Setting) bool {
	if r.Budget <= 0 {
		return false
	}
	return time.Since(r.begun)+r.about(s) > r.Budget
}

// about estimates the time of a run from runs of the same cell, or else of all cells.
func (r *bench) about(s Setting) time.Duration {
	if d, ok := r.took[s]; ok {
		return d
	}
	var sum time.Duration
	for _, d := range r.took {
		sum += d
	}
	return sum / time.Duration(max(len(r.took), 1))
}

// left estimates the time of all remaining runs.
func (r *bench) left() time.Duration {
	var round time.Duration
	for _, c := range r.report.Cells {
		if c.Error == "" {
			round += r.about(c.Setting)
		}
	}
	return round * time.Duration(r.total-r.done) / time.Duration(max(len(r.report.Cells), 1))
}

func (r *bench) note(text string) {
	if r.Note != nil {
		r.Note(text)
	}
}

// tell calls Observe at the start of a run.
func (r *bench) tell(s Setting, warm bool) {
	if r.Observe == nil {
		return
	}
	left := r.left()
	if r.Budget > 0 {
		left = min(left, r.Budget-time.Since(r.begun))
	}
	r.Observe(Progress{Done: r.done, Total: r.total, Left: max(left, 0), Setting: s, Warm: warm})
}
