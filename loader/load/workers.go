package load

import (
	"context"
	"fmt"
	"runtime"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// Workers where the user names none. A server on this machine has its processors, and
// shares them with the loader: more than 2 to 4 workers gained nothing where that was
// measured. How many another machine has cannot be asked by an ordinary user, and each
// worker also waits for the network; a run that is long enough tries more by itself.
const (
	leastWorkers  = 2
	nearWorkers   = 4  // the most to begin with on a server of this machine
	farWorkers    = 4  // to begin with elsewhere
	mostWorkers   = 16 // that a run tries by itself
	pooledWorkers = 64 // sessions that there may be where the user names no number
)

// A WorkerCount is the number of workers of a run, and why.
type WorkerCount struct {
	Start, Max int // to begin with; that the run may try
	Why        string
}

// crew returns the workers of a run.
func (l *Load) crew(s Settings) WorkerCount {
	switch near := min(max(runtime.NumCPU(), leastWorkers), nearWorkers); {
	case l.Dataset.Ordered() != "":
		return WorkerCount{1, 1, l.Dataset.Ordered()}
	case s.Workers > 0:
		return WorkerCount{s.Workers, s.Workers, "as asked"}
	case l.tuned.Origin == registry.ByBench && l.tuned.Workers > 0:
		n := min(l.tuned.Workers, pooledWorkers)
		return WorkerCount{n, n, "loader bench found it"}
	case l.tuned.Workers > 0:
		n := min(l.tuned.Workers, mostWorkers)
		return WorkerCount{n, mostWorkers, "the last load of this table settled on it; a run of more than some seconds tries more"}
	case l.srv.Config.Local():
		return WorkerCount{near, mostWorkers, fmt.Sprintf("the server shares the %d processors of this machine; a run of more than some seconds tries more", runtime.NumCPU())}
	}
	return WorkerCount{farWorkers, mostWorkers, "the server is elsewhere; a run of more than some seconds tries more"}
}

// outOfOrder returns why a load whose rows were not committed in order cannot go on.
func (l *Load) outOfOrder() error {
	return &dataset.ResumeError{Reason: fmt.Sprintf("load %s was begun by a version of loader that did not keep the order of the input: %v, but %s; loads cancel %s, remove its rows and load the file again",
		l.ID, registry.ErrGaps, l.Dataset.Ordered(), l.ID)}
}

// sessions returns how many sessions the run's pool may have: known before the registry
// has been asked.
func (s Settings) sessions() int {
	if s.Workers > 0 {
		return s.Workers + extraSessions
	}
	return pooledWorkers + extraSessions
}

// recall takes what the registry has as the best way to load the table, for whatever the
// user left open.
func (l *Load) recall(ctx context.Context, s *Settings) error {
	if l.registry == nil || s.Chunk != 0 {
		return nil
	}
	t, ok, err := l.registry.Tuning(ctx, l.Table.Display(), l.Dataset.Facts().Kind)
	if err != nil || !ok {
		return err
	}
	if s.CommitMode != "" && t.CommitMode != "" && string(s.CommitMode) != t.CommitMode || s.Method != "" && t.Method != "" && string(s.Method) != t.Method {
		return nil // found for another way of loading
	}
	if t.Method == string(Import) {
		// Where IMPORT cannot take this load, nothing is known.
		l.prefers = s.Method == ""
		return nil
	}
	l.tuned = t
	found := "the last load of this table settled on"
	if t.Origin == registry.ByBench {
		found = "loader bench found"
		if s.CommitMode == "" {
			s.CommitMode, l.recalledWay = commit.Mode(t.CommitMode), true
		}
		if s.Method == "" {
			s.Method = commit.Method(t.Method)
		}
	}
	workers := ""
	if s.Workers == 0 && t.Workers > 0 {
		workers = fmt.Sprintf(" and %d workers", t.Workers)
	}
	l.Notes = append(l.Notes, fmt.Sprintf("%s chunks of %d rows%s", found, t.Chunk, workers))
	return nil
}

// remember keeps what a run settled on, where that is not what it began with, and says
// so.
func (l *Load) remember(ctx context.Context, res loader.Result) {
	if l.registry == nil || res.Chunks == 0 || !l.Job.AutoTune || res.RowsPerChunk == l.Plan.RowsPerChunk && res.Workers == l.Job.Workers {
		return
	}
	t := registry.Tuning{
		Target: l.Table.Display(), Kind: l.Dataset.Facts().Kind, Chunk: res.RowsPerChunk,
		Method: string(l.Method), CommitMode: string(l.CommitMode), Origin: registry.ByRun,
	}
	workers := ""
	if l.Job.MaxWorkers > l.Job.Workers {
		t.Workers = res.Workers
		workers = fmt.Sprintf(" and %d workers", res.Workers)
	}
	if err := l.registry.SaveTuning(ctx, t); err != nil {
		// The rows are in; the next load begins from the plan again.
		l.note(server.Reason(err))
		return
	}
	l.note(fmt.Sprintf("settled on chunks of %d rows%s; the next load of this table begins with that", res.RowsPerChunk, workers))
}

// mostRows returns the most rows that chunks may grow to by themselves: those of the
// plan, also where an earlier load had to do with fewer.
func (l *Load) mostRows() int64 {
	if l.tuned.Origin != registry.ByRun {
		return 0
	}
	p, err := chunker.MakePlan(l.rows(), 0, l.Dataset.ChunkRows(), l.Dataset.RecordBytes(), l.Plan.Cost, l.Plan.Limits)
	if err != nil {
		return 0
	}
	return p.RowsPerChunk
}

// mostMessage returns the bytes of rows that a message may carry; zero is any number.
func (l *Load) mostMessage() int64 {
	for _, limit := range l.Plan.Limits {
		if limit.Unit == chunker.MessageBytes && limit.Max > commit.FixedMessageBytes {
			return limit.Max - commit.FixedMessageBytes
		}
	}
	return 0
}
