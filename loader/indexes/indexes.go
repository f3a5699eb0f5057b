// Package indexes drops the secondary indexes of an empty table before a load, and creates them
// again after the last row. The statements that create them again are in the registry before
// the first index is dropped. The package loads no rows.
package indexes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/chunker/keysize"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// Deferrable returns the statements that drop and create again the secondary indexes of a
// table. The error is a *dataset.TableError if they cannot be deferred: each must come back
// with everything that belongs to it.
func Deferrable(ctx context.Context, db *pgxpool.Pool, info server.Info, t *server.Table, conflict commit.Conflict) ([]server.Remake, error) {
	name := t.Display()
	switch {
	case !t.Empty:
		return nil, dataset.Refuse("%s has rows; --indexes defer needs an empty table", name)
	case len(t.ReferencedBy) > 0:
		return nil, dataset.Refuse("%s is referenced by %s, which needs the unique indexes; use --indexes keep", name, t.ReferencedBy[0].Table)
	}
	list, err := server.Remakes(ctx, db, info, t)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(x server.Remake) bool {
		return slices.ContainsFunc(t.Indexes, func(i server.TableIndex) bool { return i.Name == x.Name && stays(i) })
	})
	for _, x := range list {
		if x.Identity && conflict == commit.UpdateRow {
			x.Refusal = "it is the replica identity, which --on-conflict update needs"
		}
		if x.Refusal != "" {
			return nil, dataset.Refuse("index %s of %s could not be recreated: %s; use --indexes keep", x.Name, name, x.Refusal)
		}
	}
	return list, nil
}

// stays reports whether an index is not dropped: the primary key, and CockroachDB's vector
// indexes, which are slower to build anew than to maintain during the load.
func stays(x server.TableIndex) bool { return x.Primary || x.Method == "vector" }

// Without returns the description of a table without its secondary indexes.
func Without(t *server.Table) *server.Table {
	bare := *t
	bare.Indexes = slices.DeleteFunc(slices.Clone(t.Indexes), func(x server.TableIndex) bool { return !stays(x) })
	bare.Keys.Indexes = slices.DeleteFunc(slices.Clone(t.Keys.Indexes), func(x keysize.Index) bool {
		return !slices.ContainsFunc(bare.Indexes, func(i server.TableIndex) bool { return i.Name == x.Name })
	})
	return &bare
}

// A Deferral describes the deferred indexes of one load.
type Deferral struct {
	ID       string // of the load
	Server   *server.Server
	DB       *pgxpool.Pool
	Registry *registry.Registry
	Table    pgx.Identifier
	// Unique are the unique indexes, to name duplicates.
	Unique []Unique
}

// Drop records the statements that create the indexes again, and drops the indexes. It returns
// a note for the user.
func (d *Deferral) Drop(ctx context.Context, list []server.Remake) (note string, err error) {
	records := make([]registry.Index, len(list))
	for i, x := range list {
		text, err := json.Marshal(x)
		if err != nil {
			return "", fmt.Errorf("store the definition of index %s: %w", x.Name, err)
		}
		records[i] = registry.Index{Name: x.Name, Create: string(text)}
	}
	if err := d.Registry.Defer(ctx, d.ID, records); err != nil {
		return "", err
	}
	name, identity := server.Display(d.Table), ""
	for _, x := range list {
		if _, err := d.DB.Exec(ctx, x.Drop); err != nil && server.Code(err) != pgerrcode.UndefinedObject {
			return "", server.Failed("drop index "+x.Name, err)
		}
		if x.Identity {
			identity = fmt.Sprintf("; until then %s has no replica identity, and UPDATE and DELETE fail where they are published", name)
		}
	}
	return fmt.Sprintf("%s of %s dropped until the last row is loaded%s", Count(len(list), "is", "are"), name, identity), nil
}

// remake decodes an index from the registry. Earlier versions recorded a single statement.
func remake(x registry.Index) (server.Remake, error) {
	r := server.Remake{Name: x.Name, Create: x.Create}
	if !strings.HasPrefix(x.Create, "{") {
		return r, nil
	}
	err := json.Unmarshal([]byte(x.Create), &r)
	return r, err
}

