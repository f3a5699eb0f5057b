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
type ResumeError = dataset.ResumeError

// readSpec reads the specification of a recorded load.
func (l *Load) readSpec(rec registry.Load) error {
	l.recorded = rec.Spec
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
	if l.Dataset, err = dataset.Open(rec.Kind, rec.Spec, rec.Positions); err != nil {
		return fmt.Errorf("load %s: %w", l.ID, err)
	}
	if err := l.restoreSession(ctx, s); err != nil {
		return err
	}
	s.InOrder = s.InOrder || l.spec.InOrder
	o := l.opening(s)
	o.Resumed, o.Imported = l.ID, l.spec.Import != nil
	if l.spec.Import != nil {
		if attached, err := l.reopenImport(ctx, o, rec, &s); attached || err != nil {
			return err
		}
	}
	if l.Table, err = server.Describe(ctx, l.pool, l.srv.Info, l.spec.Table); err != nil {
		return err
	}
	if err := l.checkIdentity(ctx); err != nil {
		return err
	}
	if err := l.refit(ctx, o); err != nil {
		return err
	}
	if l.Method == Import {
		l.Plan = chunker.Plan{Rows: l.rows(), Limits: l.limits(ctx)}
		return l.join(ctx, s)
	}
	if s.CommitMode == "" {
		s.CommitMode = l.spec.CommitMode
	}
	if s.CommitMode != l.spec.CommitMode {
		// The ledger and the look-up do not know of each other's rows.
		return &TableError{Reason: fmt.Sprintf("load %s was begun with --commit %s and goes on with it", l.ID, l.spec.CommitMode)}
	}
	if err := l.recall(ctx, &s); err != nil {
		return err
	}
	if err := l.choose(ctx, o, s); err != nil {
		return err
	}
	return l.join(ctx, s)
}

// refit opens what a recorded load reads, and fits it to the table.
func (l *Load) refit(ctx context.Context, o *dataset.Opening) error {
	o.Table = l.Table
	if err := l.Dataset.Reopen(ctx, o); err != nil {
		return fmt.Errorf("load %s: %w", l.ID, err)
	}
	return l.Dataset.Fit(ctx, o)
}
