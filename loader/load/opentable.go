package load

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/importer"
	"bulkload/loader/indexes"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// inspect inspects the input. The input of a resumed load must not have changed.
func (o *opening) inspect(ctx context.Context) error {
	if o.purpose != toResume {
		return o.dataset.Inspect(ctx, o.forDataset())
	}
	if err := o.reopen(ctx); err != nil {
		if o.state == registry.Done && o.record.spec.unreplaced() && ctx.Err() == nil {
			return nil // all rows are loaded, and the swap needs no input
		}
		return fmt.Errorf("load %s: %w", o.record.load, err)
	}
	return nil
}

// waitOnline waits until the table is online again after another run's job, at most retryFor.
// The error says why the table cannot be read.
func (o *opening) waitOnline(ctx context.Context) error {
	ctx, done := loader.WithStop(ctx, o.req.Stop)
	defer done()
	ctx, cancel := context.WithTimeout(ctx, o.req.retryFor())
	defer cancel()
	return importer.Online(ctx, server.TimeoutPool{Pool: o.pool, Timeout: o.req.attemptTimeout()}, o.record.spec.Table)
}

// describeResumed describes the table of a resumed load, which jobs of another run may take offline.
func (o *opening) describeResumed(ctx context.Context) (*server.Table, error) {
	if o.imported == nil {
		return server.Describe(ctx, o.pool, o.srv.Info, o.record.spec.Table)
	}
	return importer.Describe(ctx, o.pool, o.srv.Info, o.record.spec.Table, o.req.retryFor(), o.waitOnline)
}

// findTable describes the table. A new load creates a missing table, and a preview describes the
// table that would be created.
func (o *opening) findTable(ctx context.Context) error {
	var err error
	switch {
	case o.attached: // the table cannot be described before the job has ended
		o.table = &server.Table{Name: o.record.spec.Table}
		return nil
	case o.purpose == toResume:
		o.table, err = o.describeResumed(ctx)
		return err
	}
	name, err := o.tableName()
	if err != nil {
		return err
	}
	if o.missing != "" {
		o.tell(fmt.Sprintf("database %s does not exist yet and would be created", o.missing))
		err = server.ErrNoTable
	} else {
		o.table, err = o.describe(ctx, name)
	}
	if !errors.Is(err, server.ErrNoTable) {
		return asTableError(err)
	}
	if other := otherCase(ctx, o.pool, name); other != "" {
		return dataset.Refuse("%v; there is one called %s: --table '%s'", err, other, other)
	}
	ddl, table, refused := o.dataset.Create(ctx, o.srv.Product, name)
	var target *TableError
	switch {
	case refused != nil && (!errors.As(refused, &target) || target.Flags):
		return refused
	case refused != nil && o.purpose == toPreview:
		return dataset.Refuse("no table %s; %v", server.Display(name), refused)
	case refused != nil:
		return dataset.Refuse("%v; %v", err, refused)
	case o.purpose == toPreview:
		o.ddl, o.table = ddl, table
		return nil
	}
	if err := server.CreateIfMissing(ctx, o.pool, "table", name.Sanitize(), ddl); err != nil {
		return err
	}
	if o.dataset.Facts().Table == "" { // a table outside the tutorial
		o.tell("table created: " + ddl)
	}
	o.table, err = server.DescribeCreated(ctx, o.pool, o.srv.Info, name)
	if err == nil && o.table.Empty && o.dataset.Facts().Table == "" {
		o.record.spec.Made = o.table.OID
	}
	return err
}

// describe describes the table of a new load, and asks ahead in the same round trips what later
// steps need.
func (o *opening) describe(ctx context.Context, name pgx.Identifier) (t *server.Table, err error) {
	readers := []func(context.Context, server.Querier) error{
		func(ctx context.Context, db server.Querier) (err error) {
			t, err = server.Describe(ctx, db, o.srv.Info, name)
			return err
		},
		func(ctx context.Context, db server.Querier) error {
			o.limitsRead = server.Limits(ctx, db, o.srv.Info)
			return nil
		},
	}
	if !o.req.NoRegistry {
		readers = append(readers, func(ctx context.Context, db server.Querier) error {
			o.ahead = registry.AskAhead(ctx, db, name, o.dataset.Facts().Kind, o.looksForUnfinished())
			return nil
		})
	}
	if o.srv.Product == server.PostgreSQL {
		readers = append(readers, func(ctx context.Context, db server.Querier) error {
			o.timeline = server.Timeline(ctx, db)
			return nil
		})
	}
	err = server.Together(ctx, o.pool, readers...)
	return t, err
}

// otherCase returns the table name, as --table takes it, that differs from name only in case;
// empty if there is none, or more than one.
func otherCase(ctx context.Context, db *pgxpool.Pool, name pgx.Identifier) string {
	schema := ""
	if len(name) > 1 {
		schema = name[len(name)-2]
	}
	var other []string
	if err := db.QueryRow(ctx, `SELECT array_agg(quote_ident(c.relname)) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND lower(c.relname) = lower($1) AND n.nspname = CASE $2 WHEN '' THEN current_schema() ELSE $2 END`,
		name[len(name)-1], schema).Scan(&other); err != nil || len(other) != 1 {
		return "" // only a hint: no reason to fail
	}
	return other[0]
}

// asTableError makes a *TableError of the error for an unknown table name.
func asTableError(err error) error {
	var target *server.TargetError
	if errors.As(err, &target) {
		return &TableError{Reason: err.Error()}
	}
	return err
}

// fit lets the dataset map its values to columns.
func (o *opening) fit(ctx context.Context) error { return o.dataset.Fit(ctx, o.forDataset()) }

// identify records the identity of the table. A load cannot be resumed into another table.
func (o *opening) identify(ctx context.Context) error {
	o.check = &tableCheck{record: o.record, table: o.table, timeline: o.timeline}
	switch {
	case o.attached:
		return nil
	case o.purpose == toResume:
		return o.check.atResume(ctx)
	}
	if note := o.check.atStart(); note != "" {
		o.tell(note)
	}
	return nil
}

// findIndexes finds the secondary indexes to drop. The plan is for the table without them.
func (o *opening) findIndexes(ctx context.Context) error {
	if o.req.Indexes != DeferIndexes || o.imported != nil {
		return nil
	}
	list, err := indexes.Deferrable(ctx, o.pool, o.srv.Info, o.table, o.dataset.Options().Conflict)
	if err != nil {
		return err
	}
	o.record.spec.Unique = indexes.UniqueOf(o.table)
	if o.deferred = list; len(list) > 0 {
		o.table = indexes.Without(o.table)
		o.check.table = o.table
	}
	return nil
}

// dropIndexes drops the secondary indexes. It first records the statements that create them
// again.
func (o *opening) dropIndexes(ctx context.Context) error {
	if len(o.deferred) == 0 {
		return nil
	}
	note, err := o.record.deferral(o.srv, o.pool).Drop(ctx, o.deferred)
	if err != nil {
		return err
	}
	o.tell(note)
	bare, err := server.Describe(ctx, o.pool, o.srv.Info, o.table.Name)
	if err == nil {
		o.table, o.check.table = bare, bare
	}
	return err
}
