package localdb_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// binary returns the installed server of a product, or skips the test.
func binary(t *testing.T, p server.Product) localdb.Binary {
	t.Helper()
	b, err := localdb.FindProduct(p)
	if err != nil {
		t.Skipf("no %s: %v", p, err)
	}
	return b
}

func each(t *testing.T, f func(t *testing.T, b localdb.Binary)) {
	for _, p := range []server.Product{server.PostgreSQL, server.CockroachDB} {
		t.Run(p.String(), func(t *testing.T) { f(t, binary(t, p)) })
	}
}

// openDir returns a directory that every user can enter, unlike t.TempDir's parents.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "localdb-test")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func query(t *testing.T, url, sql string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var got string
	if err := conn.QueryRow(ctx, sql).Scan(&got); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatal(err)
	}
	return got
}

// reachable reports whether a server answers at url.
func reachable(url string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return false
	}
	conn.Close(ctx)
	return true
}

func start(t *testing.T, o localdb.Options) *localdb.DB {
	t.Helper()
	db, err := localdb.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func stop(t *testing.T, db *localdb.DB) {
	t.Helper()
	if err := db.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestDataStaysWhenTheServerStops(t *testing.T) {
	each(t, func(t *testing.T, b localdb.Binary) {
		o := localdb.Options{Binary: b, Dir: openDir(t)}
		db := start(t, o)
		query(t, db.URL, "CREATE TABLE t AS SELECT 'kept'::TEXT AS a")
		stop(t, db)
		if reachable(db.URL) {
			t.Error("the server still answers after its last user left")
		}
		db = start(t, o)
		if got := query(t, db.URL, "SELECT a FROM t"); got != "kept" {
			t.Errorf("got %q from the table after a restart, want kept", got)
		}
		info, err := os.Stat(db.Dir)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("data directory has mode %v (%v), want 0700", info.Mode(), err)
		}
		if _, err := localdb.RemoveAll(t.Context(), o.Dir); err == nil || !reachable(db.URL) {
			t.Errorf("removed while it is used: %v", err)
		}
		stop(t, db)
		// No server starts on these data any more, and they can be removed.
		for _, name := range []string{"PG_VERSION", "CURRENT"} {
			os.Truncate(filepath.Join(db.Dir, "data", name), 0)
		}
		if damaged, err := localdb.Start(t.Context(), o); err == nil {
			stop(t, damaged)
			t.Error("a server has started on damaged data")
		}
		if gone, err := localdb.RemoveAll(t.Context(), o.Dir); err != nil || !slices.Equal(gone, []string{db.Dir}) {
			t.Errorf("removed %s, %v", gone, err)
		}
		if _, err := os.Stat(db.Dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the directory is there: %v", err)
		}
	})
}

func TestSecondUserKeepsTheServer(t *testing.T) {
	each(t, func(t *testing.T, b localdb.Binary) {
		o := localdb.Options{Binary: b, Dir: openDir(t)}
		dbs := make([]*localdb.DB, 3)
		var wg sync.WaitGroup
		for i := range dbs {
			wg.Go(func() {
				db, err := localdb.Start(t.Context(), o)
				if err != nil {
					t.Error(err)
				}
				dbs[i] = db
			})
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
		for i, db := range dbs {
			if db.URL != dbs[0].URL {
				t.Fatalf("user %d has another server: %s and %s", i, db.URL, dbs[0].URL)
			}
			if !reachable(db.URL) {
				t.Fatalf("the server is gone with user %d still there", i)
			}
			stop(t, db)
		}
		if reachable(dbs[0].URL) {
			t.Error("the server still answers after its last user left")
		}
	})
}

// TestMain runs this binary as another process that fetches PostgreSQL, or that uses the
// local database and is killed.
func TestMain(m *testing.M) {
	if sum := os.Getenv("LOCALDB_TEST_FETCH"); sum != "" {
		localdb.SetPin("18.4.0-test.1", 0, sum)
		if _, err := localdb.Fetch(context.Background(), 18, localdb.Reporter{Line: func(text string) { println(text) }}); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv("LOCALDB_TEST_DIR"); dir != "" {
		b, err := localdb.FindProduct(server.PostgreSQL)
		if err == nil {
			_, err = localdb.Start(context.Background(), localdb.Options{Binary: b, Dir: dir})
		}
		if err != nil {
			println(err.Error())
			os.Exit(1)
		}
		println("ready")
		select {}
	}
	os.Exit(m.Run())
}

func TestServerOfAKilledCommandIsStoppedByTheNext(t *testing.T) {
	b := binary(t, server.PostgreSQL)
	dir := openDir(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LOCALDB_TEST_DIR="+dir)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, _ := out.Read(line)
	if got := string(line[:n]); !strings.HasPrefix(got, "ready") {
		t.Fatalf("the other process says %q", got)
	}
	cmd.Process.Kill()
	cmd.Wait()
	db := start(t, localdb.Options{Binary: b, Dir: dir})
	stop(t, db)
	if reachable(db.URL) {
		t.Error("the killed command's server still runs after the next command")
	}
}

func TestStalePidFile(t *testing.T) {
	b := binary(t, server.PostgreSQL)
	o := localdb.Options{Binary: b, Dir: openDir(t)}
	db := start(t, o)
	pid, err := os.ReadFile(filepath.Join(db.Dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	stop(t, db)
	// As after a power cut: the file is there, and the process is not.
	if err := os.WriteFile(filepath.Join(db.Dir, "data", "postmaster.pid"), pid, 0o666); err != nil {
		t.Fatal(err)
	}
	os.Chmod(filepath.Join(db.Dir, "data", "postmaster.pid"), 0o666)
	db = start(t, o)
	stop(t, db)
}

func TestLongPathAndClosedParents(t *testing.T) {
	b := binary(t, server.PostgreSQL)
	// t.TempDir's parents are 0700: as root, this needs a user namespace.
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	db := start(t, localdb.Options{Binary: b, Dir: dir})
	if got := query(t, db.URL, "SELECT 'here'"); got != "here" {
		t.Errorf("got %q", got)
	}
	stop(t, db)
}

func TestTemporaryServerCrashesAndComesBack(t *testing.T) {
	each(t, func(t *testing.T, b localdb.Binary) {
		db := start(t, localdb.Options{Binary: b, Temporary: true})
		query(t, db.TCP, "CREATE TABLE t AS SELECT 'kept'::TEXT AS a")
		if err := db.Crash(); err != nil {
			t.Fatal(err)
		}
		if reachable(db.TCP) {
			t.Error("the server answers after its crash")
		}
		if err := db.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := query(t, db.TCP, "SELECT a FROM t"); got != "kept" {
			t.Errorf("got %q after the crash, want kept", got)
		}
		stop(t, db)
		if _, err := os.Stat(db.Dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the temporary directory is still there: %v", err)
		}
	})
}

func TestNothingInstalled(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("COCKROACH_BINARY", "")
	t.Setenv("LOADER_PG_BIN", t.TempDir())
	if _, err := localdb.Find(); !errors.Is(err, localdb.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}
