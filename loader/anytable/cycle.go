package anytable

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// Begin writes one row into each of the tables of a cycle, by one statement: foreign keys are
// checked at its end. It writes nothing where one of them has rows. The rows belong to no load. The
// text tells what was written; empty: nothing.
func Begin(ctx context.Context, srv *server.Server, names []string, cycle []int, seed uint64) (string, error) {
	pool, err := srv.Pool(ctx, server.Sessions{Name: "loader rows", Max: 1})
	if err != nil {
		return "", err
	}
	defer server.ClosePool(pool)
	var tables []*catalogue
	var shown []string
	for _, at := range cycle {
		c, err := describe(ctx, pool, srv.Info, names[at])
		if err != nil {
			return "", err
		}
		if !c.table.Empty {
			return "", nil // of an earlier run
		}
		if c, err = readCatalogue(ctx, pool, srv.Info, c.table); err != nil {
			return "", err
		}
		tables, shown = append(tables, c), append(shown, c.table.Display())
	}
	text, err := together(ctx, pool, tables, seed)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, commit.DefaultChunkTimeout)
	defer cancel()
	if _, err := pool.Exec(ctx, text); err != nil {
		switch class := server.Classify(err); class {
		case server.Data, server.Duplicate, server.Permanent:
			return "", dataset.Refuse("tables %s: their foreign keys form a cycle without NULL, and the server refuses one first row for each: %s; insert a row into each and run the command again", strings.Join(shown, ", "), server.Reason(err))
		}
		return "", fmt.Errorf("begin tables %s: %w", strings.Join(shown, ", "), err)
	}
	return fmt.Sprintf("one additional row of each of %s was inserted first, by one statement, since their foreign keys form a cycle without NULL", strings.Join(shown, ", ")), nil
}

// together returns the statement that writes one row into each table.
func together(ctx context.Context, db server.Querier, tables []*catalogue, seed uint64) (string, error) {
	// 1. The keys, with no value in columns that point to another of the tables.
	list := make([]*generator, len(tables))
	inner := func(k foreignKey) int {
		return slices.IndexFunc(tables, func(c *catalogue) bool { return int64(c.table.OID) == k.oid })
	}
	for i, c := range tables {
		p, err := newPlanner(c, 1, dataset.Mix(seed), 0)
		if err != nil {
			return "", err
		}
		for _, k := range c.keys {
			if at := inner(k); at >= 0 && at != i {
				for _, name := range k.columns {
					p.values = append(p.values, Value{name, spec{"const", ""}})
				}
			}
		}
		if list[i], err = p.plan(ctx, db); err != nil {
			return "", err
		}
		p.place(list[i], 0)
	}
	// 2. The values of those columns.
	for i, c := range tables {
		for _, k := range c.keys {
			at := inner(k)
			if at < 0 || at == i {
				continue
			}
			for n, name := range k.columns {
				b := &builder{generator: list[at], built: map[string]*column{}}
				of := list[at].rule(k.references[n])
				if of == nil {
					return "", dataset.Refuse("table %s: foreign key %s refers to column %s of %s, which the server computes, in a cycle that allows no NULL", c.table.Display(), k.name, k.references[n], tables[at].table.Display())
				}
				value, err := b.column(of)
				if err != nil {
					return "", err
				}
				text, _ := value.AppendValue(nil, 0)
				list[i].rule(name).Form.List = []string{string(text)}
			}
		}
	}
	var parts, counts []string
	for i, c := range tables {
		src, err := newSource(list[i], c.table, c.info.Product)
		if err != nil {
			return "", err
		}
		row, err := src.first(1)
		if err != nil {
			return "", err
		}
		part := fmt.Sprintf("row%d", i+1)
		parts = append(parts, fmt.Sprintf("%s AS (%s RETURNING 1)", part, insertOne(c.table, row)))
		counts = append(counts, "(SELECT count(*) FROM "+part+")")
	}
	return "WITH " + strings.Join(parts, ", ") + " SELECT " + strings.Join(counts, ", "), nil
}

// insertOne returns the INSERT of the first row of a chunk.
func insertOne(t *server.Table, c *rows.Chunk) string {
	var names, values []string
	for i := range c.Width() {
		col := c.Col(i)
		value := "NULL"
		if text, ok := col.Text(0); ok {
			value = commit.Literal(string(text), col.Type)
		}
		names, values = append(names, pgx.Identifier{col.Name}.Sanitize()), append(values, value)
	}
	overriding := ""
	if slices.ContainsFunc(t.Columns, func(c server.Column) bool {
		return c.Always && slices.Contains(names, pgx.Identifier{c.Name}.Sanitize())
	}) {
		overriding = " OVERRIDING SYSTEM VALUE"
	}
	return fmt.Sprintf("INSERT INTO %s (%s)%s VALUES (%s)", t.Name.Sanitize(), strings.Join(names, ", "), overriding, strings.Join(values, ", "))
}
