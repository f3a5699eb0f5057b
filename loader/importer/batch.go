package importer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/importer/virtual"
)

// ready makes the batch's files, and uploads or serves them.
func (r *Runner) ready(ctx context.Context, g *batch) error {
	if r.State.Mode == URLs {
		for _, f := range r.Options.Files {
			if !strings.Contains(f, "*") {
				g.urls = append(g.urls, f)
				continue
			}
			for i := range r.State.Streams {
				g.urls = append(g.urls, Name(f, i, r.State.Streams))
			}
		}
		return nil
	}
	var err error
	if g.texts, err = virtual.Parts(r.Input.Source, r.State.Format, g.claim.Range, r.State.Streams, r.Input.Fit); err != nil {
		return err
	}
	for i, t := range g.texts {
		// Other runs find the job by this name, which they make of the load's id and the batch.
		name := fmt.Sprintf("%s%0*d.csv", r.prefix(g.claim.Range), len(fmt.Sprint(len(g.texts))), i+1)
		if r.State.Mode == Serve {
			if r.Server != nil {
				g.urls = append(g.urls, r.Server.Offer(name, t))
			}
		} else {
			name += ".gz"
			g.urls = append(g.urls, r.space.URL(name))
		}
		g.names = append(g.names, name)
	}
	return nil
}

// upload uploads the batch's parts, several at a time.
func (r *Runner) upload(ctx context.Context, g *batch) error {
	if r.State.Mode != Upload || g.stored {
		return nil
	}
	// An earlier attempt may have left half a file.
	if err := r.retry(ctx, func() error { return r.space.Remove(ctx, g.names...) }); err != nil {
		return err
	}
	if err := r.retry(ctx, func() error { return r.space.Prepare(ctx) }); err != nil {
		return err
	}
	ctx, stop := loader.WithStop(ctx, r.Stop)
	defer stop()
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(max(r.Workers, minUploads))
	for i, t := range g.texts {
		group.Go(func() error {
			err := r.space.Upload(gctx, g.names[i], t, r.retry)
			var src *virtual.SourceError
			if errors.As(err, &src) {
				return src.Err
			}
			r.progress(g, func() int64 { return r.uploaded(g) })
			return err
		})
	}
	if err := group.Wait(); err != nil {
		if errors.Is(context.Cause(ctx), loader.ErrStopped) {
			return loader.ErrStopped
		}
		return err
	}
	g.stored = true
	return nil
}

// clean removes the uploaded files.
func (r *Runner) clean(ctx context.Context, g *batch) error {
	if r.State.Mode != Upload || len(g.names) == 0 {
		return nil
	}
	return r.retry(ctx, func() error { return r.space.Remove(ctx, g.names...) })
}

// served returns how far the readers of the served files are, in positions of the batch.
func (r *Runner) served(g *batch, j Job) int64 {
	if r.State.Mode == Serve && r.Server != nil {
		return r.uploaded(g)
	}
	n := int64(j.Fraction * float64(g.claim.Len()))
	if r.State.Mode == Upload {
		return g.claim.Len()/2 + n/2
	}
	return n
}

// uploaded returns how many positions of the batch were uploaded.
func (r *Runner) uploaded(g *batch) int64 {
	var n int64
	for _, t := range g.texts {
		n += t.Position() - t.Range.First
	}
	if r.State.Mode == Upload {
		n /= 2 // the rest is for reading it
	}
	return n
}

// progress reports how far the batch is.
func (r *Runner) progress(g *batch, at func() int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g != r.current {
		return
	}
	// The last hundredth is reported when the server has confirmed the batch.
	n := min(at(), g.claim.Len()*99/100) - r.reported
	if n > 0 && r.Observe != nil {
		r.reported += n
		r.Observe(loader.Event{Span: chunker.Span{First: g.claim.First, Count: n, Rows: n}, Outcome: loader.Outcome{AlreadyCommitted: g.earlier}})
	}
}

// uploadAhead begins to upload the next batch while a job reads this one.
func (r *Runner) uploadAhead(ctx context.Context) {
	if r.State.Mode != Upload || r.State.Batch >= r.Input.Positions {
		return
	}
	r.ahead = make(chan *batch, 1)
	ctx, r.noAhead = context.WithCancel(ctx)
	go func() {
		g, err := r.claim(ctx)
		if err == nil {
			if g.err = r.ready(ctx, g); g.err == nil {
				g.err = r.upload(ctx, g)
			}
		}
		r.ahead <- g
	}()
}

// Watch calls observe with the number of rows made of virtual files, until done is closed.
func Watch(texts []*virtual.File, done <-chan struct{}, observe func(int64)) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		var n int64
		for _, t := range texts {
			n += t.Position() - t.Range.First
		}
		observe(n)
	}
}
