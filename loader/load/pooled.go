package load

import (
	"context"
	"fmt"

	"bulkload/loader/commit"
)

// throughPooler refuses loads that are not exact through a connection pooler, and tells the
// user how the others go on. A pooler may hold back a statement and deliver it when the loader
// has looked for its outcome, and no session can be ended to prevent that. Chunks that write a
// ledger row are exact all the same: the row of a late chunk makes the next attempt wait, and a
// successor deletes the lease that a chunk's transaction locks before it reads the ledger.
func (o *opening) throughPooler(context.Context) error {
	if !o.srv.Pooled() {
		return nil
	}
	why := ""
	switch {
	case o.purpose == toResume: // maybe only to verify it: see Load.throughPooler
	case o.req.CommitMode == commit.Statement:
		why = "--commit statement needs sessions that can be ended"
	case o.req.NoRegistry:
		why = "--no-registry has no ledger, which is needed there after a lost reply"
	case o.req.Indexes == DeferIndexes:
		why = "--indexes defer needs sessions that can be ended"
	}
	if why != "" {
		return o.srv.NotPooled(why)
	}
	o.tell(o.srv.PoolerNote())
	return nil
}

// throughPooler refuses to go on through a connection pooler with a load that was begun without.
func (l *Load) throughPooler(ctx context.Context) error {
	if !l.srv.Pooled() || !l.record.exists() {
		return nil
	}
	if l.record.spec.CommitMode == commit.Statement {
		return l.srv.NotPooled(fmt.Sprintf("load %s is committed by statement, which needs sessions that can be ended", l.ID))
	}
	list, err := l.record.registry.Deferred(ctx, l.ID)
	if err == nil && len(list) > 0 {
		err = l.srv.NotPooled(fmt.Sprintf("load %s has dropped indexes, which needs sessions that can be ended", l.ID))
	}
	return err
}
