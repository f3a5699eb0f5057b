package anytable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// keyDraws is the maximum of draws of the places of keys.
const keyDraws = 100

// Reserve implements dataset.Dataset: it draws the places of the keys where the table has no
// rows, and tries the first rows in a transaction that is rolled back.
func (d *Dataset) Reserve(ctx context.Context, o *dataset.Opening) error {
	if o.Fixed {
		return dataset.Contradict(noURLs)
	}
	for attempt := uint64(0); ; attempt++ {
		d.plan.place(d.gen, attempt)
		if o.Table.Empty {
			break
		}
		key, err := d.plan.occupied(ctx, o.DB)
		if err != nil {
			return fmt.Errorf("look for free keys: %w", err)
		}
		if key == "" {
			break
		}
		if attempt == keyDraws {
			return dataset.Refuse("%s has too many rows: no free range for %d rows was found in key %s in %d draws", o.Table.Display(), d.Rows, key, keyDraws)
		}
	}
	if err := d.open(); err != nil {
		return err
	}
	return d.try(ctx, o)
}

// place draws where the values of keys begin. The draws depend on the seed alone: the same load
// into an empty table has the same rows.
func (p *planner) place(g *generator, attempt uint64) {
	for _, f := range p.fields {
		if f.room == nil {
			continue
		}
		if r := g.rule(f.Name); r != nil {
			if f.rule.Form.Min = f.room.first; attempt == 0 && f.room.near {
				continue
			}
			r.Form.Min = f.room.first + int64(dataset.Below(dataset.Random(streamOf(p.seed, "key "+f.Name), attempt), uint64(f.room.last-f.room.first)+1))
			f.rule.Form.Min = r.Form.Min
		}
	}
}

// occupied returns the name of a unique key under whose drawn values there are rows; empty: there
// is none that is known. Values without an order are not looked for: they are one of very many.
func (p *planner) occupied(ctx context.Context, db server.Querier) (string, error) {
	for _, k := range p.checked {
		var where []string
		for _, f := range k.fields {
			if f.room == nil || f.room.span == 0 || !f.ordered() {
				continue
			}
			value, err := f.rule.Form.compile()
			if err != nil {
				return "", err
			}
			name := pgx.Identifier{f.Name}.Sanitize()
			where = append(where, fmt.Sprintf("%s >= %s AND %s <= %s", name, server.QuoteLiteral(string(value(nil, 0, 0))), name, server.QuoteLiteral(string(value(nil, f.room.span-1, 0)))))
		}
		if len(where) == 0 {
			continue
		}
		var one int
		err := db.QueryRow(ctx, fmt.Sprintf("SELECT 1 FROM %s WHERE %s LIMIT 1", p.table.Name.Sanitize(), strings.Join(where, " AND "))).Scan(&one)
		if errors.Is(err, pgx.ErrNoRows) {
			continue
		}
		return k.Name, err
	}
	return "", nil
}

// ordered reports whether the values of a key are in the order of their indexes.
func (f *field) ordered() bool {
	switch f.rule.Form.Kind {
	case asNumber, asDate, asTimestamp, asTime:
		return true
	case asPattern:
		return strings.TrimLeft(f.rule.Form.Pattern, "0") == "{n}"
	}
	return false
}

// try sends the first rows in a transaction that is rolled back. What the server refuses of them
// it would refuse in the load.
func (d *Dataset) try(ctx context.Context, o *dataset.Opening) error {
	ctx, cancel := context.WithTimeout(ctx, commit.DefaultChunkTimeout)
	defer cancel()
	chunk, err := d.src.first(min(d.Rows, sampleRows))
	if err != nil {
		return err
	}
	opts := d.Options()
	opts.Table, opts.Method, opts.Mode = d.table.Name, commit.Insert, commit.Transaction
	if d.gen.store() != nil {
		if err := dataset.CheckStatement(ctx, o, opts, byExpression); err != nil {
			return err
		}
	}
	conn, err := o.DB.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	n, err := commit.Try(ctx, conn.Conn(), d.info.Product, opts, chunk)
	name := d.table.Display()
	class := server.Classify(err)
	switch {
	case err == nil && n != int64(chunk.Len()):
		return dataset.Refuse("table %s stores only %d of the first %d rows: a trigger or rule drops the others", name, n, chunk.Len())
	case err == nil:
		return nil
	case class == server.Data || class == server.Duplicate || class == server.Permanent && slices.Contains(refusing, server.Code(err)):
		return dataset.Refuse("table %s refuses the generated rows: %s; --value COLUMN=RULE sets other values", name, server.Reason(err))
	}
	if o.ToFile && (class == server.Refused || server.IsReadOnly(err)) {
		o.Note("the first rows were not tried in the table: " + server.Reason(err))
		return nil
	}
	return fmt.Errorf("try the first rows: %w", err)
}

// refusing are the codes of errors that concern the rows, beside those of data.
var refusing = []string{pgerrcode.RaiseException, pgerrcode.DatatypeMismatch, pgerrcode.TriggeredActionException, pgerrcode.FeatureNotSupported}
