package load

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/server"
)

// restoreSession gives the sessions of a load that is opened again the settings that it
// began with: they say which moment a time without a zone is, and which of two numbers is
// the month.
func (l *Load) restoreSession(ctx context.Context, s Settings) error {
	now := l.sessions.Settings()
	switch {
	case l.spec.Session == nil:
		if l.Dataset.Facts().Unit == "bytes" { // texts; numbers have one meaning
			l.Notes = append(l.Notes, fmt.Sprintf("this load was begun by a version that did not record its session's settings; it goes on with time zone %s and date style %s, which must be those that it began with", now["timezone"], now["datestyle"]))
		}
		return nil
	case maps.Equal(l.spec.Session, now):
		return nil
	}
	server.ClosePool(l.pool)
	if err := l.connect(ctx, s); err != nil {
		return err
	}
	l.registry = l.registry.Over(l.pool)
	return l.pool.Ping(ctx)
}

// confirm makes sure that what the run committed does not lack a standby that the server
// waits for. The last release of a claim is a commit behind all others, in the order of
// the log, and confirms them if it was waited for. A run that found everything done made
// none, and what an earlier run did may lack it; nor is there one without a registry.
func (l *Load) confirm(ctx context.Context, res loader.Result) error {
	if l.srv.Product != server.PostgreSQL {
		return nil
	}
	if !l.sessions.Unwaited() && res.Chunks > 0 && (l.registry != nil || res.AlreadyCommittedRows == 0) {
		return nil
	}
	attempt, within := l.settings.ChunkTimeout, l.settings.RetryFor
	if attempt <= 0 {
		attempt = commit.DefaultChunkTimeout
	}
	if within <= 0 {
		within = commit.DefaultRetryFor
	}
	err := l.sessions.Confirm(ctx, l.pool, attempt, within)
	if errors.Is(err, server.ErrUnwaited) {
		return fmt.Errorf("%w: the rows are in, but %w", loader.ErrUnconfirmed, err)
	}
	return err
}
