package localdb

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"bulkload/loader/server"
)

// Options say which database to start, and where. The zero value means the database of Meant,
// or else the result of Find, or else a fetched PostgreSQL, in the user's own data directory.
type Options struct {
	// Binary is the server to start; zero means the choice described above.
	Binary Binary
	// Choose makes this database the default of later commands.
	Choose bool
	// Report receives the progress of a download.
	Report Reporter
	// Dir holds the data, in one subdirectory per product and version. Empty means DefaultDir.
	Dir string
	// Temporary starts a separate server, in memory or without fsync. Stop deletes it; on
	// Linux it also ends with this process. It also listens on TCP.
	Temporary bool
	// TempDir holds the data of a temporary server. Empty means os.TempDir.
	TempDir string
	// Settings are added to the server's command line: name=value for PostgreSQL, flags for
	// CockroachDB.
	Settings []string
	// CertsDir makes a temporary CockroachDB secure. It holds the certificates of the
	// authority, the node and root, under the file names of "cockroach cert".
	CertsDir string
}

// A DB is a running private database.
type DB struct {
	Binary
	URL string // for pgx and psql; PostgreSQL's uses its Unix socket
	TCP string // the same over TCP on the loopback address; empty if it does not listen there
	Dir string

	temporary bool
	tempDir   string
	settings  []string
	certsDir  string
	users     *flock.Flock // held shared during use of the server
	process   *process     // of a temporary server
	port      int
	password  string
}

// startTimeout bounds the start of a server until it answers.
const startTimeout = 60 * time.Second

// DefaultDir returns the directory of the user's private databases: LOADER_DB_DIR, or else the
// system's place for program state.
func DefaultDir() (string, error) {
	if dir := os.Getenv("LOADER_DB_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	return stateDir()
}

// Start starts the database, or joins the one that another command of this user runs, and
// returns when it answers.
//
// Several commands share one server. Each holds a lock while it lives, and the last one to
// stop also stops the server. After a kill -9 the lock is released but the server stays, until
// a later command stops as the last one.
//
// Note: tried to tie the server to the command that started it. A kill -9 of that command then
// took the server away from the others.
func Start(ctx context.Context, o Options) (*DB, error) {
	if err := o.find(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	db := &DB{Binary: o.Binary, temporary: o.Temporary, tempDir: o.TempDir, settings: o.Settings, certsDir: o.CertsDir}
	if o.Temporary {
		return db, db.startTemporary(ctx)
	}
	base, err := baseDir(o.Dir)
	if err != nil {
		return nil, err
	}
	db.Dir = dataDir(base, o.Binary)
	_, c, _ := meant(base)
	if err := makeDir(db.Dir); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	if err := db.join(ctx); err != nil || c.Name != "" && !o.Choose {
		return db, err
	}
	if err := db.choose(); err != nil {
		return nil, errors.Join(fmt.Errorf("record which database is used: %w", err), db.Stop(ctx))
	}
	return db, nil
}

// find sets the binary if the options name none.
func (o *Options) find(ctx context.Context) (err error) {
	if o.Binary.Path != "" {
		return nil
	}
	if d, c, ok := meant(o.Dir); ok && !o.Temporary {
		if o.Binary, err = d.binary(ctx, c, o.Report); err == nil || ctx.Err() != nil {
			return err
		}
		o.Report.line("not using %s, which earlier commands used: %v", d, err)
	}
	o.Binary, err = Find()
	if errors.Is(err, ErrNotFound) && os.Getenv("COCKROACH_BINARY") == "" {
		o.Binary, err = Provide(ctx, server.PostgreSQL, 0, o.Report)
	}
	return err
}

func major(version string) string      { m, _, _ := strings.Cut(version, "."); return m }
func majorMinor(version string) string { return strings.Join(strings.SplitN(version, ".", 3)[:2], ".") }

// makeDir makes a directory that only the user can enter, independent of the umask.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700)
}

// join starts the server in db.Dir unless it runs. A lock ensures that only one command at a
// time starts or stops it.
func (db *DB) join(ctx context.Context) error {
	unlock, err := db.lockStart(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	db.users = flock.New(filepath.Join(db.Dir, "users.lock"), flock.SetPermissions(0o600))
	if err := db.users.RLock(); err != nil {
		return fmt.Errorf("lock %s: %w", db.users.Path(), err)
	}
	if s, err := readState(db.Dir); err == nil {
		db.URL, db.TCP = s.URL, s.TCP
		if db.settles(ctx) == nil {
			return nil
		}
	} else {
		db.stopOrphan(ctx)
	}
	var err2 error
	if db.Product == server.PostgreSQL {
		_, err2 = db.startPostgres(ctx)
	} else {
		_, err2 = db.startCockroach(ctx)
	}
	if err2 != nil {
		db.users.Unlock()
		return err2
	}
	return writeState(db.Dir, state{Product: db.Product.String(), Version: db.Version, Path: db.Path, URL: db.URL, TCP: db.TCP})
}

func (db *DB) lockStart(ctx context.Context) (unlock func(), err error) {
	l := flock.New(filepath.Join(db.Dir, "start.lock"), flock.SetPermissions(0o600))
	if _, err := l.TryLockContext(ctx, 20*time.Millisecond); err != nil {
		return nil, fmt.Errorf("wait for another command that starts or stops the database in %s: %w", db.Dir, err)
	}
	return func() { l.Unlock() }, nil
}

// startTemporary starts a server that no other command uses.
func (db *DB) startTemporary(ctx context.Context) error {
	dir, err := os.MkdirTemp(db.tempDir, "ldb") // short: a socket path has at most 107 bytes
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	db.Dir = dir
	if db.Product == server.PostgreSQL {
		db.process, err = db.startPostgres(ctx)
	} else {
		db.process, err = db.startCockroach(ctx)
	}
	if err != nil {
		os.RemoveAll(dir)
	}
	return err
}

// Stop ends this process's use of the server. The last user stops it, unless Retain is set; the
// data stays. A temporary server is stopped and deleted.
func (db *DB) Stop(ctx context.Context) error {
	if db.temporary {
		err := db.process.kill()
		return errors.Join(err, removeAll(db.Dir))
	}
	unlock, err := db.lockStart(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := db.users.Unlock(); err != nil {
		return fmt.Errorf("unlock %s: %w", db.users.Path(), err)
	}
	if Retained(db.Dir) {
		return nil
	}
	if err := db.stopUnused(ctx); !errors.Is(err, errUsed) {
		return err
	}
	return nil
}

// removeTimeout is how long a process of a server that has ended may still write.
const removeTimeout = 5 * time.Second

// removeAll deletes the directory of a server that has ended. The statistics collector of
// PostgreSQL 14 ends after its server, and writes a last file.
func removeAll(dir string) error {
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := os.RemoveAll(dir)
		if err == nil || time.Since(start) > removeTimeout {
			return err
		}
	}
}

// errUsed means that another process uses the server.
var errUsed = errors.New("another command still uses the local database")

// stopUnused stops the server if it runs. It returns errUsed if another process uses the
// server. The caller holds the start lock.
func (db *DB) stopUnused(ctx context.Context) error {
	users := flock.New(filepath.Join(db.Dir, "users.lock"), flock.SetPermissions(0o600))
	alone, err := users.TryLock()
	if err != nil {
		return err
	}
	if !alone {
		return errUsed
	}
	defer users.Unlock()
	s, err := readState(db.Dir)
	if err != nil {
		db.stopOrphan(ctx)
		return nil
	}
	db.URL, db.Path, db.Version = s.URL, s.Path, s.Version
	if db.Product == server.PostgreSQL {
		err = db.stopPostgres(ctx)
	} else {
		err = db.stopCockroach(ctx)
	}
	if err != nil {
		return fmt.Errorf("stop the local database: %w", err)
	}
	os.Remove(filepath.Join(db.Dir, "state.json"))
	return nil
}

// Retained reports whether the server in dir stays when its last user leaves.
func Retained(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "keep"))
	return err == nil
}

