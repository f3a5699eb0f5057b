package load

import (
	"context"

	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// steps are what opens a load, in order, and for which purposes. A preview leaves out the steps
// that write; a resumed load has decided some before.
var steps = []struct {
	of purpose
	do func(*opening, context.Context) error
}{
	{toAll, (*opening).connect},
	{toResume, (*opening).openRegistry},
	{toResume, (*opening).readRecord},
	{toResume, (*opening).attach},
	{toAll, (*opening).inspect},
	{toAll, (*opening).findTable},
	{toResume, (*opening).identify},
	{toAll, (*opening).fit},
	{toCreate | toPreview, (*opening).openRegistry},
	{toCreate, (*opening).findUnfinished},
	{toAll, (*opening).recall},
	{toCreate | toPreview, (*opening).chooseImport},
	{toCreate, (*opening).openImport},
	{toCreate | toPreview, (*opening).identify},
	{toCreate | toPreview, (*opening).findIndexes},
	{toCreate, (*opening).reserve},
	{toAll, (*opening).choose},
	{toAll, (*opening).makePlan},
	{toCreate, (*opening).enter},
	{toCreate, (*opening).dropIndexes},
}

// takeSteps takes the steps of an opening's purpose, and then end, which may make a Load of it. It
// begins anew with another opening where a connection breaks; what an opening that fails has
// begun is taken back.
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

// take takes the steps.
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

// openLoad opens a load that will run.
func openLoad(ctx context.Context, begin func() *opening) (l *Load, err error) {
	err = takeSteps(ctx, begin, func(o *opening) (err error) {
		l, err = o.join(ctx)
		return err
	})
	return l, err
}

// New makes the table where it is missing, checks that it fits, and enters the load
// in the registry. It writes no row of the load, and begins anew where a connection
// breaks meanwhile; see server.RetryOpening. Errors: *TableError,
// *server.CreateError, *server.ConnectError, and those of the statements in between.
func New(ctx context.Context, srv *server.Server, req Request) (*Load, error) {
	return openLoad(ctx, func() *opening { return newOpening(toCreate, srv, req) })
}

// newOpening begins to open a new load.
func newOpening(p purpose, srv *server.Server, req Request) *opening {
	o := &opening{purpose: p, srv: srv, req: req, dataset: req.Dataset.Fresh()}
	o.record = &record{load: registry.NewID(), run: registry.NewID(), dataset: o.dataset}
	return o
}

// Resume opens a recorded load to go on with it, or to verify it. Its error wraps
// registry.ErrNoLoad or registry.ErrNoRegistry where there is none.
func Resume(ctx context.Context, srv *server.Server, id string, s Settings) (*Load, error) {
	return openLoad(ctx, func() *opening {
		return &opening{purpose: toResume, srv: srv, req: Request{Settings: s}, record: &record{load: id, run: registry.NewID()}}
	})
}
