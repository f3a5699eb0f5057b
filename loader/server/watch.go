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

// A Watch records the settings that the sessions of one pool share, and counts commits that
// may lack a standby's confirmation. The zero value is ready; it is safe for concurrent use.
type Watch struct {
	// Note, when not nil, receives messages for the user. Set it before use.
	Note func(string)

	mu       sync.Mutex
	settings map[string]string // nil until the first session is open
	notes    []string
	unwaited int // warnings so far
}

// Settings returns the settings that determine the meaning of texts, the same in all sessions
// of the pool; nil before the first session.
func (w *Watch) Settings() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.settings)
}

// Notes returns messages about the sessions for the user.
func (w *Watch) Notes() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.notes...)
}

// adopt records the settings of the first session for all. For a later session it returns a
// description of one setting that differs, or "".
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
			w.notes = append(w.notes, fmt.Sprintf("synchronous_commit is %s on this server; the load's sessions set it to on, so that no confirmed row is lost", v.was))
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

// notice handles a notice from the server.
func (w *Watch) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	if !unwaited(n) {
		return
	}
	w.mu.Lock()
	w.unwaited++
	first := w.unwaited == 1
	w.mu.Unlock()
	if first && w.Note != nil {
		w.Note(fmt.Sprintf("a commit did not wait for its standby (%s); a later commit that waits confirms it", n.Message))
	}
}

// unwaited reports whether a warning may mean that a commit was applied on this server without
// waiting for its standby. SyncRepWaitForLSN (src/backend/replication/syncrep.c) warns with
// 01000 if the statement was cancelled or timed out, and with 57P01 if the session was ended.
// The text is in the server's language, so it cannot decide. 01000 is the default of every
// warning; a RAISE in a user's function has it too and is excluded. Any other such warning
// counts: a false match costs one more commit.
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

// ErrUnwaited means that a commit did not wait for the server's standby.
var ErrUnwaited = errors.New("the server's standby may lack committed rows")

// Confirm makes a small commit on PostgreSQL that waits for the standbys required by
// synchronous commits. It repeats that until one commit waited or within has passed; attempt
// bounds each try. The log is ordered, so every earlier commit has then arrived as well. The
// error wraps ErrUnwaited, or is that of ctx.
func (w *Watch) Confirm(ctx context.Context, pool *pgxpool.Pool, attempt, within time.Duration) error {
	var failed error // of the last attempt; nil means it committed without waiting
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
