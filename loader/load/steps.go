package load

import (
	"context"

	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// steps are the steps of opening a load, in order, with their purposes. A preview skips steps
// that write; a resumed load skips decisions that its record has made.
var steps = []struct {
	of purpose
	do func(*opening, context.Context) error
}{
	{toAll | toFile, (*opening).contradict},
	{toAll | toFile, (*opening).connect},
	{toResume, (*opening).openRegistry},
	{toResume, (*opening).readRecord},
	{toAll, (*opening).throughPooler},
	{toResume, (*opening).attach},
	{toAll | toFile, (*opening).inspect},
	{toResume, (*opening).makeBeside},
	{toAll | toFile, (*opening).findTable},
	{toResume, (*opening).identify},
	{toAll | toFile, (*opening).fit},
	{toCreate | toPreview, (*opening).openRegistry},
	{toCreate, (*opening).findUnfinished},
	{toAll, (*opening).recall},
	{toCreate | toPreview, (*opening).announceTruncation},
	{toCreate | toPreview, (*opening).planReplacement},
	{toCreate | toPreview, (*opening).chooseImport},
	{toCreate, (*opening).openImport},
	{toCreate | toPreview, (*opening).identify},
	{toCreate | toPreview, (*opening).findIndexes},
	{toCreate | toFile, (*opening).reserve},
	{toAll, (*opening).choose},
	{toAll, (*opening).makePlan},
	{toCreate | toResume, (*opening).openSessions},
	{toCreate, (*opening).enter},
	{toCreate, (*opening).makeBeside},
	{toCreate, (*opening).dropIndexes},
}

// takeSteps takes the steps of an opening's purpose, and then calls end, which may make a Load
// of it. After a broken connection it starts over with a new opening. A failed opening is
// undone.
func takeSteps(ctx context.Context, begin func() *opening, end func(*opening) error) error {
	return server.RetryOpening(ctx, func() error {
		o := begin()
		err := o.take(ctx)
		if err == nil {
			err = end(o)
		}
		if err != nil {
			err = o.record.unmake(ctx, o.srv, o.pool, o.table, err)
			err = o.undo(ctx, err)
			o.close()
		}
		return err
	})
}

// take takes the steps for the opening's purpose.
func (o *opening) take(ctx context.Context) error {
	for _, s := range steps {
		if s.of&o.purpose == 0 {
			continue
		}
		if err := s.do(o, ctx); err != nil {
			return err
		}
	}
	return nil
}

// openLoad opens a load to run.
func openLoad(ctx context.Context, begin func() *opening) (l *Load, err error) {
	err = takeSteps(ctx, begin, func(o *opening) (err error) {
		l, err = o.join(ctx)
		return err
	})
	return l, err
}

// New creates a missing table, checks that the table fits, and enters the load in the registry.
// It writes no row of the load. It starts over after a broken connection; see
// server.RetryOpening. Errors: *TableError, *server.CreateError, *server.ConnectError, and
// those of its statements.
func New(ctx context.Context, srv *server.Server, req Request) (*Load, error) {
	return openLoad(ctx, func() *opening { return newOpening(toCreate, srv, req) })
}

// newOpening returns the opening of a new load.
func newOpening(p purpose, srv *server.Server, req Request) *opening {
	o := &opening{purpose: p, srv: srv, req: req, dataset: req.Dataset.Fresh()}
	o.record = &record{load: registry.NewID(), run: registry.NewRun(srv.Info), dataset: o.dataset}
	return o
}

// Resume opens a recorded load to run it again or to verify it. Its error wraps
// registry.ErrNoLoad or registry.ErrNoRegistry if there is no such record.
func Resume(ctx context.Context, srv *server.Server, id string, s Settings) (*Load, error) {
	return openLoad(ctx, func() *opening {
		return &opening{purpose: toResume, srv: srv, req: Request{Settings: s}, record: &record{load: id, run: registry.NewRun(srv.Info)}}
	})
}
