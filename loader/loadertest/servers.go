package loadertest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// A Server is a real database server that runs for the tests of one package.
type Server struct {
	Name      string // "PostgreSQL" or "CockroachDB"
	Version   string // what version() says
	Cockroach bool
	Product   server.Product
	url       string // as a user who may do everything
	release   string // what its binary calls itself: "15.18"
}

// A serverKind is one kind of server: started at its first use, stopped by Main.
type serverKind struct {
	name    string
	product server.Product
	binary  string // of CockroachDB, on PATH; empty is the one that localdb finds

	once   sync.Once
	server Server
	err    error
	stop   func() error
}

// dropped is how long CockroachDB keeps what was dropped. An IMPORT that fails needs what was
// there at its beginning.
const dropped = 90 * time.Second

// startTimeout is how long a server may take to start on a busy machine.
const startTimeout = 2 * time.Minute

func (k *serverKind) get() (Server, error) {
	k.once.Do(func() {
		db, err := k.start()
		if err != nil {
			k.err = err
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		started.Add(1)
		k.stop = func() error {
			started.Add(-1)
			return db.Stop(context.Background())
		}
		keep(db.TCP)
		k.server = Server{Name: k.name, Cockroach: k.name == CockroachDB, Product: k.product, url: db.TCP, release: db.Version}
		k.err = withConn(ctx, db.TCP, func(c *pgx.Conn) error {
			if k.server.Cockroach {
				// As PostgreSQL without fsync: tests do not cut the power.
				for _, setting := range []string{
					"kv.raft_log.disable_synchronization_unsafe = true",
					"sql.stats.automatic_collection.enabled = false", // beside every load
				} {
					if err := setUnsafe(ctx, c, setting); err != nil {
						return err
					}
				}
				// The server keeps the descriptors of dropped tables for a day otherwise, and
				// reads all of them at each question to the catalog: after the databases of
				// some hundred tests that took more than half of its time.
				if _, err := c.Exec(ctx, fmt.Sprintf("ALTER RANGE default CONFIGURE ZONE USING gc.ttlseconds = %d", int(dropped.Seconds()))); err != nil {
					return err
				}
				// A newer server pauses IMPORT and the making of an index when less than 5 % of the
				// disk is free, however much that is. It takes no less than 4 %.
				if err := setIfKnown(ctx, c, "kv.bulk_io_write.min_capacity_remaining_fraction = 0.04"); err != nil {
					return err
				}
			}
			err := c.QueryRow(ctx, "SELECT version()").Scan(&k.server.Version)
			if v := releaseOf.FindStringSubmatch(k.server.Version); v != nil {
				k.server.release = v[1]
			}
			return err
		})
	})
	return k.server, k.err
}

// releaseOf finds the version in what CockroachDB calls itself.
var releaseOf = regexp.MustCompile(` v(\d\S*)`)

// interlock finds the key by which a server from 23.2 on has a session confirm that it
// means an unsafe setting.
var interlock = regexp.MustCompile(`SET unsafe_setting_interlock_key = '([^']*)'`)

// setUnsafe sets a cluster setting, and confirms it where the server asks for that.
func setUnsafe(ctx context.Context, c *pgx.Conn, setting string) error {
	_, err := c.Exec(ctx, "SET CLUSTER SETTING "+setting)
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return err
	}
	key := interlock.FindStringSubmatch(pe.Message + pe.Detail + pe.Hint)
	if key == nil {
		return err
	}
	if _, err := c.Exec(ctx, "SET unsafe_setting_interlock_key = '"+key[1]+"'"); err != nil {
		return err
	}
	_, err = c.Exec(ctx, "SET CLUSTER SETTING "+setting)
	return err
}

// setIfKnown sets a cluster setting that older servers do not have.
func setIfKnown(ctx context.Context, c *pgx.Conn, setting string) error {
	_, err := c.Exec(ctx, "SET CLUSTER SETTING "+setting)
	if err != nil && !strings.Contains(err.Error(), "unknown cluster setting") {
		return err
	}
	return nil
}

// ForEachServer runs test as a sub-test on PostgreSQL and on CockroachDB. Where
// package localdb finds no binary of one, its sub-test is skipped. The package needs a
// TestMain that calls [Main], which stops the servers.
func ForEachServer(t *testing.T, test func(t *testing.T, srv Server)) {
	t.Helper()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { test(t, k.need(t)) })
	}
}

// ForServer is ForEachServer on the server of that name alone, and on the others with the
// build tag chaos: for what hardly depends on the server.
func ForServer(t *testing.T, name string, test func(t *testing.T, srv Server)) {
	t.Helper()
	forServer(t, name, Long, test)
}

// ForServerFirst is ForEachServer on the server of that name, and on the others as a slow
// test; see [Slow]: for what takes seconds there and is much the same.
func ForServerFirst(t *testing.T, name string, test func(t *testing.T, srv Server)) {
	t.Helper()
	forServer(t, name, Slow, test)
}

func forServer(t *testing.T, name string, others func(testing.TB), test func(t *testing.T, srv Server)) {
	t.Helper()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			if k.name != name {
				others(t)
			}
			test(t, k.need(t))
		})
	}
}

// PostgreSQLServer returns the PostgreSQL of the test process, for a test of what
// PostgreSQL alone has.
func PostgreSQLServer(t testing.TB) Server { return postgres.need(t) }

// CockroachServer returns the CockroachDB of the test process, or skips the test.
func CockroachServer(t testing.TB) Server { return cockroach.need(t) }

