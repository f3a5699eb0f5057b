package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader"
	"bulkload/loader/beside"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/failure"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// A replacement is recorded by a load into a table beside another one, the target, whose place
// it takes after the last row. The table of the load is then the target's name.
type replacement struct {
	Target []string         `json:"target"`
	OID    uint32           `json:"oid"` // of the table to be replaced
	State  replacementState `json:"state"`
}

// A replacementState is recorded in the transaction that brings it about.
type replacementState string

const (
	toReplace  replacementState = "asked" // the table beside is to be made
	madeBeside replacementState = "made"
	replaced   replacementState = "done"
)

// unreplaced reports whether the load has a table beside its target.
func (s *spec) unreplaced() bool { return s.Replace != nil && s.Replace.State != replaced }

// target returns the name of the table whose rows the load is to become, for people.
func (s *spec) target() string {
	if s.Replace != nil {
		return server.Display(s.Replace.Target)
	}
	return server.Display(s.Table)
}

// target is spec.target for an opening whose record may have no table yet.
func (o *opening) target() string {
	if o.record.spec.Replace != nil {
		return o.record.spec.target()
	}
	return o.table.Display()
}

// planReplacement refuses tables that cannot be replaced, and lets a new load go into a table
// beside the target. makeBeside makes that table, and refuses what only the try shows.
func (o *opening) planReplacement(ctx context.Context) error {
	if !o.req.Replace || o.ddl != "" || o.missing != "" {
		return nil
	}
	why, err := beside.Obstacle(ctx, o.pool, o.table)
	if err != nil {
		return err
	}
	if why != "" {
		return notReplaceable(o.table.Display(), why)
	}
	for _, k := range o.table.ReferencedBy {
		if !slices.Contains(o.table.ForeignKeys, k) {
			return dataset.Refuse("%s cannot be replaced: it is referenced by %s; drop that foreign key before the load, or use --on-conflict update", o.table.Display(), k.Table)
		}
	}
	o.tell(fmt.Sprintf("the rows go into a new table, which replaces %s after the last row (--replace); rows that others write to %s until then are lost", o.table.Display(), o.table.Display()))
	t := *o.table
	t.Empty, t.EstimatedRows = true, 0
	if o.purpose == toCreate {
		o.record.spec.Replace = &replacement{Target: t.Name, OID: t.OID, State: toReplace}
		o.record.spec.Made = 0 // unmake looks for a table of that name
		t.Name = pgx.Identifier{t.Name[0], "loader_replace_" + o.record.load}
	}
	o.table = &t
	return nil
}

// notReplaceable returns the error of a table that --replace would not leave as it is.
func notReplaceable(table, why string) error {
	return dataset.Refuse("%s cannot be replaced: %s; use --truncate, which keeps the table", table, why)
}

// makeBeside makes the table beside the target unless an earlier run has made it. The record says
// so in the same transaction.
func (o *opening) makeBeside(ctx context.Context) error {
	r := o.record
	p := r.spec.Replace
	if p == nil || p.State != toReplace {
		return nil
	}
	var next spec
	var text json.RawMessage
	err := r.registry.BeforeRows(ctx, r.load, r.text, func(ctx context.Context, tx pgx.Tx) (_ json.RawMessage, err error) {
		if err := r.sameTarget(ctx, tx, o.srv.Info); err != nil {
			return nil, err
		}
		lost, err := beside.Make(ctx, tx, p.Target, r.spec.Table)
		if err != nil {
			return nil, err
		}
		if lost != "" {
			return nil, notReplaceable(server.Display(p.Target), lost)
		}
		now, err := server.Identify(ctx, tx, o.srv.Info, r.spec.Table)
		if err != nil {
			return nil, err
		}
		changed := record{load: r.load, spec: r.spec, dataset: r.dataset}
		changed.spec.Replace = &replacement{Target: p.Target, OID: p.OID, State: madeBeside}
		changed.spec.Identity = &identity{OID: now.OID, Storage: now.Storage}
		next = changed.spec
		text, err = changed.encode()
		return text, err
	})
	if errors.Is(err, registry.ErrChanged) { // by another run, or by an attempt whose reply was lost
		next, text, err = r.reread(ctx)
	}
	if err != nil && failure.Of(err) == failure.None {
		err = server.Failed("make a table to replace "+server.Display(p.Target), err)
	}
	if err != nil {
		return err
	}
	r.spec, r.text = next, text
	if o.purpose != toCreate {
		return nil
	}
	t, err := server.Describe(ctx, o.pool, o.srv.Info, r.spec.Table)
	if err == nil {
		o.table, o.check.table, o.check.storage = t, t, t.Storage
	}
	return err
}

// sameTarget refuses a target that is another table than the load began with.
func (r *record) sameTarget(ctx context.Context, db server.Querier, info server.Info) error {
	p := r.spec.Replace
	now, err := server.Identify(ctx, db, info, p.Target)
	if errors.Is(err, server.ErrNoTable) || err == nil && now.OID != p.OID {
		return (&tableCheck{record: r}).refused(server.Display(p.Target) + " is another table than the load began with, and is not replaced")
	}
	return err
}

