package load

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/server"
)

// ensureTable describes the table, and creates it first where it is missing.
func (l *Load) ensureTable(ctx context.Context, name pgx.Identifier) (*server.Table, error) {
	t, err := server.Describe(ctx, l.pool, l.srv.Info, name)
	if errors.Is(err, server.ErrNoTable) {
		ddl, _, refused := l.Dataset.Create(l.srv.Product, name)
		if refused != nil {
			return nil, &TableError{Reason: fmt.Sprintf("%v; %v", err, refused)}
		}
		if err := server.CreateIfMissing(ctx, l.pool, "table", name.Sanitize(), ddl); err != nil {
			return nil, err
		}
		if len(l.Dataset.Facts().Table) == 0 { // not one that everybody knows
			l.tell("table created: " + ddl)
		}
		return server.Describe(ctx, l.pool, l.srv.Info, name)
	}
	return t, asTableError(err)
}

// asTableError makes a *TableError of a name that is no table's.
func asTableError(err error) error {
	var target *server.TargetError
	if errors.As(err, &target) {
		return &TableError{Reason: err.Error()}
	}
	return err
}
