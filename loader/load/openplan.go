package load

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"bulkload/chunker"
	"bulkload/chunker/keysize"
	"bulkload/loader/commit"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// workers returns the number of workers of the run. A pooler may have few sessions for it.
func (o *opening) workers() WorkerCount {
	w := o.freeWorkers()
	sessions := o.srv.MaxSessions()
	if n := sessions - 1; n > 0 && w.Max > n { // one is for leases and checkpoints
		w = WorkerCount{min(w.Start, n), n, fmt.Sprintf("the pooler gives %d sessions", sessions)}
	}
	return w
}

// freeWorkers returns the number of workers if sessions are not limited.
func (o *opening) freeWorkers() WorkerCount {
	switch near := min(max(runtime.NumCPU(), minWorkers), nearWorkers); {
	case o.dataset.Ordered() != "":
		return WorkerCount{1, 1, o.dataset.Ordered()}
	case o.req.Workers > 0:
		return WorkerCount{o.req.Workers, o.req.Workers, "set by --workers"}
	case o.tuned.Origin == registry.ByBench && o.tuned.Workers > 0:
		n := min(o.tuned.Workers, pooledWorkers)
		return WorkerCount{n, n, "found by loader bench"}
	case o.tuned.Workers > 0:
		n := min(o.tuned.Workers, maxWorkers)
		return WorkerCount{n, maxWorkers, "as in the last load of this table; a longer run tries more"}
	case o.far() > 0:
		return o.farWorkers()
	case o.srv.Config.Local():
		return WorkerCount{near, maxWorkers, fmt.Sprintf("server and loader share the %d processors of this machine; a longer run tries more", runtime.NumCPU())}
	}
	return WorkerCount{farWorkers, maxWorkers, "the server is on another machine; a longer run tries more"}
}

// Bounds of the plan for a far server. farTrip is the round trip from which on a server is far:
// within a machine, or to a busy server next door, it is shorter. farRows is the number of rows per
// second that a server with few processors takes. The workers of a far server have as many rows
// under way as it takes while they wait, but at most farBytes (or farWorkers chunks), until a chunk
// has shown the speed of the link.
const (
	farTrip  = 8 * time.Millisecond
	farRows  = 300_000
	farBytes = 3 << 20
)

// far returns the round trip to the server if it is worth planning for, or zero.
func (o *opening) far() time.Duration {
	if d := o.srv.RoundTrip(); d >= farTrip {
		return d
	}
	return 0
}

// waits returns how long a chunk waits for the network.
func (o *opening) waits() time.Duration {
	trips := 3 // BEGIN and the ledger row, the rows, COMMIT
	switch {
	case o.choice.Mode == commit.Statement:
		trips = 1
	case o.srv.Product == server.PostgreSQL && o.choice.Method == commit.Copy:
		trips = 2 // BEGIN, the ledger row and the rows; COMMIT
	case o.srv.Product == server.CockroachDB && o.choice.Method == commit.Insert && !o.srv.Pooled():
		trips = 2 // BEGIN, the rows and the ledger row; COMMIT
	}
	return time.Duration(trips) * o.srv.RoundTrip()
}

// farWorkers returns the number of workers for a far server.
func (o *opening) farWorkers() WorkerCount {
	rows := max(o.plan.RowsPerChunk, 1)
	bytes := max(o.plan.Cost.Use(chunker.MessageBytes, rows, o.dataset.RecordBytes()), 64*rows)
	wanted := 2 + int64(o.waits().Seconds()*farRows)/rows
	n := int(min(max(min(wanted, farBytes/bytes), farWorkers), maxWorkers))
	return WorkerCount{n, maxWorkers, fmt.Sprintf("a round trip takes %s, so a chunk waits %s for the network; more workers are added while chunks mostly wait",
		o.far().Round(time.Millisecond), o.waits().Round(time.Millisecond))}
}

// recall reads the best settings that an earlier load or loader bench found for the table. They
// are the defaults of settings without a flag. A preview does without them if the user may not
// read the registry.
func (o *opening) recall(ctx context.Context) error {
	if !o.record.exists() || o.imported != nil || o.req.Chunk != 0 {
		return nil
	}
	t, found, err := o.record.registry.Tuning(ctx, o.target(), o.dataset.Facts().Kind)
	switch asked, _ := o.asked(); {
	case err != nil && o.purpose == toPreview && server.Classify(err) == server.Refused:
		o.unread(err)
		return nil
	case err != nil || !found:
		return err
	case asked.Mode != "" && t.CommitMode != "" && string(asked.Mode) != t.CommitMode, o.req.Method != "" && t.Method != "" && string(o.req.Method) != t.Method:
		return nil // measured for another commit mode or method
	case t.Method == string(Import):
		// Nothing is known for chunks.
		o.byImport = o.req.Method == ""
		return nil
	}
	o.tuned = t
	origin, workers := "from the last load of this table:", ""
	if t.Origin == registry.ByBench {
		origin = "from loader bench:"
	}
	if o.req.Workers == 0 && t.Workers > 0 {
		workers = fmt.Sprintf(" and %d workers", t.Workers)
	}
	o.tell(fmt.Sprintf("%s chunks of %d rows%s", origin, t.Chunk, workers))
	return nil
}

