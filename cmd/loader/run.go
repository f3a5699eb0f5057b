package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/load"
	"bulkload/loader/server"
)

// start runs a load.
func (p *program) start(c *cli.Context, req load.Request) error {
	if err := req.Check(); err != nil {
		return err
	}
	srv, done, err := p.open(c, req.Dataset.Facts().Database)
	if err != nil {
		return err
	}
	defer done()
	return p.startOn(c, srv, req)
}

// startOn runs a load on an open server.
func (p *program) startOn(c *cli.Context, srv *server.Server, req load.Request) error {
	r := &lateReporter{}
	req.Note, req.Observe = r.note, r.observe
	l, err := load.New(c.Context, srv, req)
	if err != nil {
		return err
	}
	defer l.Close()
	return p.runLoad(c.Context, srv, l, r, 0, connection(c) == "")
}

// lateReporter passes events to a reporter that is created after the job.
type lateReporter struct{ r *reporter }

func (l *lateReporter) note(s string) { l.r.note(s) }

func (l *lateReporter) observe(e loader.Event) { l.r.observe(e) }

// runLoad runs a load and prints its result. in is the number of rows already loaded.
func (p *program) runLoad(ctx context.Context, srv *server.Server, l *load.Load, r *lateReporter, in int64, local bool) error {
	p.noteTarget(srv, l.Table)
	p.noteLoad(l)
	facts, size := l.Dataset.Facts(), l.Dataset.Size()
	if !size.Once {
		p.resumeID = l.ID
	}
	if f, ok := l.Dataset.(dataset.Tolerant); ok && l.Method != load.Import {
		if p.inStatements = l.CommitMode == commit.Statement && srv.Product == server.PostgreSQL; !p.inStatements {
			p.tolerate = " --max-errors " + f.MoreErrors()
		}
	}
	p.importing.Store(l.Method == load.Import)
	p.keyed, p.handed = l.Keyed(), l.Method == load.Import && facts.BoundedMemory
	boundMemory(l)
	total, unit := size.Positions, facts.Noun
	if size.Endless {
		total, in, unit = -1, 0, "rows" // the length of a stream is unknown
	}
	r.r = p.report(total, in, unit)
	res, err := l.Run(ctx)
	r.r.end()
	var rejected int64
	if ctx.Err() == nil && l.ID != "" {
		n, rejectErr := p.writeRejects(ctx, l)
		rejected = n
		err = errors.Join(err, rejectErr)
	}
	if err != nil {
		if res.Rows > 0 {
			p.note("%d rows were confirmed by this run", res.Rows)
		}
		return err
	}
	if err := p.printResult(srv, l, res, rejected, local); err != nil || rejected == 0 {
		return err
	}
	return fmt.Errorf("%w: %d", errRejected, rejected)
}

// noteTarget tells the user where the command writes.
func (p *program) noteTarget(srv *server.Server, table *server.Table) {
	p.note("target: %s at %s, database %s, table %s, user %s", srv.Info, srv.Config.Host(), srv.Config.Database(), table.Display(), srv.Config.User())
}

// noteLoad tells the user what is loaded and how, with the load's notes.
func (p *program) noteLoad(l *load.Load) {
	what, id := l.Dataset.Title(), "not recorded: it cannot be resumed"
	if l.ID != "" {
		id = "load " + l.ID
	}
	if l.Method == load.Import {
		p.note("%s, %s; by IMPORT INTO, %s", what, id, l.Handoff())
	} else {
		p.note("%s, %s; chunks of %d rows, %s, by %s, committed by %s", what, id, l.Plan.RowsPerChunk, counted(int64(l.Workers.Start), "worker", "workers"), l.Method, l.CommitMode)
	}
	for _, n := range l.Guesses {
		p.always("note: %s", n)
	}
	for _, n := range append(l.Notes, l.Plan.Notes...) {
		p.note("note: %s", n)
	}
}

// boundMemory bounds the memory of a load of files.
func boundMemory(l *load.Load) {
	if l.Dataset.Facts().BoundedMemory {
		limitMemory(l.Workers.Max)
	}
}

// limitMemory sets the garbage collector's memory limit for the documented memory of loads of
// files: 64 MiB, and a chunk of at most 4 MiB for each worker. A long record exists several
// times at once: as text, value and message. Memory outside the limit, such as the program
// itself, is about 20 MiB. The limit does not bound the memory in use.
func limitMemory(workers int) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(36<<20 + int64(workers)*4<<20)
	}
}