// NewestCockroach is the binary of the newest CockroachDB that the tests know.
const NewestCockroach = "cockroach-26.1"

// NewestCockroachServer returns a CockroachDB of the test process that is NewestCockroach,
// for a test of what an older one does not have, or skips the test where that is not on
// PATH. A server of its own, beside the other CockroachDB, makes it a slow test; see [Slow].
func NewestCockroachServer(t testing.TB) Server {
	t.Helper()
	if b, err := Find(server.CockroachDB); err == nil && filepath.Base(b.Path) == NewestCockroach {
		return cockroach.need(t) // one is enough
	}
	Slow(t)
	return newest.need(t)
}

// start starts a server of the kind.
func (k *serverKind) start() (*localdb.DB, error) {
	if k.binary == "" {
		return startOwn(context.Background(), k.product, 0)
	}
	path, err := exec.LookPath(k.binary)
	if err != nil {
		return nil, fmt.Errorf("%w: no %s on PATH", localdb.ErrNotFound, k.binary)
	}
	return startBinary(context.Background(), localdb.Binary{Product: k.product, Path: path, Version: strings.TrimPrefix(k.binary, "cockroach-")})
}

// need returns the server, or ends the test: by a skip where CockroachDB has no binary.
// What the test leaves behind fails it; see CheckNoLeaks.
func (k *serverKind) need(t testing.TB) Server {
	t.Helper()
	if !running.Load() {
		t.Fatal("loadertest: the package has no TestMain that calls loadertest.Main")
	}
	srv, err := k.get()
	switch {
	case err == nil:
	case errors.Is(err, localdb.ErrNotFound):
		Skip(t, err.Error())
	default:
		t.Fatalf("%s does not start: %v", k.name, err)
	}
	recordRun(t, srv.Product, srv.release)
	CheckNoLeaks(t)
	return srv
}

// NewDatabase creates a database and returns its URL. At the end of the test the
// database is dropped; see dropLater for CockroachDB. On PostgreSQL a session that is then
// still in it, but for the kit's own, fails the test (CockroachDB does not say where a session
// is; for all of them see CheckNoLeaks).
func (s Server) NewDatabase(t testing.TB) string {
	t.Helper()
	name := "t" + strings.ToLower(rand.Text()[:12])
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := s.exec(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatalf("create database: %v", err)
	}
	url := s.withSettings(withDatabase(s.url, name))
	keep(url)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		if err := forget(ctx, url); err != nil {
			t.Logf("close the kit's connection: %v", err) // a test may have ended it
		}
		if s.Cockroach {
			if err := s.dropLater(ctx, name); err != nil {
				t.Error(err)
			}
			return
		}
		if left := poll(func() string { return s.sessions(ctx, name) }); left != "" {
			t.Errorf("sessions left in the test's database:\n%s", left)
		}
		err := s.exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
		if err != nil && server.Code(err) != pgerrcode.InvalidCatalogName { // the test may have dropped it
			t.Errorf("drop database: %v", err)
		}
	})
	return url
}

// exec executes one statement as a user who may do everything.
func (s Server) exec(ctx context.Context, sql string) error {
	return withConn(ctx, s.url, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, sql)
		return err
	})
}

// URL returns the URL of the server's first database, as a user who may do
// everything. Tests use NewDatabase; this is for users, settings and sessions.
func (s Server) URL() string { return s.url }

// withDatabase returns serverURL with another database.
func withDatabase(serverURL, name string) string {
	u, err := url.Parse(serverURL)
	if err != nil {
		panic(err) // it comes from a server that we started and reached
	}
	u.Path = "/" + name
	return u.String()
}

// withConn calls f with a connection that nobody else uses: one that is kept, if it still
// answers, else a new one.
func withConn(ctx context.Context, url string, f func(*pgx.Conn) error) error {
	if c := takeKept(url); c != nil {
		if c.Ping(ctx) == nil {
			return errors.Join(f(c), giveBack(ctx, url, c))
		}
		c.Close(ctx)
	}
	c, err := connectKit(ctx, url)
	if err != nil {
		return err
	}
	return errors.Join(f(c), giveBack(ctx, url, c))
}

// connectKit returns a new connection of the kit's own.
func connectKit(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	if config.RuntimeParams["options"] == startOptions() {
		delete(config.RuntimeParams, "options")
	}
	if _, ok := config.RuntimeParams["application_name"]; !ok {
		config.RuntimeParams["application_name"] = kitName
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec // tables change between two statements
	return pgx.ConnectConfig(ctx, config)
}

// kitName is the application_name of the kit's own connections.
const kitName = "loadertest"

// Names of the servers.
const (
	PostgreSQL  = "PostgreSQL"
	CockroachDB = "CockroachDB"
)

var (
	postgres  = &serverKind{name: PostgreSQL, product: server.PostgreSQL}
	cockroach = &serverKind{name: CockroachDB, product: server.CockroachDB}
	kinds     = []*serverKind{postgres, cockroach}
	newest    = &serverKind{name: CockroachDB, product: server.CockroachDB, binary: NewestCockroach}
	every     = append(kinds, newest)
)

// stopServers stops the servers that were started.
func stopServers() error {
	errs := []error{endDrops(context.Background()), forgetAll(context.Background())}
	for _, k := range every {
		if k.stop == nil {
			continue
		}
		if err := k.stop(); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", k.name, err))
		}
	}
	return errors.Join(errs...)
}
