package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A Watch knows what the sessions of one pool have in common, and which commits of theirs
// the server did not confirm wholly. The zero value is ready; it is safe for concurrent
// use.
type Watch struct {
	// Note, when not nil, is told what a user should know. Set it before use.
	Note func(string)

	mu       sync.Mutex
	settings map[string]string // nil until the first session is there
	notes    []string
	unwaited int // warnings so far
}

// Settings returns the settings that give texts their meaning, as all sessions of the pool
// have them; nil before the first session.
func (w *Watch) Settings() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.settings)
}

// Notes are what the user should know of the sessions.
func (w *Watch) Notes() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.notes...)
}

// adopt makes what a session was found to have the settings of all, if it is the first. It
// returns a setting in which the session differs from all, or nothing.
func (w *Watch) adopt(found map[string]asked, names []string) (differs string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.settings == nil {
		w.settings = map[string]string{}
		for _, name := range names {
			if v, ok := found[name]; ok {
				w.settings[name] = v.is
			}
		}
		if v := found["synchronous_commit"]; v.was != v.is {
			w.notes = append(w.notes, fmt.Sprintf("synchronous_commit is %s here; the load's own sessions have it on, so that no confirmed row is lost", v.was))
		}
		return ""
	}
	for name, value := range w.settings {
		if v, ok := found[name]; ok && v.is != value {
			return fmt.Sprintf("%s is %q, not %q", name, v.is, value)
		}
	}
	return ""
}

// notice hears what the server says beside its answers.
func (w *Watch) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	if !unwaited(n) {
		return
	}
	w.mu.Lock()
	w.unwaited++
	first := w.unwaited == 1
	w.mu.Unlock()
	if first && w.Note != nil {
		w.Note(fmt.Sprintf("a commit did not wait for its standby (%s); a later one that does confirms it", n.Message))
	}
}

// unwaited reports whether a warning may say that a commit is in on this server, and that
// its standby was not waited for: SyncRepWaitForLSN (src/backend/replication/syncrep.c)
// says 01000 where the statement was cancelled or timed out, and 57P01 where the session
// was ended. Its text is in the server's language. 01000 is every warning's default; what
// functions of the user's RAISE has it too, and is not meant. Any other warning is taken
// for one: all it costs is one more commit.
func unwaited(n *pgconn.Notice) bool {
	severity := n.SeverityUnlocalized
	if severity == "" {
		severity = n.Severity
	}
	if severity != "WARNING" || n.Code != pgerrcode.Warning && n.Code != pgerrcode.AdminShutdown {
		return false
	}
	return n.Routine != "exec_stmt_raise"
}

// Unwaited reports whether a commit of the pool's sessions may lack its standby.
func (w *Watch) Unwaited() bool { return w.warnings() > 0 }

func (w *Watch) warnings() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unwaited
}

// ErrUnwaited says that the standby of a server was not waited for.
var ErrUnwaited = errors.New("the server's standby may lack what was committed")

// Confirm makes a small commit on PostgreSQL that waits for the standbys that commits wait
// for, again until one did or within has passed. The log is in order: every earlier commit
// has then arrived as well. attempt bounds each. The error wraps ErrUnwaited.
func (w *Watch) Confirm(ctx context.Context, pool *pgxpool.Pool, attempt, within time.Duration) error {
	var failed error // of the last attempt; nil: no standby was waited for
	p := RetryPolicy{For: within, Since: time.Now(), Judge: func(err error) bool { return errors.Is(err, ErrUnwaited) || MayPass(err) }}
	err := p.Do(ctx, func() error {
		before := w.warnings()
		_, failed = TimeoutPool{Pool: pool, Timeout: attempt}.Exec(ctx, `SELECT pg_catalog.pg_logical_emit_message(true, 'loader', 'confirm')`)
		if failed == nil && w.warnings() != before {
			return ErrUnwaited
		}
		return failed
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case failed == nil:
		return fmt.Errorf("%w: no commit waited for it in %s", ErrUnwaited, within)
	}
	return fmt.Errorf("%w: %s", ErrUnwaited, Reason(failed))
}
