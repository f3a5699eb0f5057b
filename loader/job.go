package loader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bulkload/chunker"
)

// A Job is one load. Fill in the fields, then call Run; Check tells beforehand what
// is wrong with them. A Job is used once.
type Job struct {
	Source    Source
	Committer Committer
	// Positions is the size of the load: rows, or bytes of a file.
	Positions int64
	// Plan says how many rows a chunk holds; MakePlan in package chunker makes
	// it. A zero RowsPerChunk takes chunker.DefaultRowsPerChunk.
	Plan chunker.Plan
	// AutoTune lets the run change the size of chunks: smaller at once when they are
	// slow or retried often, up to the plan's again slowly. Without it only a chunk
	// that the server finds too large, or that exceeds its deadline, makes the
	// others smaller.
	AutoTune bool
	// MaxRows is the most rows that AutoTune may let a chunk grow to, where the plan
	// begins with fewer because an earlier load settled on that; zero is the plan's.
	MaxRows int64
	// FlowControlled says that the server delays writes when it has too many, as
	// CockroachDB does from 25.1 on. A chunk that took long is then no reason for smaller
	// ones: its rows would wait as long.
	FlowControlled bool
	// Workers is the number of chunks in flight; zero is DefaultWorkers. More than
	// the server has processors gains nothing that could be measured.
	Workers int
	// MaxWorkers, when it is larger than Workers, lets a run that lasts for more
	// than some seconds try more of them, and keep those that make it faster.
	MaxWorkers int
	// InOrder lets the workers take neighbouring spans. Without it each works on
	// a range of its own, which spares CockroachDB a hot range; PostgreSQL's B-tree
	// is filled faster at one end.
	InOrder bool
	// RowsPerSecond bounds the rate over all workers of this run; zero is no bound.
	RowsPerSecond float64
	// StallTimeout is how long nothing may be under way, neither a chunk, a read of
	// the source, a call of the queue nor a wait for RowsPerSecond or for other runs,
	// until the run ends with ErrStalled; zero is DefaultStallTimeout.
	StallTimeout time.Duration
	// Queue hands out the work; nil keeps it in this process, without resume.
	Queue Queue
	// Stop, when it is closed, lets the running chunks finish and starts no
	// more. Nil never stops. The context of Run, in contrast, ends it at once.
	Stop <-chan struct{}
	// Observe, when not nil, is told of each event, one at a time.
	Observe func(Event)
}

// DefaultWorkers is the number of workers where nothing else decides.
const DefaultWorkers = 2

// DefaultStallTimeout is the StallTimeout where none is given.
const DefaultStallTimeout = time.Minute

// CheckpointEvery is the time between two checkpoints of a run. A run that dies
// repeats the look-up of at most this much work; nothing else depends on it.
const CheckpointEvery = time.Second

// Check returns everything that is wrong with the job's fields, or nil.
func (j *Job) Check() error {
	var errs []error
	if j.Source == nil {
		errs = append(errs, errors.New("job has no Source"))
	}
	if j.Committer == nil {
		errs = append(errs, errors.New("job has no Committer"))
	}
	if j.Positions < 0 {
		errs = append(errs, fmt.Errorf("job has %d positions", j.Positions))
	}
	if j.Workers < 0 || j.MaxWorkers < 0 {
		errs = append(errs, fmt.Errorf("job has %d workers, at most %d", j.Workers, j.MaxWorkers))
	}
	if j.RowsPerSecond < 0 {
		errs = append(errs, fmt.Errorf("job has a rate of %g rows per second", j.RowsPerSecond))
	}
	if j.Plan.RowsPerChunk < 0 {
		errs = append(errs, fmt.Errorf("plan has %d rows per chunk", j.Plan.RowsPerChunk))
	}
	return errors.Join(errs...)
}

// Run loads everything that the queue has and returns when the server has confirmed
// it, or with the first error that retrying cannot mend. After any error the load
// can be resumed unless the error says otherwise. The Result counts what was
// confirmed, also beside an error.
func (j *Job) Run(ctx context.Context) (Result, error) {
	if err := j.Check(); err != nil {
		return Result{}, err
	}
	return newRun(j).run(ctx)
}
