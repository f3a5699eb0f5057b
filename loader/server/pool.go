package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Sessions configures the sessions of one run.
type Sessions struct {
	// Name is the application_name. A later run uses it to find and end the sessions of this
	// one. At most 63 bytes.
	Name string
	// Max bounds the connections open at once; less than 1 means 1. Ready of them are opened
	// at once; zero means all.
	Max, Ready int
	// Brief gives the sessions of a pooler back after each use: the command needs those few for
	// something else besides.
	Brief bool
	// AttemptTimeout is the client's bound on one attempt, after which it closes the
	// connection. The server's timeouts for statements and idle transactions are a tenth
	// shorter: its reason then arrives with a SQLSTATE, and a lost connection does not hold
	// its locks for ever. Zero leaves the server's own settings.
	AttemptTimeout time.Duration
	// ReadOnly makes the server refuse every write of these sessions.
	ReadOnly bool
	// Prepared makes the sessions prepare their statements where RepeatedMode does, for sessions
	// that repeat a few short ones. Otherwise a statement is sent in one round trip, unless it has
	// an exec mode of its own.
	Prepared bool
	// Prepare is called on each new connection, to register types.
	Prepare func(*pgx.Conn)
	// Settings fixes the settings that determine the meaning of texts, as recorded by an
	// earlier pool's Watch. If nil, all sessions follow the first one.
	Settings map[string]string
	// Watch, when not nil, records the sessions' settings and warnings.
	Watch *Watch
	// Ask, when not nil, returns one more query for each new session, or "". The query is sent
	// with the settings, in one round trip and one implicit transaction; the server lists the
	// session by then. Answered, when not nil, receives its rows as text, with nil for NULL.
	// An error of the query or of Answered closes the connection and becomes the pool's error.
	Ask      func() string
	Answered func(conn *pgx.Conn, rows [][][]byte) error
}

// idlePing is how long a connection may be idle before its next use checks it first.
const idlePing = 10 * time.Second

// Pool opens a pool of connections configured by o and begins to connect. A broken connection
// is discarded on release and replaced when needed. Behind a pooler nothing is prepared on the
// server, and settings are made in each transaction. The error is a *PooledError if the pooler
// takes no transactions. Acquiring a connection fails with a *SettingsError if the session
// cannot have o.Settings.
func (s *Server) Pool(ctx context.Context, o Sessions) (*pgxpool.Pool, error) {
	if s.Pooling == StatementPooling {
		return nil, s.NotPooled("in statement mode it has no transactions")
	}
	if s.Config.priority != "" && (s.Product != CockroachDB || !s.AtLeast(22, 1, 0)) {
		return nil, &PriorityError{s.Info}
	}
	cfg, err := pgxpool.ParseConfig("host=localhost")
	if err != nil {
		return nil, fmt.Errorf("make a pool: %w", err)
	}
	s.configure(cfg, o)
	if o.Watch == nil {
		o.Watch = new(Watch)
	}
	if s.Product == PostgreSQL {
		cfg.ConnConfig.OnNotice = o.Watch.notice
	}
	if o.Settings != nil {
		o.Watch.settings = maps.Clone(o.Settings)
	}
	var local *localSettings
	if s.Pooled() {
		local = new(localSettings)
		cfg.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
			local.use(&c.Config)
			withoutCancel(&c.Config)
			return nil
		}
	} else {
		// Behind a pooler such a session may be another client's by now.
		broken := orphanedSessions{product: s.Product}
		broken.watch(cfg)
	}
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error { return s.connected(ctx, conn, o, local) }
	pool, err := pgxpool.NewWithConfig(context.WithValue(ctx, background{}, true), cfg)
	if err != nil {
		return nil, fmt.Errorf("make a pool: %s", Reason(err))
	}
	return pool, nil
}

