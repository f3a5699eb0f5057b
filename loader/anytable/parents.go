package anytable

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// parents is a foreign key of the table, with the rows to which it may point.
type parents struct {
	foreignKey
	index  int   // of planner.parents
	count  int64 // keys to point to
	picked bool  // its rules are made
	none   bool  // its columns are NULL
	self   bool  // it points to the table itself
	all    bool  // its keys are computed, not read
	fields []*field
}

// rows returns the number of keys to which the foreign key may point.
func (r *parents) rows() int64 { return r.count }

func (r *parents) name() string { return server.Display(r.table) }

// Sizes of the sample of a parent's keys. The sample is a part of the load's record. A key that
// each row must have for itself needs as many as there are rows.
const (
	sampleKeys    = 1000
	maxSampleKeys = 100_000
)

// readParents reads a sample of the keys to which each foreign key may point.
func (p *planner) readParents(ctx context.Context, db server.Querier) error {
	for _, k := range p.catalogue.keys {
		r := &parents{foreignKey: k, self: k.oid == int64(p.table.OID)}
		nullable := false
		if slices.ContainsFunc(k.columns, func(c string) bool { f := p.field(c); return f != nil && f.rule != nil }) {
			continue // --value says what it points to
		}
		for _, c := range k.columns {
			f := p.field(c)
			if f == nil {
				return dataset.Refuse("table %s: foreign key %s has column %s, which the server computes", p.table.Display(), k.name, c)
			}
			if f.key != nil {
				return dataset.Refuse("table %s: column %s belongs to two foreign keys, %s and %s; loader rows cannot fill such a table", p.table.Display(), c, f.key.foreignKey.name, k.name)
			}
			nullable = nullable || !f.NotNull
			r.none = r.none || f.null // a CHECK allows nothing else
			r.fields = append(r.fields, f)
		}
		if r.self && !r.none {
			if err := p.selfReference(r, nullable); err != nil {
				return err
			}
			continue
		}
		if r.none && nullable {
			r.picked = true
			for _, f := range r.fields {
				if !f.NotNull {
					f.key, f.left = r, true
				}
			}
			continue
		}
		of, err := p.readKeys(ctx, db, r)
		if err != nil {
			return fmt.Errorf("read keys of %s: %w", r.name(), err)
		}
		if r.count == 0 {
			if !nullable {
				return dataset.Refuse("table %s: foreign key %s refers to %s, which has no rows; load %s first", p.table.Display(), k.name, r.name(), r.name())
			}
			r.none, r.picked = true, true
			p.notes = append(p.notes, fmt.Sprintf("%s has no rows: the columns of foreign key %s are NULL", r.name(), k.name))
		} else {
			r.index = len(p.parents)
			p.parents = append(p.parents, of)
			p.refs = append(p.refs, r)
		}
		for _, f := range r.fields {
			if r.none && f.NotNull {
				continue // another column of the key is NULL
			}
			f.key, f.left = r, r.none
		}
	}
	return nil
}

// readKeys finds the keys of a parent: those that a load of rows made are computed, of any other
// parent a sample is read.
func (p *planner) readKeys(ctx context.Context, db server.Querier, r *parents) (parent, error) {
	of := parent{Table: r.name(), Columns: r.references}
	var err error
	if of.Computed, err = p.computedParent(ctx, db, r.foreignKey, r.fields); err != nil {
		return of, err
	}
	if of.Computed != nil {
		r.count, r.all = of.Computed.Rows, true
		return of, nil
	}
	want := int64(sampleKeys)
	if p.inUnique(r.fields) {
		want = min(max(want, p.rows), maxSampleKeys)
	}
	of.Sample, err = readSample(ctx, db, r.foreignKey, r.fields, want)
	if err == nil {
		r.count = int64(len(of.Sample[0]))
	}
	return of, err
}