// reread reads the specification that another run has changed.
func (r *record) reread(ctx context.Context) (s spec, text json.RawMessage, err error) {
	rec, err := r.registry.Get(ctx, r.load)
	if err == nil {
		if err = json.Unmarshal(rec.Spec, &s); err != nil {
			err = fmt.Errorf("read the specification of load %s: %w", r.load, err)
		}
	}
	return s, rec.Spec, err
}

// replace puts the loaded table in the place of its target, unless that was done. The record says
// so in the same transaction: whatever ends a run, others see the old table or the new one, and a
// resumed load does it if and only if it has not happened.
func (l *Load) replace(ctx context.Context, _ loader.Result) error {
	r := l.record
	if !r.spec.unreplaced() {
		return nil
	}
	// The check of the table, or another run, may have changed the record.
	next, text, err := r.reread(ctx)
	if err != nil {
		return unconfirmed(err)
	}
	if !next.unreplaced() {
		return l.followReplacement(next, text)
	}
	r.spec, r.text = next, text
	p := r.spec.Replace
	name := server.Display(p.Target)
	// Queries of the new table need statistics from the first one on.
	if err := server.WithoutTimeout(ctx, l.pool, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, "ANALYZE "+l.Table.Name.Sanitize())
		return err
	}); err != nil && server.Code(err) != "" {
		l.settings.note("analyse the new table: " + server.Reason(err))
	}
	err = r.registry.AfterRows(ctx, r.load, r.text, func(ctx context.Context, tx pgx.Tx) (_ json.RawMessage, err error) {
		if err := r.sameTarget(ctx, tx, l.srv.Info); err != nil {
			return nil, err
		}
		lost, err := beside.Swap(ctx, tx, p.Target, r.spec.Table)
		if err != nil {
			return nil, err
		}
		if lost != "" {
			return nil, failure.With(failure.Refused, fmt.Errorf("%s was changed during the load and is not replaced: %s; undo that and run: loader loads resume %s; or give the new rows up: loader loads cancel %s", name, lost, r.load, r.load))
		}
		now, err := server.Identify(ctx, tx, l.srv.Info, p.Target)
		if err != nil {
			return nil, err
		}
		if was := r.spec.Identity; was == nil || now.OID != was.OID || now.Storage != was.Storage {
			return nil, l.check.refused("the table with the new rows was truncated or rewritten, and does not replace " + name)
		}
		changed := record{load: r.load, spec: r.spec, dataset: r.dataset}
		changed.spec.Table = p.Target
		changed.spec.Replace = &replacement{Target: p.Target, OID: p.OID, State: replaced}
		next = changed.spec
		text, err = changed.encode()
		return text, err
	})
	if errors.Is(err, registry.ErrChanged) { // by another run, or by an attempt whose reply was lost
		next, text, err = r.reread(ctx)
		if err == nil && next.unreplaced() {
			err = registry.ErrChanged
		}
	}
	if err != nil {
		if failure.Of(err) == failure.None {
			err = fmt.Errorf("%w; its rows are loaded, and loader loads resume %s replaces it", server.Failed("replace "+name, err), r.load)
		}
		return err
	}
	if err := l.followReplacement(next, text); err != nil {
		return err
	}
	l.settings.note(name + " is replaced")
	return nil
}

// followReplacement goes on with the target's name once the record says that it is replaced.
func (l *Load) followReplacement(next spec, text json.RawMessage) (err error) {
	if !l.record.spec.unreplaced() || next.unreplaced() {
		return nil
	}
	l.record.spec, l.record.text = next, text
	t := *l.Table
	t.Name = next.Table
	l.Table = &t
	l.check.table, l.check.seen, l.check.storage = &t, nil, next.Identity.Storage
	l.options.Table = t.Name
	if l.committer, err = commit.New(l.pool, l.srv.Info, l.options); err != nil {
		return err
	}
	l.verifier.Table, l.verifier.Committer = &t, l.committer
	return nil
}

// replacedByOther reports whether another run has put the loaded table in its target's place
// meanwhile, and goes on with it.
func (l *Load) replacedByOther(ctx context.Context) bool {
	next, text, err := l.record.reread(ctx)
	return err == nil && !next.unreplaced() && l.followReplacement(next, text) == nil
}

// dropBeside drops the table beside the target of a load that is given up.
func (r *record) dropBeside(ctx context.Context, pool *pgxpool.Pool) error {
	if !r.spec.unreplaced() {
		return nil
	}
	err := server.RetryOpening(ctx, func() error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return beside.Drop(ctx, tx, r.spec.Table) })
	})
	if err != nil {
		return server.Failed("drop "+server.Display(r.spec.Table), err)
	}
	return nil
}

// Unreplaced reports whether a recorded load has rows in a table of its own that does not
// replace its target yet; name is that table's.
func Unreplaced(rec registry.Load) (name string, yes bool) {
	var s spec
	if json.Unmarshal(rec.Spec, &s) != nil || !s.unreplaced() {
		return "", false
	}
	return server.Display(s.Table), true
}

// DropUnreplaced drops that table.
func DropUnreplaced(ctx context.Context, srv *server.Server, rec registry.Load) error {
	r := &record{load: rec.ID}
	if err := r.read(rec.Spec); err != nil {
		return err
	}
	pool, err := restorePool(ctx, srv, r)
	if err != nil {
		return err
	}
	defer server.ClosePool(pool)
	return r.dropBeside(ctx, pool)
}
