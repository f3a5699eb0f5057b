package main

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"bulkload/loader/failure"
	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// A localError says that no private local database is available.
type localError struct{ err error }

// ErrorKind implements failure.Kinded.
func (e *localError) ErrorKind() failure.Kind { return failure.Target }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// startLocal starts the private local database, with a bar for its download. The first signal
// ends the wait.
func (p *program) startLocal(ctx context.Context, o localdb.Options) (*localdb.DB, error) {
	return withDownload(ctx, p, func(ctx context.Context, r localdb.Reporter) (*localdb.DB, error) {
		o.Report = r
		return localdb.Start(ctx, o)
	})
}

// withDownload calls f with a reporter for its downloads.
func withDownload[T any](ctx context.Context, p *program, f func(context.Context, localdb.Reporter) (T, error)) (T, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-p.stop:
			cancel()
		case <-ended:
		}
	}()
	var bar *progressbar.ProgressBar
	v, err := f(ctx, localdb.Reporter{
		Line: func(text string) { p.note("%s", text) },
		Progress: func(done, total int64) {
			if p.quiet || !isTerminal(p.stderr.File) {
				return
			}
			if bar == nil {
				if total == 0 {
					total = -1
				}
				bar = progressbar.NewOptions64(total,
					progressbar.OptionSetWriter(p.stderr.File),
					progressbar.OptionSetDescription("fetching"),
					progressbar.OptionShowBytes(true),
					progressbar.OptionFullWidth(),
					progressbar.OptionClearOnFinish(),
					progressbar.OptionUseANSICodes(os.Getenv("NO_COLOR") == ""),
				)
			}
			if total > 0 {
				done = min(done, total-1) // the bar must not end before the download
			}
			bar.Set64(done)
		},
	})
	if bar != nil {
		bar.Finish()
		bar.Clear()
	}
	if err != nil {
		return v, &localError{err}
	}
	return v, nil
}

// localTarget starts the private local database; see target.
func (p *program) localTarget(ctx context.Context) (cfg *server.Config, done func(), err error) {
	db, err := p.startLocal(ctx, localdb.Options{})
	if err != nil {
		return nil, nil, err
	}
	p.note("local database: %s, data in %s", db.Binary, db.Dir)
	p.noteOthers(db)
	if db.Product == server.PostgreSQL {
		if path := cockroachPath(); path != "" {
			p.note("PostgreSQL has no IMPORT; loader db start --cockroach changes to %s", path)
		} else {
			p.note("PostgreSQL has no IMPORT; put cockroach on PATH to load into CockroachDB")
		}
	}
	done = p.atEnd(func() {
		// Also after Ctrl-C: the server must not keep running.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if err := db.Stop(ctx); err != nil {
			p.note("%v", err)
		}
	})
	cfg, err = server.Parse(db.URL)
	if err == nil {
		cfg = cfg.WithDatabase("")
	}
	return cfg, done, err
}

// noteOthers names the unused local databases.
func (p *program) noteOthers(db *localdb.DB) {
	list, _ := localdb.List("") // the used database was found there
	var others []string
	for _, d := range list {
		if d.Dir != db.Dir && d.Made() {
			others = append(others, d.String()+" ("+startCommand(d)+")")
		}
	}
	if len(others) > 0 {
		p.note("other local databases: %s", strings.Join(others, "; "))
	}
}

// startCommand returns the command that switches to a database.
func startCommand(d localdb.Data) string {
	if d.Product == server.CockroachDB {
		return "loader db start --cockroach"
	}
	return "loader db start --postgres " + d.Version
}

// cockroachPath returns the path of cockroach; empty if there is none.
func cockroachPath() string {
	name := os.Getenv("COCKROACH_BINARY")
	if name == "" {
		name = "cockroach"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}