// unread notes that the settings of earlier loads are unreadable.
func (o *opening) unread(err error) {
	o.tell("the chunk size that earlier loads of this table ended with cannot be read: " + server.Reason(err))
}

// choose decides how chunks are committed and sent. A load by IMPORT has no chunks, but its
// preview shows them.
func (o *opening) choose(ctx context.Context) error {
	if o.imported != nil && o.purpose != toPreview {
		o.choice.Method = Import
		return nil
	}
	asked, _ := o.asked()
	var err error
	o.choice, err = o.dataset.Choose(ctx, o.forDataset(), asked)
	return err
}

// committed returns the commit mode and method of the committer. In a load by IMPORT, the
// committer only compares rows.
func (o *opening) committed() (commit.Mode, commit.Method) {
	if o.choice.Method == Import {
		return commit.Transaction, commit.Insert
	}
	return o.choice.Mode, o.choice.Method
}

// makePlan plans the chunks.
func (o *opening) makePlan(ctx context.Context) error {
	limits := o.limits(ctx)
	if o.choice.Method == Import {
		o.plan = chunker.Plan{Rows: o.dataset.Size().Rows, Limits: limits}
		return nil
	}
	if o.srv.Product == server.CockroachDB && o.choice.Mode == commit.Transaction {
		limits = limits.Except(server.OnePhase)
	}
	chunk := o.req.Chunk
	if chunk == 0 && o.tuned.Origin == registry.ByBench {
		chunk = o.tuned.Chunk // measured: advice must not exceed it
	}
	var err error
	if o.plan, err = o.planFor(chunk, o.preferred(), o.cost(o.table.Keys), limits); err != nil {
		return &TableError{Reason: err.Error()}
	}
	together := 0
	if o.far() > 0 {
		together = o.workers().Start
	}
	o.dataset.Planned(o.plan, o.maxRows(), together)
	return nil
}

// planFor plans chunks of the given number of rows; zero is automatic.
func (o *opening) planFor(chunk, preferred int64, cost chunker.Cost, limits chunker.Limits) (chunker.Plan, error) {
	return chunker.MakePlan(o.dataset.Size().Rows, chunk, preferred, o.dataset.RecordBytes(), cost, limits)
}

// preferred returns the rows of a chunk where no limit applies.
func (o *opening) preferred() int64 {
	if o.tuned.Chunk > 0 {
		return o.tuned.Chunk
	}
	rows := o.dataset.ChunkRows()
	if record := o.dataset.RecordBytes(); o.far() > 0 && rows > 0 {
		// As many rows as an eighth of what the server takes while a chunk waits, in chunks that
		// are still small messages.
		wanted := int64(o.waits().Seconds() * farRows / 8)
		rows = max(rows, min(wanted, farChunkBytes/max(record, 64)))
	}
	return rows
}

// farChunkBytes bounds the size of a chunk of a far server, where nothing else does.
const farChunkBytes = 1 << 20

// cost returns what a row adds to a chunk, with the given indexes.
func (o *opening) cost(keys keysize.Schema) chunker.Cost {
	return o.dataset.Cost(keys.Cost(o.dataset.RowInfo()))
}

// limits reads those of the server's limits that the user may read.
func (o *opening) limits(ctx context.Context) chunker.Limits {
	if o.limitsRead != nil {
		return o.limitsRead
	}
	ctx, cancel := context.WithTimeout(ctx, server.ConnectTimeout)
	defer cancel()
	return server.Limits(ctx, o.pool, o.srv.Info)
}

// maxRows returns the number of rows to which chunks may grow; zero is the plan's. Where an
// earlier load settled on fewer rows, chunks may still grow to the automatic plan's.
func (o *opening) maxRows() int64 {
	if o.tuned.Origin != registry.ByRun {
		return 0
	}
	p, err := o.planFor(0, o.dataset.ChunkRows(), o.plan.Cost, o.plan.Limits)
	if err != nil {
		return 0
	}
	return p.RowsPerChunk
}

// maxMessage returns the maximum bytes of rows in a message; zero is any number.
func (o *opening) maxMessage() int64 {
	for _, limit := range o.plan.Limits {
		if limit.Unit == chunker.MessageBytes && limit.Max > commit.FixedMessageBytes {
			return limit.Max - commit.FixedMessageBytes
		}
	}
	return 0
}
