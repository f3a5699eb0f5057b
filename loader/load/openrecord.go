package load

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// openRegistry opens the registry. A new load creates a missing registry. A preview does
// without it if it is missing or the user may not read it.
func (o *opening) openRegistry(ctx context.Context) error {
	get := o.ahead.Open
	switch {
	case o.req.NoRegistry, o.purpose == toPreview && o.ddl != "":
		return nil
	case o.purpose == toCreate:
		get = o.ahead.Create
	}
	r, err := get(ctx, o.pool, o.srv.Info)
	if err != nil {
		switch {
		case o.purpose == toPreview && errors.Is(err, registry.ErrNoRegistry):
			return nil
		case o.purpose == toPreview && server.Classify(err) == server.Refused:
			o.unread(err)
			return nil
		}
		return err
	}
	// Registry calls have the time limits of chunks.
	if o.req.RetryFor > 0 {
		r.RetryFor = o.req.RetryFor
	}
	if o.req.ChunkTimeout > 0 {
		r.AttemptTimeout = o.req.ChunkTimeout
	}
	if o.req.StaleAfter > 0 {
		r.StaleAfter = o.req.StaleAfter
	}
	o.record.registry = r
	return nil
}

// readRecord reads the record of a resumed load, and opens its dataset.
func (o *opening) readRecord(ctx context.Context) error {
	id := o.record.load
	rec, err := o.record.registry.Get(ctx, id)
	if err != nil {
		return err
	}
	o.record.was = rec
	if err := o.record.read(rec.Spec); err != nil {
		return err
	}
	o.state = rec.State
	if o.dataset, err = dataset.Open(rec.Kind, rec.Spec, rec.Positions); err != nil {
		return fmt.Errorf("load %s: %w", id, err)
	}
	o.record.dataset = o.dataset
	imported, by := o.record.spec.Import != nil, o.req.Method
	list := o.req.ofChunks()
	if in := o.req.Input; in != nil && in.MaxErrors != nil {
		list = append(list, "--max-errors")
	}
	switch mode := o.record.spec.CommitMode; {
	case by == Import && !imported:
		return dataset.Contradict("load %s was begun in chunks and cannot be resumed with --via import", id)
	case by != "" && by != Import && imported:
		return dataset.Contradict("load %s was begun by IMPORT and cannot be resumed with --via %s", id, by)
	case imported && len(list) > 0:
		return dataset.Contradict("load %s was begun by IMPORT and cannot be resumed with %s", id, strings.Join(list, ", "))
	case imported && o.req.ImportOptions.Streams > 0 && o.req.ImportOptions.Streams != o.record.spec.Import.Streams:
		return dataset.Contradict("load %s was begun with --streams %d, which cannot be changed", id, o.record.spec.Import.Streams)
	case !imported && o.req.handsOff():
		return dataset.Contradict("load %s was begun in chunks: --handoff, --serve-addr, --serve-cert, --serve-key and --streams are for IMPORT", id)
	case !imported && o.req.CommitMode != "" && o.req.CommitMode != mode:
		// Rows committed by statement are not in the ledger.
		return &TableError{Reason: fmt.Sprintf("load %s was begun with --commit %s, which cannot be changed", id, mode)}
	}
	return o.restoreSession(ctx)
}

// reserve makes sure that no existing row has a key of a new load.
func (o *opening) reserve(ctx context.Context) error {
	return o.dataset.Reserve(ctx, o.forDataset())
}

// enter records a new load. undo reverts it if a later step fails.
func (o *opening) enter(ctx context.Context) error {
	r := o.record
	r.spec.Table, r.spec.InOrder, r.spec.Empty = o.table.Name, o.req.InOrder, o.table.Empty
	r.spec.CommitMode, r.spec.Session = o.choice.Mode, o.sessions.Settings()
	if o.req.Truncate {
		r.spec.Truncate = toTruncate
	}
	if !r.exists() {
		r.load = ""
		return nil
	}
	if err := o.check.mark(ctx); err != nil {
		return err
	}
	var err error
	if r.text, err = r.encode(); err != nil {
		return err
	}
	err = r.registry.Add(ctx, registry.Load{ID: r.load, Kind: o.dataset.Facts().Kind, Target: r.spec.target(), Positions: o.dataset.Size().Positions, Spec: r.text})
	if err != nil {
		return server.Failed("record the load in the registry", err)
	}
	o.entered = true
	return nil
}

// undo removes the record of a load whose opening failed, since no row is committed, and
// creates dropped indexes again. It returns cause. If the server is unreachable, the returned
// error says how the user creates the indexes again, and server.RetryOpening does not retry it:
// another attempt would find a table without indexes and not know of them.
func (o *opening) undo(ctx context.Context, cause error) error {
	if !o.entered {
		return cause
	}
	err := o.takeBack(context.WithoutCancel(ctx))
	if err == nil || o.req.Indexes != DeferIndexes {
		return cause
	}
	return fmt.Errorf("%w: %s; indexes of %s may be missing: %s; loader loads cancel %s recreates them",
		loader.ErrGaveUp, server.Reason(cause), o.table.Display(), server.Reason(err), o.record.load)
}

// takeBack ends the sessions of the failed opening, recreates dropped indexes, and deletes the
// record.
func (o *opening) takeBack(ctx context.Context) error {
	// A DROP INDEX of a broken connection may still arrive: end all sessions of the load before
	// reading the indexes.
	server.ClosePool(o.pool)
	pool, err := restorePool(ctx, o.srv, o.record)
	if err != nil {
		return err
	}
	defer server.ClosePool(pool)
	r := o.record
	r.registry = r.registry.Over(pool)
	if err := r.registry.Fence(ctx, r.load, r.run); err != nil {
		return err
	}
	if err := r.deferral(o.srv, pool).Restore(ctx, func(string) {}); err != nil {
		return err
	}
	if err := r.dropBeside(ctx, pool); err != nil {
		return err
	}
	return r.registry.Forget(ctx, r.load)
}
