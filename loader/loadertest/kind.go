package loadertest

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

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

// A serverKind is one kind of server: started at its first use, stopped by Main.
type serverKind struct {
	name    string
	product server.Product
	binary  string // of CockroachDB, on PATH; empty is the one that localdb finds

	mu     sync.Mutex
	db     *localdb.DB // nil while none runs
	number int64       // of db, among those of started
	server Server
	err    error // why it cannot be used
	users  int   // tests that have it
	served int   // tests that have it or had it
}

// worn is how many tests a CockroachDB serves before another takes its place. Each dropped table
// leaves it a range that it merges in its own time, 5 s a range, and it asks all ranges at each
// change of a table whether they must be split. Where there were 1800 that was half of its work,
// and a test of many tables took 16 minutes that takes 3 on a new server.
var worn = 20

// dropped is how long CockroachDB keeps what was dropped. An IMPORT that fails needs what was
// there at its beginning.
const dropped = 90 * time.Second

// startTimeout is how long a server may take to start on a busy machine.
const startTimeout = 2 * time.Minute

// take returns the server for one test, which ends its use by giveBack. A new one takes the place
// of one that is worn, as soon as no test has that.
func (k *serverKind) take() (Server, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.db != nil && k.product == server.CockroachDB && k.users == 0 && k.served >= worn {
		if err := k.stop(); err != nil {
			return Server{}, err
		}
	}
	if k.db == nil && k.err == nil {
		k.err = k.start()
	}
	if k.err != nil {
		return Server{}, k.err
	}
	k.users++
	k.served++
	return k.server, nil
}

// giveBack ends what take began.
func (k *serverKind) giveBack() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.users--
}

// current returns the server that runs, and its number among those of started, which is 0 while
// none does.
func (k *serverKind) current() (Server, int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.server, k.number
}

// start starts a server and prepares it for tests. The caller holds k.mu.
func (k *serverKind) start() error {
	db, err := k.launch()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	k.db, k.number, k.served = db, started.Add(1), 0
	keep(db.TCP)
	k.server = Server{Name: k.name, Cockroach: k.name == CockroachDB, Product: k.product, url: db.TCP, release: db.Version}
	return withConn(ctx, db.TCP, func(c *pgx.Conn) error {
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
}

// launch starts the server's process.
func (k *serverKind) launch() (*localdb.DB, error) {
	if k.binary == "" {
		return startOwn(context.Background(), k.product, 0)
	}
	path, err := exec.LookPath(k.binary)
	if err != nil {
		return nil, fmt.Errorf("%w: no %s on PATH", localdb.ErrNotFound, k.binary)
	}
	return startBinary(context.Background(), localdb.Binary{Product: k.product, Path: path, Version: strings.TrimPrefix(k.binary, "cockroach-")})
}

// stop stops the server if one runs. The caller holds k.mu.
func (k *serverKind) stop() error {
	if k.db == nil {
		return nil
	}
	ctx := context.Background()
	err := errors.Join(endDrop(ctx, k.db.TCP), forget(ctx, k.db.TCP), k.db.Stop(ctx))
	k.db, k.number = nil, 0
	if err != nil {
		return fmt.Errorf("stop %s: %w", k.name, err)
	}
	return nil
}

// need returns the server, or ends the test: by a skip where CockroachDB has no binary.
// What the test leaves behind fails it; see CheckNoLeaks.
func (k *serverKind) need(t testing.TB) Server {
	t.Helper()
	if !running.Load() {
		t.Fatal("loadertest: the package has no TestMain that calls loadertest.Main")
	}
	srv, err := k.take()
	switch {
	case err == nil:
	case errors.Is(err, localdb.ErrNotFound):
		Skip(t, err.Error())
	default:
		t.Fatalf("no %s: %v", k.name, err)
	}
	t.Cleanup(k.giveBack) // before any other, and so it runs last
	recordRun(t, srv.Product, srv.release)
	CheckNoLeaks(t)
	return srv
}

// stopServers stops the servers that were started.
func stopServers() error {
	errs := []error{endDrops(context.Background()), forgetAll(context.Background())}
	for _, k := range every {
		k.mu.Lock()
		errs = append(errs, k.stop())
		k.mu.Unlock()
	}
	return errors.Join(errs...)
}

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
