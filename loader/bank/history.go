package bank

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// history lists the tables of the history, which are next to the registry's. They are created
// outside of any transfer, since DDL commits implicitly on CockroachDB from 25.1 on. The row
// of a transfer is written in the transfer's transaction, so it exists if and only if the
// money has moved. Its key prevents a late or repeated attempt from moving the money again.
// Verify checks the balances that it records.
var history = []struct{ name, ddl string }{
	{"transfer_runs", `CREATE TABLE IF NOT EXISTS loader.transfer_runs (
		id TEXT NOT NULL PRIMARY KEY,
		target TEXT NOT NULL,
		table_id BIGINT NOT NULL,
		seed TEXT NOT NULL,
		transfers BIGINT NOT NULL,
		accounts BIGINT,
		total TEXT,
		created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
		finished_at TIMESTAMPTZ)`},
	{"transfers", `CREATE TABLE IF NOT EXISTS loader.transfers (
		run TEXT NOT NULL,
		n BIGINT NOT NULL,
		source BIGINT NOT NULL,
		sink BIGINT NOT NULL,
		amount BIGINT NOT NULL,
		source_had BIGINT NOT NULL,
		sink_had BIGINT NOT NULL,
		PRIMARY KEY (run, n))`},
}

// hasHistory reports whether the history's tables exist.
func (b *Bank) hasHistory(ctx context.Context) (bool, error) {
	var n int
	err := b.retry(ctx, "look for the history", func(ctx context.Context) error {
		return b.pool.QueryRow(ctx, `SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname IN ('transfer_runs', 'transfers')`, registry.Schema).Scan(&n)
	})
	if err != nil {
		return false, err
	}
	return n == len(history), nil
}

// ensureHistory creates the history if it is missing. The error is a *server.CreateError if
// the user lacks the privilege, and a *registry.SchemaError if the schema belongs to another
// program.
func (b *Bank) ensureHistory(ctx context.Context) error {
	if there, err := b.hasHistory(ctx); err != nil || there {
		return err
	}
	var foreign *registry.SchemaError
	err := b.retry(ctx, "look at the history's schema", func(ctx context.Context) error {
		if err := registry.CheckSchema(ctx, b.pool); !errors.As(err, &foreign) {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	if foreign != nil {
		return foreign
	}
	db := retryingExecer{b}
	if err := server.CreateIfMissing(ctx, db, "history schema", registry.Schema, "CREATE SCHEMA IF NOT EXISTS "+registry.Schema); err != nil {
		return err
	}
	for _, t := range history {
		if err := server.CreateIfMissing(ctx, db, "history table", registry.Schema+"."+t.name, t.ddl); err != nil {
			return err
		}
	}
	return nil
}

// retryingExecer repeats statements after transient failures. They must be safe to repeat.
type retryingExecer struct{ *Bank }

func (p retryingExecer) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	err = p.retry(ctx, "create it", func(ctx context.Context) (err error) {
		tag, err = p.pool.Exec(ctx, sql, args...)
		return err
	})
	return tag, err
}
