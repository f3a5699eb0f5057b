package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/importer"
	"bulkload/loader/importer/virtual"
)

// ready makes the group's files: texts that are served, or parts that are uploaded.
func (r *importing) ready(ctx context.Context, g *group) error {
	if r.s.Mode == importer.URLs {
		for _, f := range r.settings.Handoff.Files {
			if !strings.Contains(f, "*") {
				g.urls = append(g.urls, f)
				continue
			}
			for i := range r.s.Streams {
				g.urls = append(g.urls, importer.Name(f, i, r.s.Streams))
			}
		}
		return nil
	}
	var fit func(chunker.Range) (chunker.Range, error)
	if r.csv != nil {
		fit = r.csv.Fit
	}
	var err error
	if g.texts, err = virtual.Parts(r.source(), r.s.Format, g.claim.Range, r.s.Streams, fit); err != nil {
		return err
	}
	for i, t := range g.texts {
		// The load's id makes the name, and so the job, known to later runs.
		name := fmt.Sprintf("%s-%d-%0*d.csv", r.handoffID(), g.claim.First, len(fmt.Sprint(len(g.texts))), i+1)
		if r.s.Mode == importer.Serve {
			if r.serving != nil {
				g.urls = append(g.urls, r.serving.Offer(name, t))
			}
		} else {
			name += ".gz"
			g.urls = append(g.urls, r.space.URL(name))
		}
		g.names = append(g.names, name)
	}
	return nil
}

// upload uploads the group's parts, several at a time.
func (r *importing) upload(ctx context.Context, g *group) error {
	if r.s.Mode != importer.Upload || g.there {
		return nil
	}
	// What an earlier attempt left may be half a file.
	if err := r.retry(ctx, func() error { return r.space.Remove(ctx, g.names...) }); err != nil {
		return err
	}
	if err := r.retry(ctx, func() error { return r.space.Prepare(ctx) }); err != nil {
		return err
	}
	ctx, stop := r.untilStop(ctx)
	defer stop()
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(max(r.settings.Workers, leastWorkers))
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
	g.there = true
	return nil
}

// clean removes what was uploaded.
func (r *importing) clean(ctx context.Context, g *group) error {
	if r.s.Mode != importer.Upload || len(g.names) == 0 {
		return nil
	}
	return r.retry(ctx, func() error { return r.space.Remove(ctx, g.names...) })
}

// served returns how far a job is, in positions of the group.
func (r *importing) served(g *group, j importer.Job) int64 {
	if r.s.Mode == importer.Serve && r.serving != nil {
		return r.uploaded(g)
	}
	n := int64(j.Fraction * float64(g.claim.Len()))
	if r.s.Mode == importer.Upload {
		return g.claim.Len()/2 + n/2
	}
	return n
}

// uploaded returns how much of the group's texts was made.
func (r *importing) uploaded(g *group) int64 {
	var n int64
	for _, t := range g.texts {
		n += t.Position() - t.Range.First
	}
	if r.s.Mode == importer.Upload {
		n /= 2 // the rest is for reading it
	}
	return n
}

// progress tells the observer how far the group is.
func (r *importing) progress(g *group, at func() int64) {
	r.telling.Lock()
	defer r.telling.Unlock()
	if g != r.current {
		return
	}
	// The last of it is told when the server has confirmed it.
	n := min(at(), g.claim.Len()*99/100) - r.moved
	if n > 0 && r.settings.Observe != nil {
		r.moved += n
		r.settings.Observe(loader.Event{Span: chunker.Span{First: g.claim.First, Count: n, Rows: n}, Outcome: loader.Outcome{Already: g.earlier}})
	}
}

// uploadAhead begins with the next group while a job reads this one.
func (r *importing) uploadAhead(ctx context.Context) {
	if r.s.Mode != importer.Upload || r.s.Group >= r.Positions {
		return
	}
	r.ahead = make(chan *group, 1)
	ctx, r.noAhead = context.WithCancel(ctx)
	go func() {
		g, err := r.claim(ctx)
		if err == nil {
			if g.err = r.ready(ctx, g); g.err == nil {
				g.err = r.upload(ctx, g)
			}
		} else if errors.Is(err, loader.ErrBusy) {
			g.err = io.EOF // the job at work is all that is left
		}
		r.ahead <- g
	}()
}

// watchTexts tells how far texts are, until done is closed.
func watchTexts(texts []*virtual.File, done <-chan struct{}, observe func(int64)) {
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
