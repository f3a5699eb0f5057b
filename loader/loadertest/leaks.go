package loadertest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// leakTimeout is how long what a test has left may take to go: a server notices
// the end of a busy connection late.
var leakTimeout = 10 * time.Second

// CheckNoLeaks fails the test if, after its end and its other clean-ups, it leaves
// behind a goroutine, an open file or socket of this process (Linux only), or a
// session on one of the kit's servers that is not the kit's own. Call it first in
// a test, or in what ForEachServer calls: what is there by then is not blamed on
// the test. It is not for tests that run in parallel.
func CheckNoLeaks(t testing.TB) {
	t.Helper()
	goroutines, files := goleak.IgnoreCurrent(), openFiles()
	t.Cleanup(func() {
		if t.Failed() {
			return // what failed may not have cleaned up
		}
		left := poll(func() string {
			if err := goleak.Find(goroutines); err != nil {
				return err.Error()
			}
			return ""
		})
		if left != "" {
			t.Errorf("goroutines left: %s", left)
		}
		if left := poll(func() string { return newFiles(files) }); left != "" {
			t.Errorf("files left open: %s", left)
		}
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		for _, k := range kinds {
			if k.stop == nil {
				continue
			}
			if left := poll(func() string { return k.server.sessions(ctx, "") }); left != "" {
				t.Errorf("sessions left on %s:\n%s", k.name, left)
			}
		}
	})
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
