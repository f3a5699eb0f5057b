// Package bench measures how fast a server takes the rows of a load under a grid of
// settings, and says which of them to use. Each run is a load as any other, by package
// load, into a scratch table like the one that is named; its record is forgotten and its
// table dropped at its end. The package writes nothing into the named table.
//
// The runs of the cells are interleaved, in another order in each round, so that what
// else the machine does falls on all cells alike. What was measured can be written as
// text, JSON, CSV, in the Go benchmark format, and drawn.
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
	// Request returns the load whose rows every run loads, anew for each run: files
	// are opened by one load only. Its Table names the table that the scratch table
	// is made like; of its Settings, the time limits are used.
	Request func() load.Request
	Grid    Grid
	Count   int // runs of each cell; zero is DefaultCount
	// Budget ends the measurement: no run begins that would probably end behind it,
	// and one that does is not counted. Zero is no bound.
	Budget time.Duration
	// Stop, when it is closed, ends the measurement after the running chunks. What
	// was measured is reported.
	Stop <-chan struct{}
	// Note, when not nil, is told what a user should know meanwhile.
	Note func(string)
	// Loading, when not nil, is called with the load of each run before it runs.
	Loading func(*load.Load)
	// Observe, when not nil, is told of the beginning of each run.
	Observe func(Progress)
}

// DefaultCount is the number of runs of each cell: the fewest whose least and largest
// value bound the median with a confidence of 95 % and more (1 - 2/2^6).
const DefaultCount = 6

// A Progress says how far a measurement is.
type Progress struct {
	Done, Total int           // runs, those that warm up included
	Left        time.Duration // about; zero is unknown
	Setting     Setting       // of the run that begins
	Warm        bool          // it warms up
}

// ErrNothing: the measurement ended before one run did.
var ErrNothing = failure.New(failure.Usage, "nothing was measured")

// bench is the state of one Run.
type bench struct {
	*Bench
	begun   time.Time
	report  *Report
	scratch *scratch
	stop    chan struct{} // closed by Stop, and at the end of the budget
	took    map[Setting]time.Duration
	done    int
	total   int
}

// Run measures. It returns a report of what was measured also beside an error that
// stopped it: loader.ErrStopped after Stop, that of ctx at its end, ErrNothing, and
// whatever load.New or Run say where no cell could be measured. A *GridError says that
// the grid cannot be measured, before anything was.
func (b *Bench) Run(ctx context.Context) (*Report, error) {
	if err := b.Grid.check(); err != nil {
		return nil, err
	}
	r := &bench{Bench: b, begun: time.Now(), stop: make(chan struct{}), took: map[Setting]time.Duration{}}
	// 1. A place for the rows.
	var err error
	if r.scratch, err = openScratch(ctx, b); err != nil {
		return nil, err
	}
	defer r.scratch.close(ctx)
	// 2. What each cell is, and whether the server takes it.
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

// watch ends the running load with Stop or with the budget.
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

// plan makes the report's cells.
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

// warmUp runs each way once, with chunks of a middle size at the most workers, and forgets
// what it took but for the estimates.
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
		r.note(fmt.Sprintf("the grid takes about %s; the budget of %s allows each cell about %.1f runs", left.Round(time.Second), r.Budget,
			float64(r.report.Count)*float64(r.Budget-time.Since(r.begun))/float64(left)))
	}
	return nil
}

// measure runs the cells in rounds. Its error is why it ended before the last.
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

// errBudget: the time is over.
var errBudget = errors.New("the budget is spent")

// ended reports whether a run's error ends the measurement, and not one cell.
func ended(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, loader.ErrStopped)
}

// fail takes a cell out of the grid.
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

// end finishes the report.
func (r *bench) end(err error) (*Report, error) {
	r.report.Seconds = time.Since(r.begun).Seconds()
	r.report.Notes = append(r.report.Notes, r.scratch.notes...)
	measured := 0
	for i := range r.report.Cells {
		c := &r.report.Cells[i]
		c.summarize()
		measured += len(c.Runs)
		if len(c.Runs) > 0 {
			r.report.Rows = c.Runs[0].Rows // of files it was an estimate
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
	return r.report, fmt.Errorf("%w: one run takes longer than the budget of %s; fewer rows or a longer budget let one end", ErrNothing, r.Budget)
}

// late reports whether a run would end behind the budget.
func (r *bench) late(s Setting) bool {
	if r.Budget <= 0 {
		return false
	}
	return time.Since(r.begun)+r.about(s) > r.Budget
}

// about estimates the time of a run, from those of the same cell, else of all.
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

// left estimates the time of all runs that are left.
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

// tell tells Observe of a run that begins.
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
