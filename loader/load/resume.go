package load

import (
	"context"
	"encoding/json"
	"fmt"

	"bulkload/chunker"
	"bulkload/loader/dataset"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// Resume opens a recorded load to go on with it, or to verify it. Its error wraps
// registry.ErrNoLoad or registry.ErrNoRegistry where there is none.
func Resume(ctx context.Context, srv *server.Server, id string, s Settings) (*Load, error) {
	return opened(ctx, srv, s, func(l *Load) { l.ID = id }, func(l *Load) error { return l.reopen(ctx, s) })
}

// A ResumeError says why a load that was begun cannot go on, and what can be done.
type ResumeError struct{ Reason string }

func (e *ResumeError) Error() string { return e.Reason }

// readSpec reads the specification of a recorded load.
func (l *Load) readSpec(rec registry.Load) error {
	if err := json.Unmarshal(rec.Spec, &l.spec); err != nil {
		return fmt.Errorf("load %s: its specification is of another version of loader: %w", rec.ID, err)
	}
	return nil
}

func (l *Load) reopen(ctx context.Context, s Settings) error {
	var err error
	if l.registry, err = registry.Open(ctx, l.pool, l.srv.Info); err != nil {
		return err
	}
	l.limitRegistry(s)
	rec, err := l.registry.Get(ctx, l.ID)
	if err != nil {
		return err
	}
	if err := l.readSpec(rec); err != nil {
		return err
	}
	l.What, l.Rows, l.Positions, l.Seed = What(rec.What), rec.Positions, rec.Positions, l.spec.Seed
	if l.What != Points && l.What != Accounts && l.What != CSV {
		return fmt.Errorf("load %s: this version of loader does not know loads of %s", l.ID, rec.What)
	}
	if l.spec.Import != nil {
		if attached, err := l.reopenImport(ctx, rec, &s); attached || err != nil {
			return err
		}
	}
	if l.Table, err = server.Describe(ctx, l.pool, l.srv.Info, l.spec.Table); err != nil {
		return err
	}
	if l.What == CSV {
		if err := l.reopenCSV(ctx, s); err != nil {
			return err
		}
	} else if err := checkTable(l.Table, l.What); err != nil {
		return err
	}
	l.Keys = dataset.KeyLayout{Base: l.spec.Base, Rows: l.Rows, Block: l.spec.Block}.Range()
	if l.Via == Import {
		l.Plan = chunker.Plan{Rows: l.Rows, Limits: l.limits(ctx)}
		return l.join(ctx, s)
	}
	if s.Way == "" {
		s.Way = l.spec.Way
	}
	if s.Way != l.spec.Way {
		// The ledger and the look-up do not know of each other's rows.
		return &TableError{fmt.Sprintf("load %s was begun with --commit %s and goes on with it", l.ID, l.spec.Way)}
	}
	if err := l.recall(ctx, &s); err != nil {
		return err
	}
	if err := l.choose(ctx, s); err != nil {
		return err
	}
	return l.join(ctx, s)
}
