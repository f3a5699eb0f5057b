package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"bulkload/loader/dataset"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// A truncation says whether the record asks to empty the table before the first row.
type truncation string

const (
	toTruncate truncation = "asked"
	truncated  truncation = "done"
)

// announceTruncation tells the user what becomes of the table's rows.
func (o *opening) announceTruncation(context.Context) error {
	if o.req.Truncate && !o.table.Empty {
		o.tell(o.table.Display() + " is emptied before the first row (--truncate)")
	}
	return nil
}

// truncate empties the table of a load that was asked to, unless an earlier run has done it. The
// record says so in the transaction of TRUNCATE: whatever ends a run, a later one empties the
// table if and only if that has not happened, and never behind the first row.
func (l *Load) truncate(ctx context.Context) error {
	r := l.record
	if r.spec.Truncate != toTruncate {
		return nil
	}
	var next spec
	var text json.RawMessage
	err := r.registry.BeforeRows(ctx, r.load, r.text, func(ctx context.Context, tx pgx.Tx) (_ json.RawMessage, err error) {
		if _, err := tx.Exec(ctx, "TRUNCATE TABLE "+l.Table.Name.Sanitize()); err != nil {
			return nil, err
		}
		now, err := server.Identify(ctx, tx, l.srv.Info, l.Table.Name)
		if err != nil {
			return nil, err
		}
		if was := r.spec.Identity; was == nil || was.OID != now.OID {
			return nil, l.check.refused(l.Table.Display() + " is another table than the load began with, and is not emptied")
		}
		changed := record{load: r.load, spec: r.spec, dataset: r.dataset}
		changed.spec.Truncate, changed.spec.Empty = truncated, true
		changed.spec.Identity = &identity{OID: now.OID, Storage: now.Storage, Marker: r.spec.Identity.marker(), Version: r.spec.Identity.version()}
		next = changed.spec
		text, err = changed.encode()
		return text, err
	})
	if errors.Is(err, registry.ErrChanged) { // by another run, or by an attempt whose reply was lost
		var rec registry.Load
		if rec, err = r.registry.Get(ctx, r.load); err != nil {
			return err
		}
		next, text = spec{}, rec.Spec
		if err := json.Unmarshal(text, &next); err != nil {
			return fmt.Errorf("read the specification of load %s: %w", r.load, err)
		}
		if next.Truncate != truncated {
			return l.check.refused("rows were loaded before the table was emptied, by an older version of loader")
		}
	}
	if server.Code(err) == pgerrcode.OperatorIntervention && l.srv.Product == server.CockroachDB {
		// A schema_locked table, the default from 26.1 on. CockroachDB unlocks it for a statement
		// alone, but the record must change in the same transaction.
		return dataset.Refuse("%s is schema_locked; ALTER TABLE %s SET (schema_locked = false) lets --truncate empty it: %s", l.Table.Display(), l.Table.Display(), server.Reason(err))
	}
	if err != nil {
		return server.Failed("empty "+l.Table.Display(), err)
	}
	r.spec, r.text = next, text
	l.check.storage, l.check.doubt = next.Identity.Storage, ""
	l.verifier.WasEmpty = next.Empty
	return l.check.redefinedBy(ctx)
}

// redefinedBy records the version of the table's definition behind TRUNCATE, which on CockroachDB
// changes it.
func (t *tableCheck) redefinedBy(ctx context.Context) error {
	spec := &t.record.spec
	if spec.Identity.version() == 0 {
		return nil
	}
	return server.RetryOpening(ctx, func() (err error) {
		if t.table.Version, err = server.Version(ctx, t.pool, t.table); err != nil {
			return err
		}
		spec.Identity.Version = t.table.Version
		if err := t.record.replace(ctx); err != nil {
			return err
		}
		t.record.text, err = t.record.encode()
		return err
	})
}
