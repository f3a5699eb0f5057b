// Package server connects to CockroachDB or PostgreSQL, finds out which of them it
// is and what it allows, describes tables and says what errors mean. It changes
// nothing but the existence of databases, and writes no rows.
package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"bulkload/loader/failure"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ConnectTimeout bounds one attempt to connect where the connection string sets no
// connect_timeout.
const ConnectTimeout = 10 * time.Second

// A Server is a database that was reached once: what it is, and how to reach it
// again. It holds no connection and is safe for concurrent use.
type Server struct {
	Info
	Config *Config

	pooled      bool // a pooler stands before it
	sessionPool bool // which gives each client a session of its own
}

// A ConnectError says that a server could not be reached or let nobody in. Its text
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

// Open connects, again where the connection breaks (see Again), asks the server what it is, and closes the connection. When
// the config names no database, defaultDatabase is taken and, where missing,
// created. The error is a *ConnectError, or says that the database cannot be
// created.
func Open(ctx context.Context, c *Config, defaultDatabase string) (srv *Server, err error) {
	err = RetryOpening(ctx, func() error {
		srv, err = open(ctx, c, defaultDatabase)
		return err
	})
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
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	info, pid, err := readInfo(ctx, conn)
	if err != nil {
		return nil, Failed("ask the server what it is", err)
	}
	if info.Product == CockroachDB {
		// It lets one connect to a database that is not there.
		var one int
		if err := conn.QueryRow(ctx, `SELECT 1 FROM pg_catalog.pg_namespace LIMIT 1`).Scan(&one); err != nil {
			return nil, &ConnectError{Host: c.Host(), User: c.User(), Database: c.Database(), Err: err}
		}
	}
	srv := &Server{Info: info, Config: c.at(ctx, conn)}
	if info.Product == PostgreSQL && pid != conn.PgConn().PID() {
		srv.pooled, srv.sessionPool = true, c.keepsSessions(ctx, conn)
	}
	return srv, nil
}

// OpenExisting is Open, but creates nothing: where the config names no database and
// defaultDatabase is not there, it connects to one that every server has, and says
// which is missing.
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
	cfg := c.pgx.Copy()
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = ConnectTimeout
	}
	// Each statement is sent once. Behind a pooler one that is prepared would stay.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, &ConnectError{Host: c.Hosts(), User: cfg.User, Database: cfg.Database, Err: unknownSetting(err), hint: c.certHint(err)}
	}
	return conn, nil
}

// ensureDatabase creates the database name where it is missing, over a connection
// to the one that every server has.
func ensureDatabase(ctx context.Context, c *Config, name string) error {
	conn, err := c.connect(ctx) // most often it is there already
	if err == nil {
		defer conn.Close(context.WithoutCancel(ctx))
	}
	var pg *pgconn.PgError
	if err != nil && errors.As(err, &pg) && pg.Code == pgerrcode.InvalidCatalogName {
		// PostgreSQL takes the user's name for a database that is not named.
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

// A CreateError says that the server refused to create a database, schema or table.
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

// Sessions configures the connections of one run.
type Sessions struct {
	// Name is the application_name, by which a later run finds and ends the
	// sessions of this one. At most 63 bytes.
	Name string
	// Max is the most connections open at once; Ready of them are made at once,
	// zero is all.
	Max, Ready int
	// AttemptTimeout is how long the client tries before it ends a connection. A
	// statement and an idle transaction end on the server before that, so that its
	// reason arrives with its SQLSTATE, and so that what a lost connection left
	// behind does not hold its locks for ever. Zero is the server's own settings.
	AttemptTimeout time.Duration
	// ReadOnly makes the server refuse every write of these sessions.
	ReadOnly bool
	// Prepare is called on each new connection, for type registration.
	Prepare func(*pgx.Conn)
	// Settings are those that give texts their meaning, as an earlier pool's Watch had
	// them. Where it is nil, all sessions have them as the first session has them.
	Settings map[string]string
	// Watch, when not nil, learns what the sessions have and what they warn of.
	Watch *Watch
	// Ask, when not nil, returns one more query for each new session, or nothing. It
	// travels with the settings, in one round trip and one implicit transaction, when the
	// server lists the session already. Answered, when not nil, is given its rows as text,
	// a NULL as nil; its error, or one of the query's, closes the connection and is the
	// pool's.
	Ask      func() string
	Answered func(conn *pgx.Conn, rows [][][]byte) error
}

// Pool opens a pool of connections with the settings of s and begins to connect. A bad
// connection is thrown away when it is given back, and made anew when it is needed. A
// *PooledError says that a pooler shares the server's sessions; a *SettingsError, of the
// first use, that a session cannot have o.Settings.
func (s *Server) Pool(ctx context.Context, o Sessions) (*pgxpool.Pool, error) {
	if s.pooled && !s.sessionPool {
		return nil, &PooledError{Host: s.Config.Host()}
	}
	cfg, err := pgxpool.ParseConfig("host=localhost")
	if err != nil {
		return nil, fmt.Errorf("make a pool: %w", err)
	}
	cfg.ConnConfig = s.Config.pgx.Copy()
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = ConnectTimeout
	}
	setStart(cfg.ConnConfig, "application_name", o.Name)
	cfg.MaxConns = int32(max(o.Max, 1))
	// They are made beside what is asked first: a run will need them.
	cfg.MinConns = cfg.MaxConns
	if o.Ready > 0 {
		cfg.MinConns = min(int32(o.Ready), cfg.MaxConns)
	}
	cfg.MaxConnIdleTime = time.Hour
	cfg.HealthCheckPeriod = time.Hour
	if o.Watch == nil {
		o.Watch = new(Watch)
	}
	if s.Product == PostgreSQL {
		cfg.ConnConfig.OnNotice = o.Watch.notice
	}
	if o.Settings != nil {
		o.Watch.settings = maps.Clone(o.Settings)
	}
	broken := orphanedSessions{product: s.Product}
	broken.watch(cfg)
	if s.sessionPool {
		ended := cfg.BeforeClose
		cfg.BeforeClose = func(conn *pgx.Conn) {
			discard(conn)
			ended(conn)
		}
	}
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if o.Prepare != nil {
			o.Prepare(conn)
		}
		if s.sessionPool {
			conn.PgConn().CustomData()[pooledKey] = true
		}
		return s.begin(ctx, conn, o)
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("make a pool: %s", Reason(err))
	}
	return pool, nil
}

