package load

import (
	"context"
	"encoding/json"
	"fmt"

	"bulkload/loader"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// enter records the load, and drops the indexes that it defers. What it did before an
// error is taken back; see undo.
func (l *Load) enter(ctx context.Context, req Request) (err error) {
	deferred := req.Indexes == DeferIndexes
	if deferred {
		l.spec.Unique = uniqueIndexes(l.Table)
	}
	if err := l.markTable(ctx); err != nil {
		return err
	}
	l.spec.Session, l.spec.Empty = l.sessions.Settings(), l.Table.Empty
	text, err := l.specText()
	if err != nil {
		return err
	}
	l.recorded = text
	err = l.registry.Add(ctx, registry.Load{ID: l.ID, Kind: l.Dataset.Facts().Kind, Target: l.Table.Display(), Positions: l.Dataset.Size().Positions, Spec: text})
	if err != nil {
		return server.Failed("enter the load in the registry", err)
	}
	defer func() {
		if err != nil {
			err = l.undo(context.WithoutCancel(ctx), deferred, err)
		}
	}()
	if deferred {
		if err := l.deferIndexes(ctx); err != nil {
			return err
		}
		// Fewer indexes: other chunks.
		if err := l.plan(ctx, req.Chunk); err != nil {
			return err
		}
	}
	return l.join(ctx, req.Settings)
}

// specText returns what the record keeps of the load: one object, of what is the load's and
// what is its dataset's.
func (l *Load) specText() (json.RawMessage, error) {
	own, err := json.Marshal(l.spec)
	if err != nil {
		return nil, fmt.Errorf("write the load's specification: %w", err)
	}
	rows, err := l.Dataset.Record()
	if err != nil {
		return nil, fmt.Errorf("write the load's specification: %w", err)
	}
	all := map[string]json.RawMessage{}
	for _, part := range []json.RawMessage{own, rows} {
		if err := json.Unmarshal(part, &all); err != nil {
			return nil, fmt.Errorf("write the load's specification: %w", err)
		}
	}
	return json.Marshal(all)
}

// undo takes a load that cannot begin out of the registry, for not a row is in, and makes
// the indexes again that it has dropped. It returns the reason, cause. Where the server
// is out of reach even for that, the error says how it is done later, and is none at
// which server.Again would begin anew: with a table that lacks its indexes, which the
// next load would not know of.
func (l *Load) undo(ctx context.Context, deferred bool, cause error) error {
	err := l.takeBack(ctx)
	if err == nil || !deferred {
		return cause
	}
	return fmt.Errorf("%w: %s; indexes of %s may be missing: %s; loader loads cancel %s makes them again",
		loader.ErrGaveUp, server.Reason(cause), l.Table.Display(), server.Reason(err), l.ID)
}

func (l *Load) takeBack(ctx context.Context) error {
	// A DROP INDEX whose connection broke may still be on its way: all sessions of the
	// load are ended before it is looked which indexes are there.
	server.ClosePool(l.pool)
	bounded, err := sessions(ctx, l.srv, l.spec.Session)
	if err != nil {
		return err
	}
	pool := bounded.Pool // an index takes its time
	defer server.ClosePool(pool)
	again := &Load{ID: l.ID, srv: l.srv, pool: pool, registry: l.registry.Over(pool), spec: l.spec}
	if err := again.registry.Fence(ctx, l.ID, l.run); err != nil {
		return err
	}
	if err := again.restoreIndexes(ctx, func(string) {}); err != nil {
		return err
	}
	return again.registry.Forget(ctx, l.ID)
}