// Retain sets whether the server stays when its last user leaves.
func (db *DB) Retain(keep bool) error {
	path := filepath.Join(db.Dir, "keep")
	if keep {
		return os.WriteFile(path, nil, 0o600)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// state is the content of state.json, which describes a running server.
type state struct{ Product, Version, Path, URL, TCP string }

func readState(dir string) (state, error) {
	var s state
	b, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, err
}

func writeState(dir string, s state) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "state.json"), b, 0o600)
}

// answers connects once and reports the error.
func (db *DB) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, db.URL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return conn.Ping(ctx)
}

// settles is answers, but waits while the server is starting or stopping: the command that
// waited for that may have been killed. A stopping server is gone afterwards.
func (db *DB) settles(ctx context.Context) error {
	const startingOrStopping = pgerrcode.CannotConnectNow
	err := db.answers(ctx)
	for passing := server.Code(err) == startingOrStopping; passing; {
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
		if err = db.answers(ctx); err == nil {
			return nil
		}
		// The server removes its pid file at its end, some time after closing its sockets.
		_, gone := os.Stat(filepath.Join(db.data(), "postmaster.pid"))
		passing = server.Code(err) == startingOrStopping || gone == nil
	}
	return err
}

// await polls until the server answers or has ended, or ctx has ended.
func (db *DB) await(ctx context.Context, p *process, log string) error {
	for wait := 5 * time.Millisecond; ; wait = min(wait*3/2, 200*time.Millisecond) {
		err := db.answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended at once: %s", db.Binary, lastLine(log))
		case <-ctx.Done():
			p.kill()
			return fmt.Errorf("%s does not answer: %s", db.Binary, server.Reason(err))
		case <-time.After(wait):
		}
	}
}

// lastLine returns the most informative line of a server's log: the last FATAL or ERROR, or
// else the last line.
func lastLine(path string) string {
	b, _ := os.ReadFile(path)
	last, fatal := "no log", ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		last = line
		if strings.Contains(line, "FATAL") || strings.Contains(line, "ERROR") || strings.HasPrefix(line, "F") {
			fatal = line
		}
	}
	if fatal != "" {
		return fatal
	}
	return last
}

func randomPassword() string { return rand.Text() }
