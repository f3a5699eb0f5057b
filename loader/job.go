package loader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bulkload/chunker"
)

// A Job is one load. Fill in the fields, then call Run. Check reports invalid fields
// beforehand. A Job can be run only once.
type Job struct {
	Source    Source
	Committer Committer
	// Positions is the size of the load, in rows or in bytes of a file.
	Positions int64
	// Plan sets the rows per chunk; MakePlan in package chunker makes it. A zero RowsPerChunk
	// means chunker.DefaultRowsPerChunk.
	Plan chunker.Plan
	// AutoTune lets the run change the chunk size: down at once when chunks are slow or often
	// retried, slowly up again to the plan's size. Without it, only a chunk that is too large
	// for the server or exceeds its deadline reduces the size.
	AutoTune bool
	// MaxRows is the maximum to which AutoTune may raise the rows per chunk, for a plan that
	// begins with the smaller size on which an earlier load settled. Zero means the plan's
	// size.
	MaxRows int64
	// FlowControlled means that the server delays writes under load, as CockroachDB does from
	// 25.1 on. A slow chunk is then no reason for smaller chunks: the rows would wait as long.
	FlowControlled bool
	// Workers is the number of chunks in flight; zero means DefaultWorkers. More workers than
	// the server has processors showed no measurable gain.
	Workers int
	// MaxWorkers, if larger than Workers, lets a run of more than some seconds try more
	// workers and keep them if they make it faster.
	MaxWorkers int
	// Waits is how long a chunk waits for the network alone, as far as that was measured; zero
	// is unknown. A run whose chunks mostly wait takes more workers at once, up to MaxWorkers.
	Waits time.Duration
	// InOrder lets the workers take neighbouring spans, which fills PostgreSQL's B-tree
	// faster, at one end, and spares the workers of a far server the wait for a lease each.
	// Without it each worker has a range of its own, which avoids a hot range on CockroachDB.
	InOrder bool
	// Ordered says that no chunk may be committed before an earlier one: the run ends at the
	// first place of the input that does not answer.
	Ordered bool
	// RowsPerSecond bounds the rate of all workers of this run together; zero means no bound.
	RowsPerSecond float64
	// StallTimeout bounds the time without any activity, after which the run ends with
	// ErrStalled. Activity is a chunk, a read of the source, a call of the queue, or a wait
	// for RowsPerSecond or other runs. Zero means DefaultStallTimeout.
	StallTimeout time.Duration
	// Queue hands out the work. With nil, the work list is local to the process and the load
	// cannot be resumed.
	Queue Queue
	// Stop, when closed, starts no more chunks and lets the running ones finish. Nil never
	// stops. The end of Run's context, in contrast, ends the run at once.
	Stop <-chan struct{}
	// Observe, when not nil, is called with each event, one at a time.
	Observe func(Event)
}

// DefaultWorkers is the number of workers if nothing else sets it.
const DefaultWorkers = 2

// DefaultStallTimeout is the default of Job.StallTimeout.
const DefaultStallTimeout = time.Minute

// CheckpointEvery is the time between two checkpoints of a run. After a crash, at most this
// much work has to be looked up again; nothing else depends on it.
const CheckpointEvery = time.Second

// Check returns all faults of the job's fields, or nil.
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

// Run loads all positions that the queue hands out. It returns when the server has confirmed
// them, or with the first error that a retry cannot fix. After an error the load can be
// resumed unless the error says otherwise. The Result counts the confirmed rows, also if there
// is an error.
func (j *Job) Run(ctx context.Context) (Result, error) {
	if err := j.Check(); err != nil {
		return Result{}, err
	}
	return newRun(j).run(ctx)
}
