// Package server connects to CockroachDB or PostgreSQL, detects product, version and limits,
// describes tables and classifies errors. It may create a database, schema or table; it changes
// nothing else and writes no rows.
//
// Begin with Parse and Open, then Describe, Limits and Classify.
package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bulkload/loader/failure"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ConnectTimeout bounds one attempt to connect if the connection string sets no
// connect_timeout.
const ConnectTimeout = 10 * time.Second

// A Server holds product, version and address of a database that was reached once. It holds no
// connection and is safe for concurrent use.
type Server struct {
	Info
	Config *Config

	trip        *trip
	spare       *spare // nil if none was dialled
	maxSessions int    // that a pooler in session mode gives; zero is no known limit
}

// A ConnectError reports a server that could not be reached or refused the log-in. Its text
// holds user, database and host, never the password.
type ConnectError struct {
	Host, User, Database string
	Err                  error
	hint                 string
}

// ErrorKind implements failure.Kinded.
func (e *ConnectError) ErrorKind() failure.Kind { return failure.Target }

func (e *ConnectError) Error() string {
	return fmt.Sprintf("connect to %s as %s, database %q: %s%s", e.Host, e.User, e.Database, Reason(e.Err), e.hint)
}

func (e *ConnectError) Unwrap() error { return e.Err }

// Open connects, asks the server for its product and version, and closes the connection. It
// retries as RetryOpening does. If the config names no database, Open uses defaultDatabase and
// creates it if missing. The error is a *ConnectError, or says that the database cannot be
// created.
func Open(ctx context.Context, c *Config, defaultDatabase string) (srv *Server, err error) {
	err = RetryOpening(ctx, func() error {
		srv, err = open(ctx, c, defaultDatabase)
		return err
	})
	var refused *ConnectError
	if Code(err) == pgerrcode.InvalidCatalogName && errors.As(err, &refused) {
		refused.hint = "; create it, or name none in the URL: a load then creates its own"
	}
	return srv, err
}

