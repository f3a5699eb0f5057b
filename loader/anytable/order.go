package anytable

import (
	"context"
	"fmt"
	"slices"

	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// A Step fills one of several tables.
type Step struct {
	Table int // index of its name
	// Cycle are tables without rows whose foreign keys point to each other and allow no NULL, with
	// the one of the step; nil: there are none. Begin writes a row into each before the step.
	Cycle []int
}

// Order returns the steps that fill tables: those to which foreign keys of others point come first.
// In a cycle a key that may be NULL, or that points to a table with rows, waits for no other table.
// The error is a *dataset.TableError if a table does not exist.
func Order(ctx context.Context, srv *server.Server, names []string) ([]Step, error) {
	pool, err := srv.Pool(ctx, server.Sessions{Name: "loader rows", Max: 1})
	if err != nil {
		return nil, err
	}
	defer server.ClosePool(pool)
	o := &order{}
	for _, name := range names {
		c, err := describe(ctx, pool, srv.Info, name)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(o.tables, func(x *catalogue) bool { return x.table.OID == c.table.OID }) {
			return nil, dataset.Contradict("--table names %s twice", c.table.Display())
		}
		if err := c.readForeignKeys(ctx, pool); err != nil {
			return nil, fmt.Errorf("describe the foreign keys of %s: %w", c.table.Display(), err)
		}
		o.tables = append(o.tables, c)
	}
	for len(o.steps) < len(names) {
		step := Step{Table: o.next()}
		if step.Table < 0 {
			step.Cycle = o.cycle()
			step.Table = o.next()
		}
		o.steps = append(o.steps, step)
	}
	return o.steps, nil
}

// next returns a table that waits for no other; -1: each does.
func (o *order) next() int {
	for wait := always; wait <= unlessRows; wait++ {
		if i := slices.IndexFunc(o.tables, func(c *catalogue) bool { return !o.filled(c) && len(o.waits(c, wait)) == 0 }); i >= 0 {
			return i
		}
	}
	return -1
}

// describe describes the table of a name.
func describe(ctx context.Context, db server.Querier, info server.Info, name string) (*catalogue, error) {
	id, err := server.ParseTable(name)
	if err != nil {
		return nil, &dataset.TableError{Reason: err.Error(), Flags: true}
	}
	t, err := server.Describe(ctx, db, info, id)
	if err != nil {
		return nil, err
	}
	return &catalogue{table: t, info: info}, nil
}

// An order is the state of Order.
type order struct {
	tables []*catalogue
	steps  []Step
	begun  []int // tables of cycles, which have a row
}

// A waiting says which foreign keys wait for their table.
type waiting int

// The waitings, each with fewer keys than the one before.
const (
	always waiting = iota
	unlessNull
	unlessMany // but for keys that point to one of some rows, and need no row of their own
	unlessRows
)

func (o *order) filled(c *catalogue) bool {
	return slices.ContainsFunc(o.steps, func(s Step) bool { return o.tables[s.Table] == c })
}

// waits returns the tables for which the foreign keys of a table wait.
func (o *order) waits(c *catalogue, wait waiting) (list []int) {
	for _, k := range c.keys {
		at := slices.IndexFunc(o.tables, func(p *catalogue) bool { return int64(p.table.OID) == k.oid })
		switch {
		case at < 0, o.tables[at] == c, o.filled(o.tables[at]):
		case wait >= unlessNull && slices.ContainsFunc(k.columns, func(name string) bool { return !c.table.Column(name).NotNull }):
		case wait == unlessMany && c.ownRow(k):
			list = append(list, at)
		case wait >= unlessMany && (!o.tables[at].table.Empty || o.hasBegun(o.tables[at]) && o.hasBegun(c)):
		default:
			list = append(list, at)
		}
	}
	return list
}

// hasBegun reports whether a table belongs to a cycle in which each has a row.
func (o *order) hasBegun(c *catalogue) bool {
	return slices.ContainsFunc(o.begun, func(at int) bool { return o.tables[at] == c })
}

// ownRow reports whether each row needs a parent of its own.
func (c *catalogue) ownRow(k foreignKey) bool {
	return slices.ContainsFunc(c.table.Indexes, func(x server.TableIndex) bool {
		return x.Unique && !slices.ContainsFunc(x.Columns, func(name string) bool { return !slices.Contains(k.columns, name) })
	})
}

// cycle returns tables that wait for each other, where each table that is left waits for one. It
// takes them as begun.
func (o *order) cycle() []int {
	first := slices.IndexFunc(o.tables, func(c *catalogue) bool { return !o.filled(c) })
	// Tables that wait for a cycle may not belong to it: one that is waited for does.
	for range o.tables {
		first = o.waits(o.tables[first], unlessRows)[0]
	}
	list := []int{first}
	for i := 0; i < len(list); i++ {
		for _, at := range o.waits(o.tables[list[i]], unlessRows) {
			if !slices.Contains(list, at) {
				list = append(list, at)
			}
		}
	}
	o.begun = append(o.begun, list...)
	return list
}
