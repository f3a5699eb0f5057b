package dataset

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"bulkload/loader/commit"
	"bulkload/loader/server"
)

// UnsureTable returns why a look-up cannot tell which rows of a load are in a table, whatever the
// types of its columns; empty if it can. It is the end of a sentence, like that of the others here.
func UnsureTable(t *server.Table) string {
	switch {
	case t.Deferrable:
		return fmt.Sprintf("cannot tell which rows are loaded: the primary key of %s is deferrable", t.Display())
	case len(t.OnInsert) > 0:
		return fmt.Sprintf("cannot tell which rows are loaded: trigger %s of %s may change them", strings.Join(t.OnInsert, ", "), t.Display())
	case t.Rules:
		return fmt.Sprintf("cannot tell which rows are loaded: %s has rules, which may change them", t.Display())
	case t.RowSecurity:
		return fmt.Sprintf("cannot tell which rows are loaded: row-level security of %s may hide them", t.Display())
	}
	return ""
}

// UnsureColumns returns why a look-up cannot compare the values of columns with the texts that
// they come from; empty if it can. Names that are no columns do not matter.
func UnsureColumns(t *server.Table, p server.Product, names []string) string {
	for _, name := range names {
		c := t.Column(name)
		if c == nil {
			continue
		}
		if why := UnsureType(c, p, slices.Contains(t.Primary, c.Name)); why != "" {
			return fmt.Sprintf("cannot tell which rows are loaded: column %s is %s, %s", pgx.Identifier{c.Name}.Sanitize(), c.Type, why)
		}
	}
	return ""
}

// UnsureKeys returns why the server cannot compare the keys of two rows of options; empty if it
// can. It reads nothing of the table. In the same round trip it sets the began of a new load, as
// Began returns it.
func UnsureKeys(ctx context.Context, o *Opening, opts commit.Options, began *string) (string, error) {
	committer, err := commit.New(o.DB, o.Info, opts)
	if err != nil {
		return "", &TableError{Reason: err.Error()}
	}
	var refused error
	err = server.Together(ctx, o.DB, func(ctx context.Context, db server.Querier) error {
		err := committer.CheckKeysOn(ctx, db)
		if err != nil && server.Classify(err) == server.Permanent {
			refused, err = err, nil
		}
		return err
	}, func(ctx context.Context, db server.Querier) (err error) {
		if o.Resumed == "" {
			*began, err = Began(ctx, db, o.Info)
		}
		return err
	})
	if err != nil || refused == nil {
		return "", err
	}
	return "cannot tell which rows are loaded: " + server.Reason(refused), nil
}

// AgainstStatements returns what speaks against the statement mode as an automatic choice, beside
// the reasons of UnsureTable and UnsureColumns; empty if nothing does. The mode must be exact
// whatever happens, so its bar is higher here than for a user who asks for it and knows what others
// do to the table. names are the columns that the load writes.
func AgainstStatements(o *Opening, t *server.Table, names []string) string {
	switch {
	case !t.Empty:
		return hasRows
	case o.Pooled:
		return "--commit statement is not exact through a pooler, which may deliver a statement late"
	case t.Expires:
		return fmt.Sprintf("--commit statement cannot tell missing rows of %s from rows that have expired", t.Display())
	case t.OID != 0 && t.Version == 0:
		return "--commit statement cannot tell whether the definition of the table changes during the load"
	}
	for _, name := range names {
		if c := t.Column(name); c != nil && c.OnUpdate {
			return fmt.Sprintf("--commit statement cannot tell which rows are loaded: column %s changes with each UPDATE of its row", pgx.Identifier{c.Name}.Sanitize())
		}
	}
	return ""
}

// hasRows stands against the statement mode: others may delete or change rows meanwhile.
const hasRows = "the table had rows, so others may use it; --commit statement is about twice as fast, but exact only if nobody deletes or changes loaded rows before the load ends"

// Began asks the server for the time at which a load begins, as commit.Options have it.
func Began(ctx context.Context, db server.Querier, info server.Info) (began string, err error) {
	if err = db.QueryRow(ctx, commit.Stamp(info.Product)).Scan(&began); err != nil {
		return "", fmt.Errorf("ask the server for the time: %w", err)
	}
	return began, nil
}

// CheckStatement lets the server check the statement that computes columns, before the first row.
// flag names what holds the expressions. The error is a *TableError; other errors than those of
// the statement surface during the load.
func CheckStatement(ctx context.Context, o *Opening, opts commit.Options, flag string) error {
	ctx, cancel := context.WithTimeout(ctx, server.ConnectTimeout)
	defer cancel()
	conn, err := o.DB.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	_, err = conn.Conn().PgConn().Prepare(ctx, "", commit.Compose(opts, o.Info.Product), nil)
	if err == nil || server.Code(err) == pgerrcode.UndefinedTable {
		return nil // a plan does not create the table
	}
	switch server.Classify(err) {
	case server.Permanent, server.Data:
		return &TableError{Reason: flag + ": " + server.Reason(err)}
	}
	return nil
}
