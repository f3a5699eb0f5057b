package anytable

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// Order returns the order in which tables are filled, as indexes of their names: those to which
// foreign keys of others point come first. In a cycle a key that may be NULL waits for no other
// table. The error is a *dataset.TableError if a table does not exist.
func Order(ctx context.Context, srv *server.Server, names []string) ([]int, error) {
	pool, err := srv.Pool(ctx, server.Sessions{Name: "loader rows", Max: 1})
	if err != nil {
		return nil, err
	}
	defer server.ClosePool(pool)
	tables := make([]*catalogue, len(names))
	for i, name := range names {
		id, err := server.ParseTable(name)
		if err != nil {
			return nil, &dataset.TableError{Reason: err.Error(), Flags: true}
		}
		t, err := server.Describe(ctx, pool, srv.Info, id)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(tables[:i], func(c *catalogue) bool { return c.table.OID == t.OID }) {
			return nil, dataset.Contradict("--table names %s twice", t.Display())
		}
		tables[i] = &catalogue{table: t, info: srv.Info}
		if err := tables[i].readForeignKeys(ctx, pool); err != nil {
			return nil, fmt.Errorf("describe the foreign keys of %s: %w", t.Display(), err)
		}
	}
	var order []int
	// waits reports whether a table has a foreign key to one that is not filled yet.
	waits := func(i int, nullable bool) bool {
		return slices.ContainsFunc(tables[i].keys, func(k foreignKey) bool {
			if k.oid == int64(tables[i].table.OID) {
				return false
			}
			if nullable && slices.ContainsFunc(k.columns, func(c string) bool { return !tables[i].table.Column(c).NotNull }) {
				return false
			}
			at := slices.IndexFunc(tables, func(c *catalogue) bool { return int64(c.table.OID) == k.oid })
			return at >= 0 && !slices.Contains(order, at)
		})
	}
	for len(order) < len(names) {
		next := -1
		for _, nullable := range []bool{false, true} {
			for i := range names {
				if next < 0 && !slices.Contains(order, i) && !waits(i, nullable) {
					next = i
				}
			}
		}
		if next < 0 {
			return nil, cycle(tables, order)
		}
		order = append(order, next)
	}
	return order, nil
}

// cycle returns the error of tables of which each waits for another one.
func cycle(tables []*catalogue, order []int) error {
	var keys []string
	first := ""
	for i, c := range tables {
		if slices.Contains(order, i) {
			continue
		}
		if first == "" {
			first = c.table.Display()
		}
		for _, k := range c.keys {
			at := slices.IndexFunc(tables, func(o *catalogue) bool { return int64(o.table.OID) == k.oid })
			if at >= 0 && at != i && !slices.Contains(order, at) {
				keys = append(keys, fmt.Sprintf("%s of %s", k.name, c.table.Display()))
			}
		}
	}
	return dataset.Refuse("table %s: foreign keys point in a cycle and none of them allows NULL (%s); rows of one table are committed before those of the next, so that not even a deferrable key can wait: drop one of the keys and add it again afterwards", first, strings.Join(keys, ", "))
}
