package load

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// Indexes says what becomes of the table's secondary indexes during a load.
type Indexes string

// The choices.
const (
	KeepIndexes  Indexes = "keep"
	DeferIndexes Indexes = "defer" // dropped before the first row, made again after the last
)

// deferIndexes drops the secondary indexes of an empty table. Before the first is
// dropped, the registry has what makes them again.
func (l *Load) deferIndexes(ctx context.Context) error {
	name := l.Table.Display()
	switch {
	case l.registry == nil:
		return &TableError{"--indexes defer needs the registry, which keeps what makes the indexes again; it does not go with --no-registry"}
	case !l.Table.Empty:
		return &TableError{fmt.Sprintf("%s has rows; --indexes defer is for empty tables, whose indexes nobody misses meanwhile", name)}
	case len(l.Table.ReferencedBy) > 0:
		return &TableError{fmt.Sprintf("%s is referenced by %s, which needs its unique indexes; use --indexes keep", name, l.Table.ReferencedBy[0].Table)}
	}
	var list []registry.Index
	var drops []string
	for _, x := range l.Table.Indexes {
		if x.Primary {
			continue
		}
		if x.Create == "" || x.Drop == "" {
			return &TableError{fmt.Sprintf("index %s of %s cannot be made again by a statement; use --indexes keep", x.Name, name)}
		}
		list = append(list, registry.Index{Name: x.Name, Create: x.Create})
		drops = append(drops, x.Drop)
	}
	if len(list) == 0 {
		return nil
	}
	if err := l.registry.Defer(ctx, l.ID, list); err != nil {
		return err
	}
	for i, drop := range drops {
		if _, err := l.pool.Exec(ctx, drop); err != nil && server.Code(err) != "42704" {
			restore := l.restoreIndexes(ctx, func(string) {})
			return errors.Join(&server.CreateError{What: "room by dropping index", Name: list[i].Name, Err: err}, restore)
		}
	}
	l.Notes = append(l.Notes, fmt.Sprintf("%d secondary indexes of %s are dropped and made again after the last row", len(list), name))
	var err error
	l.Table, err = server.Describe(ctx, l.pool, l.srv.Info, l.Table.Name)
	return err
}

// An IndexError says that a deferred index could not be made again. Its statement stays
// in the registry: resuming the load tries again.
type IndexError struct {
	Name       string
	Duplicates []string // for a unique index, some of the keys that rows share
	Err        error
}

func (e *IndexError) Error() string {
	s := fmt.Sprintf("make index %s again: %s", e.Name, server.Reason(e.Err))
	if len(e.Duplicates) > 0 {
		s += "; rows share " + strings.Join(e.Duplicates, ", ")
	}
	return s
}

func (e *IndexError) Unwrap() error { return e.Err }

// restoreIndexes makes the indexes again that the load has deferred, and does nothing
// where there are none.
func (l *Load) restoreIndexes(ctx context.Context, note func(string)) error {
	return l.registry.Restore(ctx, l.ID, func(x registry.Index) error {
		t, err := server.Describe(ctx, l.pool, l.srv.Info, l.spec.Table)
		if err != nil {
			return err
		}
		for _, there := range t.Indexes {
			if there.Name == x.Name {
				return nil
			}
		}
		note(fmt.Sprintf("making index %s again", x.Name))
		if err := l.makeIndex(ctx, x); err != nil {
			return &IndexError{Name: x.Name, Duplicates: l.duplicates(ctx, x, err), Err: err}
		}
		return nil
	})
}

// makeIndex runs the statement without the time limit of chunks.
func (l *Load) makeIndex(ctx context.Context, x registry.Index) error {
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	// The settings of this session are others': it is not given back.
	c := conn.Hijack()
	defer c.Close(context.WithoutCancel(ctx))
	if _, err := c.Exec(ctx, "SET statement_timeout = 0"); err != nil {
		return err
	}
	if strings.Contains(x.Create, "USING HASH") && l.srv.Product == server.CockroachDB && !l.srv.AtLeast(22, 1, 0) {
		if _, err := c.Exec(ctx, "SET experimental_enable_hash_sharded_indexes = on"); err != nil {
			return err
		}
	}
	_, err = c.Exec(ctx, x.Create)
	return err
}

// duplicatesShown is the number of shared keys that an error names.
const duplicatesShown = 3

// duplicates names some keys that keep a unique index from being made.
func (l *Load) duplicates(ctx context.Context, x registry.Index, err error) []string {
	if server.Classify(err) != server.Duplicate {
		return nil
	}
	var columns string
	for _, known := range l.spec.Unique {
		if known.Name == x.Name {
			parts := make([]string, len(known.Columns))
			for i, c := range known.Columns {
				parts[i] = pgx.Identifier{c}.Sanitize()
			}
			columns = strings.Join(parts, ", ")
		}
	}
	if columns == "" {
		return nil
	}
	q := fmt.Sprintf("SELECT CAST((%s) AS TEXT), count(*) FROM %s GROUP BY %s HAVING count(*) > 1 LIMIT %d", columns, pgx.Identifier(l.spec.Table).Sanitize(), columns, duplicatesShown)
	if !strings.Contains(columns, ",") {
		q = strings.Replace(q, "CAST(("+columns+") AS TEXT)", "CAST("+columns+" AS TEXT)", 1)
	}
	found, err := l.pool.Query(ctx, q)
	if err != nil {
		return nil
	}
	var list []string
	var key string
	var n int64
	// What can be told is told; the error of the index itself is the news.
	_, _ = pgx.ForEachRow(found, []any{&key, &n}, func() error {
		list = append(list, fmt.Sprintf("(%s) = %s, %d times", strings.ReplaceAll(columns, `"`, ""), key, n))
		return nil
	})
	return list
}

// uniqueIndexes returns the columns of the table's unique indexes, to name duplicates.
func uniqueIndexes(t *server.Table) []uniqueIndex {
	var list []uniqueIndex
	for _, x := range t.Indexes {
		if x.Unique && !x.Primary && !x.Where && !strings.Contains(strings.Join(x.Columns, "\x00")+"\x00", "\x00\x00") && x.Columns[0] != "" {
			list = append(list, uniqueIndex{x.Name, x.Columns})
		}
	}
	return list
}

type uniqueIndex struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"`
}
