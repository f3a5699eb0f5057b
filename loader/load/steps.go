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
	{all, (*opening).connect},
	{resume, (*opening).openRegistry},
	{resume, (*opening).readRecord},
	{resume, (*opening).attach},
	{all, (*opening).inspect},
	{all, (*opening).findTable},
	{resume, (*opening).identify},
	{all, (*opening).fit},
	{create | preview, (*opening).openRegistry},
	{all, (*opening).recall},
	{create | preview, (*opening).chooseImport},
	{create, (*opening).openImport},
	{create | preview, (*opening).identify},
	{create | preview, (*opening).findIndexes},
	{create, (*opening).reserve},
	{all, (*opening).choose},
	{all, (*opening).makePlan},
	{create, (*opening).enter},
	{create, (*opening).dropIndexes},
}

// open takes the steps of an opening's purpose, and then end, which may make a Load of it. It
// begins anew with another opening where a connection breaks; what an opening that fails has
// begun is taken back.
func open(ctx context.Context, begin func() *opening, end func(*opening) error) error {
	return server.Again(ctx, func() error {
		o := begin()
		err := o.take(ctx)
		if err == nil {
			err = end(o)
		}
		if err != nil {
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
	err = open(ctx, begin, func(o *opening) (err error) {
		l, err = o.join(ctx)
		return err
	})
	return l, err
}

// New makes the table where it is missing, checks that it fits, and enters the load
// in the registry. It writes no row of the load, and begins anew where a connection
// breaks meanwhile; see server.Again. Errors: *TableError,
// *server.CreateError, *server.ConnectError, and those of the statements in between.
func New(ctx context.Context, srv *server.Server, req Request) (*Load, error) {
	return openLoad(ctx, func() *opening { return newOpening(create, srv, req) })
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
		return &opening{purpose: resume, srv: srv, req: Request{Settings: s}, record: &record{load: id, run: registry.NewID()}}
	})
}