// Count returns a number of secondary indexes in words, with a verb.
func Count(n int, one, many string) string {
	if n == 1 {
		return "the secondary index " + one
	}
	return fmt.Sprintf("%d secondary indexes %s", n, many)
}

// An Error reports that a deferred index could not be created again. Its statement stays in the
// registry: resuming the load tries again.
type Error struct {
	Name       string
	Duplicates []string // for a unique index, some of the repeated keys
	Err        error
}

func (e *Error) Error() string {
	s := fmt.Sprintf("recreate index %s: %s", e.Name, server.Reason(e.Err))
	if len(e.Duplicates) > 0 {
		s += "; rows share " + strings.Join(e.Duplicates, ", ")
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Restore creates the load's deferred indexes again, if there are any and the table still
// exists. The error is an *Error, or a connection's.
func (d *Deferral) Restore(ctx context.Context, note func(string)) error {
	return d.Registry.Restore(ctx, d.ID, func(x registry.Index) error {
		r, err := remake(x)
		if err != nil {
			return &Error{Name: x.Name, Err: err}
		}
		there, err := d.hasIndex(ctx, x.Name)
		var none *server.TargetError
		if errors.As(err, &none) {
			note(fmt.Sprintf("index %s is not recreated: %v", x.Name, err))
			return nil
		}
		if err != nil {
			return err
		}
		if !there {
			note(fmt.Sprintf("recreating index %s", x.Name))
			if err := d.makeIndex(ctx, r, note); err != nil {
				return &Error{Name: x.Name, Duplicates: d.duplicates(ctx, r, err), Err: err}
			}
		}
		// Also if the index exists: the run that created it may have died before this step.
		if err := d.equip(ctx, r); err != nil {
			return &Error{Name: x.Name, Err: err}
		}
		return nil
	})
}

// hasIndex reports whether the table has an index of that name.
func (d *Deferral) hasIndex(ctx context.Context, name string) (bool, error) {
	t, err := server.Describe(ctx, d.DB, d.Server.Info, d.Table)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(t.Indexes, func(x server.TableIndex) bool { return x.Name == name }), nil
}

// pendingPoll is the interval of retries while an older run's statement is running.
const pendingPoll = 200 * time.Millisecond

// makeIndex creates an index again. The statement of a run that died may still be running:
// PostgreSQL continues it until it has something to send, and CockroachDB runs it as a job that
// outlives the session. makeIndex waits for its end without a time limit.
func (d *Deferral) makeIndex(ctx context.Context, x server.Remake, note func(string)) error {
	for told := false; ; {
		err := d.create(ctx, x)
		if err == nil {
			return nil
		}
		if there, lookErr := d.hasIndex(ctx, x.Name); lookErr == nil && there {
			return nil
		}
		if !pending(err) {
			return err
		}
		if !told {
			note(fmt.Sprintf("index %s: waiting for a statement of an older run: %s", x.Name, server.Reason(err)))
			told = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pendingPoll):
		}
	}
}

// pending reports whether CREATE INDEX was refused only because an index of that name is being
// added or dropped: 42P07 while CockroachDB adds it, 55000 while it drops it.
func pending(err error) bool {
	switch server.Code(err) {
	case pgerrcode.DuplicateTable, pgerrcode.ObjectNotInPrerequisiteState, pgerrcode.SerializationFailure, pgerrcode.DeadlockDetected, pgerrcode.LockNotAvailable:
		return true
	}
	return false
}

// create runs the statement without the time limit of chunks.
func (d *Deferral) create(ctx context.Context, x server.Remake) error {
	return server.WithoutTimeout(ctx, d.DB, func(c *pgx.Conn) error {
		if strings.Contains(x.Create, "USING HASH") && d.Server.Product == server.CockroachDB && !d.Server.AtLeast(22, 1, 0) {
			if _, err := c.Exec(ctx, "SET experimental_enable_hash_sharded_indexes = on"); err != nil {
				return err
			}
		}
		if d.Server.Product == server.PostgreSQL {
			if err := server.Set(ctx, c, "default_tablespace", x.Tablespace); err != nil {
				return err
			}
		}
		_, err := c.Exec(ctx, x.Create)
		return err
	})
}

// equip adds the comments, settings and constraints that belong to an index.
func (d *Deferral) equip(ctx context.Context, x server.Remake) error {
	if len(x.Then) == 0 {
		return nil
	}
	return server.WithoutTimeout(ctx, d.DB, func(c *pgx.Conn) error {
		for _, statement := range x.Then {
			if _, err := c.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

// duplicatesShown is the number of repeated keys that an error names.
const duplicatesShown = 3

// duplicates returns some of the keys that prevent a unique index.
func (d *Deferral) duplicates(ctx context.Context, x server.Remake, err error) []string {
	if server.Classify(err) != server.Duplicate {
		return nil
	}
	i := slices.IndexFunc(d.Unique, func(u Unique) bool { return u.Name == x.Name })
	if i < 0 {
		return nil
	}
	u := d.Unique[i]
	columns := u.sql()
	var where []string
	if u.Where != "" {
		where = append(where, "("+u.Where+")")
	}
	if !strings.Contains(x.Create, "NULLS NOT DISTINCT") {
		for _, c := range columns {
			where = append(where, c+" IS NOT NULL")
		}
	}
	if len(where) == 0 {
		where = []string{"true"}
	}
	list := strings.Join(columns, ", ")
	row := "CAST(" + list + " AS TEXT)"
	if len(columns) > 1 {
		row = "CAST((" + list + ") AS TEXT)"
	}
	found, err := d.DB.Query(ctx, fmt.Sprintf("SELECT %s, count(*) FROM %s WHERE %s GROUP BY %s HAVING count(*) > 1 LIMIT %d",
		row, d.Table.Sanitize(), strings.Join(where, " AND "), list, duplicatesShown))
	if err != nil {
		return nil
	}
	var shared []string
	var key string
	var n int64
	// The duplicates only complete the index's own error.
	_, _ = pgx.ForEachRow(found, []any{&key, &n}, func() error {
		shared = append(shared, fmt.Sprintf("(%s) = %s, %d times", strings.Join(u.names(), ", "), key, n))
		return nil
	})
	return shared
}

// A Unique is the definition of a unique index, used to name its duplicates.
type Unique struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"`         // an expression is ""
	Exprs   []string `json:"exprs,omitempty"` // the expressions, by column
	Where   string   `json:"where,omitempty"` // of a partial index
}

// names returns the columns and expressions of the index, for messages.
func (u Unique) names() []string {
	list := slices.Clone(u.Columns)
	for i, c := range list {
		if c == "" {
			list[i] = u.Exprs[i]
		}
	}
	return list
}

// sql returns the columns and expressions of the index, as SQL.
func (u Unique) sql() []string {
	list := make([]string, len(u.Columns))
	for i, c := range u.Columns {
		if list[i] = (pgx.Identifier{c}).Sanitize(); c == "" {
			list[i] = "(" + u.Exprs[i] + ")"
		}
	}
	return list
}

// UniqueOf returns the unique indexes of a table. It leaves out indexes of expressions on
// CockroachDB, which does not show the expressions.
func UniqueOf(t *server.Table) []Unique {
	var list []Unique
	for _, x := range t.Indexes {
		// The column of a hash-sharded index is left out: it has no meaning for users.
		u := Unique{Name: x.Name, Columns: x.Columns[x.Implicit:], Where: x.Condition}
		known := x.Unique && !x.Primary
		for i, expr := range x.Exprs[x.Implicit:] {
			if expr != "" && u.Exprs == nil {
				u.Exprs = make([]string, len(u.Columns))
			}
			if expr != "" {
				u.Exprs[i] = expr
			}
			known = known && !strings.HasPrefix(expr, "crdb_internal_idx_expr")
		}
		if known {
			list = append(list, u)
		}
	}
	return list
}
