//go:build unix

package localdb_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/loadertest"
	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// TestServerThatIsStopping joins a server that another command was stopping when it was
// killed: it is waited for, and started again.
func TestServerThatIsStopping(t *testing.T) {
	o := localdb.Options{Binary: binary(t, server.PostgreSQL), Dir: openDir(t)}
	first := start(t, o)
	conn, err := pgx.Connect(t.Context(), first.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	pid, err := os.ReadFile(filepath.Join(first.Dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(pid), "\n")
	postmaster, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	// Such a stop waits for the open session, and takes no other.
	if err := syscall.Kill(postmaster, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	loadertest.Eventually(t, "a server that takes nobody", func() bool { return !reachable(first.URL) })
	log := filepath.Join(first.Dir, "server.log")
	refused := func() int { b, _ := os.ReadFile(log); return strings.Count(string(b), "is shutting down") }
	before := refused()
	started := make(chan error, 1)
	var second *localdb.DB
	go func() {
		var err error
		second, err = localdb.Start(t.Context(), o)
		started <- err
	}()
	loadertest.Eventually(t, "an attempt at it", func() bool { return refused() > before })
	conn.Close(t.Context())
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	if got := query(t, second.URL, "SELECT 'back'"); got != "back" {
		t.Errorf("got %q", got)
	}
	stop(t, second)
	stop(t, first)
}

// TestInitdbThatIsDying makes a database where a child of a killed initdb is still writing.
func TestInitdbThatIsDying(t *testing.T) {
	b := binary(t, server.PostgreSQL)
	o := localdb.Options{Binary: b, Dir: openDir(t)}
	major, _, _ := strings.Cut(b.Version, ".")
	left := filepath.Join(o.Dir, "postgresql-"+major, "new-1")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for n := 0; n < 5000 && os.WriteFile(filepath.Join(left, fmt.Sprint(w, "-", n)), nil, 0o600) == nil; n++ {
			}
		})
	}
	loadertest.Eventually(t, "the first files", func() bool {
		list, err := os.ReadDir(left)
		return err == nil && len(list) > 100
	})
	db := start(t, o)
	defer stop(t, db)
	writers.Wait()
	if _, err := os.Lstat(left); !os.IsNotExist(err) {
		t.Errorf("what was left is there: %v", err)
	}
}