// selfReference makes the rules of a foreign key to the table itself: rows point to earlier rows,
// the first one to none or to itself. Where a unique key has no other columns, or the server makes
// the key, its columns are NULL.
func (p *planner) selfReference(r *parents, nullable bool) error {
	computed := !slices.ContainsFunc(r.references, func(c string) bool { return p.field(c) == nil })
	for _, x := range p.unique() {
		free := slices.ContainsFunc(x.Columns, func(c string) bool { return !slices.Contains(r.columns, c) })
		computed = computed && (free || len(x.Columns) == 0)
	}
	if r.picked = true; computed {
		r.index, r.count = len(p.parents), p.rows
		p.parents = append(p.parents, parent{Table: r.name(), Self: true, Columns: r.references})
		pk, why := pick{Kind: earlier}, "an earlier row of the table"
		if slices.ContainsFunc(r.fields, func(f *field) bool { return f.NotNull }) {
			pk.Of, why = r.references[0], why+", or the first one itself"
		}
		for _, f := range r.fields {
			f.key = r
		}
		p.pickParent(r, pk, why)
		p.earlier = r.foreignKey.name
		p.notes = append(p.notes, fmt.Sprintf("foreign key %s refers to earlier rows of the table, so chunks are committed one after the other", r.foreignKey.name))
		return nil
	}
	if !nullable {
		return dataset.Refuse("table %s: foreign key %s refers to the table itself and allows no NULL, but loader cannot compute keys to refer to", p.table.Display(), r.foreignKey.name)
	}
	r.none = true
	for _, f := range r.fields {
		f.left = !f.NotNull
		if !f.NotNull {
			f.key = r
		}
	}
	p.notes = append(p.notes, fmt.Sprintf("foreign key %s refers to the table itself: its columns are NULL", r.foreignKey.name))
	return nil
}

// inUnique reports whether a column of the foreign key is a part of a unique key.
func (p *planner) inUnique(fields []*field) bool {
	return slices.ContainsFunc(p.unique(), func(x server.TableIndex) bool {
		return slices.ContainsFunc(fields, func(f *field) bool { return slices.Contains(x.Columns, f.Name) })
	})
}

// readSample reads up to n keys of a parent that fit the fields, column by column.
func readSample(ctx context.Context, db server.Querier, k foreignKey, fields []*field, n int64) ([][]string, error) {
	var texts, whole []string
	for i, c := range k.references {
		name := pgx.Identifier{c}.Sanitize()
		texts, whole = append(texts, name+"::TEXT"), append(whole, name+" IS NOT NULL")
		if f := fields[i]; f.class() == ofInts {
			if low, high, _, _ := f.bounds(); low > math.MinInt64 { // else every number fits
				whole = append(whole, fmt.Sprintf("%s BETWEEN %d AND %d", name, low, high))
			}
		}
	}
	found, err := db.Query(ctx, fmt.Sprintf("SELECT %s FROM %s WHERE %s LIMIT %d", strings.Join(texts, ", "), k.table.Sanitize(), strings.Join(whole, " AND "), n))
	if err != nil {
		return nil, err
	}
	sample := make([][]string, len(k.references))
	values, targets := make([]string, len(sample)), make([]any, len(sample))
	for i := range values {
		targets[i] = &values[i]
	}
	_, err = pgx.ForEachRow(found, targets, func() error {
		for i, v := range values {
			sample[i] = append(sample[i], v)
		}
		return nil
	})
	return sample, err
}

// pickParent makes the rules of a foreign key's columns: all of them pick the same parent.
func (p *planner) pickParent(r *parents, pk pick, why string) {
	r.picked = true
	nulls := 0.0
	if !slices.ContainsFunc(r.fields, func(f *field) bool { return f.NotNull }) && (pk.Kind == uniformly || pk.Kind == earlier) {
		nulls = p.nulls
	}
	for i, f := range r.fields {
		f.rule = &rule{
			Column: f.Name, Group: "key " + r.foreignKey.name, Nulls: nulls, Pick: pk,
			Form: form{Kind: asParent, Parent: r.index, Column: r.references[i]}, Why: why,
		}
	}
}

// references makes the rules of foreign keys that belong to no unique key.
func (p *planner) references() error {
	for _, r := range p.refs {
		if !r.picked {
			why := fmt.Sprintf("any of %d keys of %s", r.count, r.name())
			if r.count == 1 {
				why = "the only key of " + r.name()
			}
			if r.all {
				why += ", computed"
			}
			p.pickParent(r, pick{Kind: uniformly, N: uint64(r.count)}, why)
		}
	}
	return nil
}
