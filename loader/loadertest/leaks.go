package loadertest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// leakTimeout is how long what a test has left may take to go: a server notices
// the end of a busy connection late, and pgx waits up to 15 s for the end of one that fell silent.
var leakTimeout = 20 * time.Second

// A baseline is what of this process was there before something that may leave more.
type baseline struct {
	started    int64 // servers until then
	goroutines goleak.Option
	files      map[string]int
}

func takeBaseline() baseline {
	return baseline{started.Load(), goleak.IgnoreCurrent(), openFiles()}
}

// behindWrite ignores what pgx begins beside a write that is slow: it reads until the next
// message, also from a connection that the kit keeps. Whether the connection is left is
// found by its socket.
var behindWrite = goleak.IgnoreAnyFunction("github.com/jackc/pgx/v5/pgconn/internal/bgreader.(*BGReader).bgRead")

// started counts the servers that the kit has started.
var started atomic.Int64

// left says which goroutines, open files and sockets there are beyond the baseline, once
// they have had their time to go: nothing where a server has been started meanwhile,
// whose own stay while it runs.
func (b baseline) left() string {
	for _, k := range every {
		if _, number := k.current(); number > b.started {
			return ""
		}
	}
	left := poll(func() string {
		if err := goleak.Find(b.goroutines, behindWrite); err != nil {
			return "goroutines left: " + err.Error()
		}
		return ""
	})
	if left != "" {
		return left
	}
	return poll(func() string {
		if left := newFiles(b.files); left != "" {
			return "files left open: " + left
		}
		return ""
	})
}

// CheckNoLeaks fails the test if, after its end and its other clean-ups, it leaves
// behind a goroutine, an open file or socket of this process (Linux only), or a
// session on one of the kit's servers that is not the kit's own. What is there by the
// call is not blamed on the test. It is not for tests that run in parallel.
//
// Every test that takes a server is checked so, by the function that gives it one, and
// every package by [Main], for goroutines and files. A test that does not clean up before
// its end calls it in its sub-tests, to name the one.
func CheckNoLeaks(t testing.TB) {
	t.Helper()
	before := takeBaseline()
	t.Cleanup(func() {
		if t.Failed() {
			return // what failed may not have cleaned up
		}
		if left := before.left(); left != "" {
			t.Errorf("%s", left)
		}
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		for _, k := range every {
			if srv, number := k.current(); number != 0 {
				srv.checkSessions(ctx, t)
			}
		}
	})
}

// checkSessions fails the test if the server has a session that is not the kit's own.
func (s Server) checkSessions(ctx context.Context, t testing.TB) {
	t.Helper()
	if left := poll(func() string { return s.sessions(ctx, "") }); left != "" {
		t.Errorf("sessions left on %s:\n%s", s.Name, left)
	}
}

// poll calls what until it returns nothing, at most for leakTimeout.
func poll(what func() string) string {
	deadline := time.Now().Add(leakTimeout)
	for {
		left := what()
		if left == "" || time.Now().After(deadline) {
			return left
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// sessions describes the client sessions on the server that are not the kit's
// own: in one database, or in all if it is empty. CockroachDB does not say in
// which database a session is.
func (s Server) sessions(ctx context.Context, database string) string {
	sql := `SELECT concat('  ', application_name, ': ', state, ': ', left(query, 200)) FROM pg_stat_activity
		WHERE backend_type = 'client backend' AND application_name <> $1 AND ($2 = '' OR datname = $2)`
	args := []any{kitName, database}
	if s.Cockroach {
		sql = `SELECT concat('  ', application_name, ': ', active_queries, ' ', last_active_query) FROM [SHOW CLUSTER SESSIONS]
			WHERE application_name <> $1`
		args = args[:1]
	}
	var left []string
	err := withConn(ctx, s.url, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		left, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return fmt.Sprintf("  cannot be told: %v", err)
	}
	return strings.Join(left, "\n")
}

// openFiles counts the process's open files by what they are; nil where /proc is not there.
func openFiles() map[string]int {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	files := map[string]int{}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err == nil && !strings.HasSuffix(target, "/fd") { // the directory that is being read
			files[target]++
		}
	}
	return files
}

// newFiles names the files that are open now and were not before. The Go
// runtime's own poller does not count, nor do the kit's connections.
func newFiles(before map[string]int) string {
	var left []string
	kept := keptFiles()
	for target, n := range openFiles() {
		if n > before[target] && !kept[target] && target != "anon_inode:[eventpoll]" && target != "anon_inode:[eventfd]" {
			left = append(left, target)
		}
	}
	return strings.Join(left, ", ")
}