// configure sets the number of a pool's sessions, and how they send statements.
func (s *Server) configure(cfg *pgxpool.Config, o Sessions) {
	cfg.ConnConfig = s.Config.pgx.Copy()
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = ConnectTimeout
	}
	s.spare.use(cfg.ConnConfig)
	setStart(cfg.ConnConfig, "application_name", o.Name)
	cfg.MaxConns = int32(max(o.Max, 1))
	if s.maxSessions > 0 {
		cfg.MaxConns = min(cfg.MaxConns, int32(s.maxSessions))
	}
	// They connect while the first queries run: the run will need them.
	cfg.MinConns = cfg.MaxConns
	if o.Ready > 0 {
		cfg.MinConns = min(int32(o.Ready), cfg.MaxConns)
	}
	if s.Pooled() {
		cfg.ConnConfig.StatementCacheCapacity = 0
	}
	cfg.ConnConfig.DefaultQueryExecMode = RepeatedMode(cfg.ConnConfig)
	if !o.Prepared && !s.Pooled() { // that mode writes batches past localSettings
		// A statement that is prepared first takes two round trips. This mode prepares nothing.
		cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
	// A ping takes a round trip of its own. A connection that broke meanwhile fails at its next
	// statement, which is retried.
	cfg.ShouldPing = func(_ context.Context, p pgxpool.ShouldPingParams) bool { return p.IdleDuration > idlePing }
	if o.Brief && s.Pooled() {
		cfg.MinConns, cfg.AfterRelease = 0, func(*pgx.Conn) bool { return false }
	}
	cfg.MaxConnIdleTime = time.Hour
	cfg.HealthCheckPeriod = time.Hour
}

// connected prepares a new session. local, not nil behind a pooler, gets its settings.
func (s *Server) connected(ctx context.Context, conn *pgx.Conn, o Sessions, local *localSettings) error {
	if s.trip != nil {
		conn.PgConn().CustomData()[tripKey] = s.trip
	}
	if o.Prepare != nil {
		o.Prepare(conn)
	}
	if local == nil {
		err := s.begin(ctx, conn, o, nil)
		if err == nil && ctx.Value(background{}) != nil {
			// Nobody waits for this connection yet: measure the network without the work of a query. A
			// server that has just started answers its first queries slowly, and would pass for far.
			begin := time.Now()
			if err = conn.Ping(ctx); err == nil {
				noteTrip(conn, time.Since(begin))
			}
		}
		return err
	}
	conn.PgConn().CustomData()[pooledKey] = true
	late, cancel := context.WithTimeout(ctx, poolTimeout)
	defer cancel()
	err := s.begin(late, conn, o, local)
	if err != nil && late.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%s gave no session in %s: %w", s.Config.Host(), poolTimeout, err)
	}
	return err
}

// RepeatedMode returns the exec mode for a statement that a connection of a Pool, with its
// config, sends again and again with parameters in binary form. It is prepared on the server, but
// not behind a pooler, and not if the connection string asks for no prepared statements.
func RepeatedMode(config *pgx.ConnConfig) pgx.QueryExecMode {
	if config.StatementCacheCapacity == 0 {
		return pgx.QueryExecModeCacheDescribe
	}
	return pgx.QueryExecModeCacheStatement
}

// begin applies the settings of o to a new session, or to local.
func (s *Server) begin(ctx context.Context, conn *pgx.Conn, o Sessions, local *localSettings) error {
	want := map[string]string{}
	maps.Copy(want, s.Config.local)
	maps.Copy(want, fixedSettings)
	if s.Product == PostgreSQL {
		want["synchronous_commit"] = "on"
	} else {
		// CockroachDB's part of the protocol has no row locks. From 23.2 on, databases and users can
		// have READ COMMITTED as their default.
		want["default_transaction_isolation"] = "serializable"
	}
	if s.Config.priority != "" {
		want[priorityOf] = string(s.Config.priority)
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
		if id := SessionID(conn); s.Product == PostgreSQL && !s.Pooled() && id != fmt.Sprint(conn.PgConn().PID()) {
			return &PooledError{Host: s.Config.Host()}
		}
		if ask != "" && o.Answered != nil {
			if err := o.Answered(conn, rows); err != nil {
				return err
			}
		}
		differs := o.Watch.adopt(found, names)
		if differs == "" {
			if local != nil {
				local.set(settled(found, want, o.Watch.Settings()))
			}
			return nil
		}
		if tries > 1 {
			return &SettingsError{errors.New(differs)}
		}
		// Another session came first meanwhile, with other settings.
	}
}

// closeTimeout bounds the goodbyes to the server: on a silent connection they would take 15 s.
const closeTimeout = time.Second

// ClosePool closes a pool whose connections were all released. It waits at most one second for
// silent connections; they end by themselves later.
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