// open makes one attempt at Open.
func open(ctx context.Context, c *Config, defaultDatabase string) (*Server, error) {
	if c.Database() == "" && defaultDatabase != "" {
		if err := ensureDatabase(ctx, c, defaultDatabase); err != nil {
			return nil, err
		}
		c = c.WithDatabase(defaultDatabase)
	}
	conn, c, err := c.reach(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	spare := dialSpare(ctx, conn)
	trip := new(trip)
	conn.PgConn().CustomData()[tripKey] = trip
	var info Info
	var pid uint32
	var there error
	look := func(ctx context.Context, db Querier) error {
		// CockroachDB accepts connections to a database that does not exist.
		var one int
		there = db.QueryRow(ctx, `SELECT 1 FROM pg_catalog.pg_namespace LIMIT 1`).Scan(&one)
		return nil
	}
	readers := []func(context.Context, Querier) error{func(ctx context.Context, db Querier) (err error) {
		info, pid, err = readInfo(ctx, db)
		return err
	}}
	// What is not CockroachDB may be a pooler: see exchange.
	known := conn.PgConn().ParameterStatus("crdb_version") != ""
	if known {
		readers = append(readers, look)
	}
	if err = Together(ctx, conn, readers...); err != nil {
		return nil, Failed("ask the server what it is", err)
	}
	if info.Product == CockroachDB && !known {
		look(ctx, conn)
	}
	if info.Product == CockroachDB && there != nil {
		return nil, &ConnectError{Host: c.Host(), User: c.User(), Database: c.Database(), Err: there}
	}
	srv := &Server{Info: info, Config: c.at(ctx, conn), trip: trip, spare: spare}
	if info.Product == PostgreSQL && pid != conn.PgConn().PID() {
		// A pooler made up the process id of the start-up message.
		srv.Pooling, srv.maxSessions, err = srv.Config.findPooling(ctx, conn)
		srv.Config = srv.Config.with(srv.Config.pgx)
		srv.Config.pooled = true
	}
	return srv, err
}

// OpenExisting is Open, but creates nothing. If the config names no database and
// defaultDatabase does not exist, it connects to a database that every server has and returns
// defaultDatabase as missing.
func OpenExisting(ctx context.Context, c *Config, defaultDatabase string) (srv *Server, missing string, err error) {
	if c.Database() != "" {
		srv, err = Open(ctx, c, "")
		return srv, "", err
	}
	srv, err = Open(ctx, c.WithDatabase(defaultDatabase), "")
	if err == nil || Code(err) != pgerrcode.InvalidCatalogName {
		return srv, "", err
	}
	for _, base := range []string{"postgres", "defaultdb"} { // either may have been dropped
		if srv, err = Open(ctx, c.WithDatabase(base), ""); err == nil || Code(err) != pgerrcode.InvalidCatalogName {
			break
		}
	}
	return srv, defaultDatabase, err
}

func databaseThere(ctx context.Context, conn *pgx.Conn, name string) (bool, error) {
	var there bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_database WHERE datname = $1)`, name).Scan(&there); err != nil {
		return false, Failed(fmt.Sprintf("look for database %q", name), err)
	}
	return there, nil
}

// connect opens one connection. The error is a *ConnectError.
func (c *Config) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, _, err := c.reach(ctx)
	return conn, err
}

// reach opens one connection. It also returns the Config for later ones: a pooler may refuse
// settings in the start-up message, which then become settings of each transaction.
func (c *Config) reach(ctx context.Context) (*pgx.Conn, *Config, error) {
	for {
		cfg := c.pgx.Copy()
		if cfg.ConnectTimeout == 0 {
			cfg.ConnectTimeout = ConnectTimeout
		}
		// Each statement is sent once. Behind a pooler, a prepared one would stay in the session.
		cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
		if len(c.local) > 0 {
			local := new(localSettings)
			local.set(c.local)
			local.use(&cfg.Config)
			cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // the other writes batches past local
		}
		if c.pooled {
			cfg.StatementCacheCapacity = 0
			withoutCancel(&cfg.Config)
		}
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err == nil {
			if c.pooled {
				conn.PgConn().CustomData()[pooledKey] = true
			}
			return conn, c, nil
		}
		if other := c.withLocal(refusedParameter(err)); other != nil {
			c = other
			continue
		}
		return nil, nil, &ConnectError{Host: c.Hosts(), User: cfg.User, Database: cfg.Database, Err: unknownSetting(err), hint: c.certHint(err)}
	}
}

// ensureDatabase creates the database if it is missing, over a connection to a database that
// every server has.
func ensureDatabase(ctx context.Context, c *Config, name string) error {
	conn, err := c.connect(ctx) // usually this works
	if err == nil {
		defer conn.Close(context.WithoutCancel(ctx))
	}
	var pg *pgconn.PgError
	if err != nil && errors.As(err, &pg) && pg.Code == pgerrcode.InvalidCatalogName {
		// If none is named, PostgreSQL uses the user's name as the database.
		conn, err = c.WithDatabase("postgres").connect(ctx)
		if err == nil {
			defer conn.Close(context.WithoutCancel(ctx))
		}
	}
	if err != nil {
		return err
	}
	there, err := databaseThere(ctx, conn, name)
	if err != nil || there {
		return err
	}
	_, err = conn.Exec(ctx, `CREATE DATABASE `+pgx.Identifier{name}.Sanitize())
	if err != nil && Code(err) != pgerrcode.DuplicateDatabase && Code(err) != pgerrcode.UniqueViolation { // another loader was first
		return &CreateError{Kind: "database", Name: name, Err: err}
	}
	return nil
}

// A CreateError reports that the server refused to create a database, schema or table.
type CreateError struct {
	Kind, Name string
	Err        error
}

// ErrorKind implements failure.Kinded.
func (e *CreateError) ErrorKind() failure.Kind { return failure.Target }

func (e *CreateError) Error() string {
	return fmt.Sprintf("create %s %s: %s", e.Kind, e.Name, Reason(e.Err))
}

func (e *CreateError) Unwrap() error { return e.Err }

// With calls fn with a new connection and closes it afterwards. The error is fn's, or a
// *ConnectError.
func With(ctx context.Context, c *Config, fn func(*pgx.Conn) error) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return fn(conn)
}

// WithDedicatedConn calls fn with a connection removed from the pool and closes it afterwards,
// so that fn may change its settings. The error is fn's or the pool's.
func WithDedicatedConn(ctx context.Context, pool *pgxpool.Pool, fn func(*pgx.Conn) error) error {
	c, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	conn := c.Hijack()
	defer conn.Close(context.WithoutCancel(ctx))
	return fn(conn)
}

// Set changes a setting of a connection that WithDedicatedConn made. Behind a pooler it holds
// for the connection's transactions, not for the session.
func Set(ctx context.Context, conn *pgx.Conn, name, value string) error {
	if c, ok := conn.PgConn().CustomData()[localKey].(*localConn); ok && c != nil {
		if c.own == nil {
			c.own = map[string]string{}
		}
		c.own[name] = value
		return nil
	}
	_, err := conn.Exec(ctx, "SELECT set_config($1, $2, false)", pgx.QueryExecModeExec, name, value)
	return err
}

// WithoutTimeout is WithDedicatedConn without the pool's statement timeout, for statements
// that read or change whole tables.
func WithoutTimeout(ctx context.Context, pool *pgxpool.Pool, fn func(*pgx.Conn) error) error {
	return WithDedicatedConn(ctx, pool, func(conn *pgx.Conn) error {
		if err := Set(ctx, conn, "statement_timeout", "0"); err != nil {
			return err
		}
		return fn(conn)
	})
}

// Count returns the number of rows of a table. The error wraps ErrNoTable if the table does
// not exist.
func Count(ctx context.Context, s *Server, name pgx.Identifier) (n int64, err error) {
	err = With(ctx, s.Config, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT count(*) FROM "+name.Sanitize()).Scan(&n)
	})
	if Code(err) == pgerrcode.UndefinedTable {
		return 0, noTable(name, inDatabase(s.Config.Database()))
	}
	return n, err
}

// Run executes one statement and returns its rows as text, with "NULL" for NULL. It is meant
// for a few rows shown to people.
func Run(ctx context.Context, c *Config, statement string) (columns []string, found [][]string, err error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	results := conn.PgConn().Exec(ctx, statement)
	for results.NextResult() {
		r := results.ResultReader()
		columns, found = nil, nil
		for _, f := range r.FieldDescriptions() {
			columns = append(columns, f.Name)
		}
		for r.NextRow() {
			row := make([]string, len(columns))
			for i, v := range r.Values() {
				row[i] = "NULL"
				if v != nil {
					row[i] = string(v)
				}
			}
			found = append(found, row)
		}
	}
	return columns, found, results.Close()
}