// begin tells a new session of a pool what it is to be like.
func (s *Server) begin(ctx context.Context, conn *pgx.Conn, o Sessions) error {
	want := maps.Clone(fixedSettings)
	if s.Product == PostgreSQL {
		want["synchronous_commit"] = "on"
	}
	if o.ReadOnly {
		want["default_transaction_read_only"] = "on"
	}
	if o.AttemptTimeout > 0 {
		ms := fmt.Sprint((o.AttemptTimeout / 10 * 9).Milliseconds())
		want["statement_timeout"], want["idle_in_transaction_session_timeout"] = ms, ms
	}
	names := append(s.Config.customSettings(), chosenSettings...)
	ask := ""
	if o.Ask != nil {
		ask = o.Ask()
	}
	for tries := 1; ; tries, ask = tries+1, "" {
		maps.Copy(want, o.Watch.Settings())
		found, rows, err := s.settle(ctx, conn, want, names, ask)
		if refusedSetting(err) {
			return &SettingsError{err}
		}
		if err != nil {
			return err
		}
		if id := SessionID(conn); s.Product == PostgreSQL && !s.sessionPool && id != fmt.Sprint(conn.PgConn().PID()) {
			return &PooledError{Host: s.Config.Host()}
		}
		if ask != "" && o.Answered != nil {
			if err := o.Answered(conn, rows); err != nil {
				return err
			}
		}
		differs := o.Watch.adopt(found, names)
		if differs == "" {
			return nil
		}
		if tries > 1 {
			return &SettingsError{errors.New(differs)}
		}
		// Another session was the first meanwhile, and has other settings.
	}
}

// closeTimeout bounds the good-byes to the server: a connection that has gone silent
// would take 15 s.
const closeTimeout = time.Second

// ClosePool closes a pool, whose connections must have been given back. It waits for
// silent ones no longer than a second; they end by themselves later.
func ClosePool(pool *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		pool.Close()
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
	}
}

// With calls fn with a connection that is closed afterwards. Its error is fn's, or a
// *ConnectError.
func With(ctx context.Context, c *Config, fn func(*pgx.Conn) error) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return fn(conn)
}

// WithDedicatedConn calls fn with a connection taken out of a pool for good, whose settings fn may
// change: it is closed afterwards. Its error is fn's or the pool's.
func WithDedicatedConn(ctx context.Context, pool *pgxpool.Pool, fn func(*pgx.Conn) error) error {
	c, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	conn := c.Hijack()
	defer func() {
		if conn.PgConn().CustomData()[pooledKey] != nil {
			discard(conn)
		}
		conn.Close(context.WithoutCancel(ctx))
	}()
	return fn(conn)
}

// WithoutTimeout is WithDedicatedConn for statements that may take as long as they need, beyond the pool's
// statement timeout: those that read or change whole tables.
func WithoutTimeout(ctx context.Context, pool *pgxpool.Pool, fn func(*pgx.Conn) error) error {
	return WithDedicatedConn(ctx, pool, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "SET statement_timeout = 0"); err != nil {
			return err
		}
		return fn(conn)
	})
}

// Count returns the number of rows of a table. The error wraps ErrNoTable where there is
// no such table.
func Count(ctx context.Context, s *Server, name pgx.Identifier) (n int64, err error) {
	err = With(ctx, s.Config, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT count(*) FROM "+name.Sanitize()).Scan(&n)
	})
	if Code(err) == pgerrcode.UndefinedTable {
		return 0, noTable(name, "")
	}
	return n, err
}

// Run runs one statement and returns its rows as text, NULL as "NULL". It is for
// people who look at a few rows.
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
