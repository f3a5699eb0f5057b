package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/urfave/cli/v2"

	"bulkload/loader/dataset"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

func (p *program) loadsCommand() *cli.Command {
	id := func(name, usage string, flags []cli.Flag, action func(*cli.Context, string) error) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, ArgsUsage: "ID", Flags: append(flags, p.commonFlags()...),
			Action: func(c *cli.Context) error {
				if err := p.begin(c); err != nil {
					return err
				}
				if c.NArg() != 1 {
					return &usageError{fmt.Sprintf("loads %s needs the id of one load; loader loads list shows the ids", name)}
				}
				return action(c, strings.ToLower(c.Args().First()))
			},
		}
	}
	list := &cli.Command{
		Name: "list", Usage: "list the loads of a database", Flags: p.commonFlags(),
		Action: func(c *cli.Context) error {
			if err := p.begin(c); err != nil {
				return err
			}
			if c.Args().Present() {
				return &usageError{fmt.Sprintf("loads list takes no argument %q; loads show takes an id", c.Args().First())}
			}
			return p.listLoads(c)
		},
	}
	return &cli.Command{
		Name:  "loads",
		Usage: "list, show, resume, pause, verify, cancel and forget loads",
		Description: `A load is one row in schema loader of the database that it loads into.
Example:
   loader loads resume 3f9q2k7x --chunk 500 --workers 4`,
		Flags: list.Flags,
		Subcommands: []*cli.Command{
			list,
			id("show", "show one load", nil, p.showLoad),
			id("resume", "resume a load exactly where it stopped", append(p.resumeFlags(),
				&cli.StringFlag{Name: "rejects", Usage: "csv: write rejects to PATH.rejects.csv and PATH.errors.csv"},
				&cli.StringFlag{Name: "max-errors", Usage: "csv: bad records to set aside, N or N%, those of earlier runs included (default: as before)"},
				&cli.StringFlag{Name: "max-record-bytes", Usage: "csv: maximum size of a record, in bytes (default: as before)"},
				&cli.BoolFlag{Name: "any-time", Usage: "csv: accept a file of which only the modification time has changed"}), p.resumeLoad),
			id("pause", "pause the IMPORT job of a load; loads resume resumes it", nil, p.pauseLoad),
			id("verify", "compare every row of a load with its seed or its files", nil, p.verifyLoad),
			id("cancel", "give up an unfinished load: end its runs and recreate its deferred indexes; rows already loaded stay", []cli.Flag{
				&cli.BoolFlag{Name: "remove-rows", Usage: "also delete its rows, except those whose key or content was changed since"}}, p.cancelLoad),
			id("forget", "remove a load's record; its rows stay, and it cannot be resumed", nil, p.forgetLoad),
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return &usageError{fmt.Sprintf("loads has no command %q; it has list, show, resume, pause, verify, cancel, forget", c.Args().First())}
			}
			return list.Action(c)
		},
	}
}

// registries calls f with the registry of the URL's database. If the URL names none, it calls f
// with the registry of each of the tutorial's databases, until f returns stop.
func (p *program) registries(c *cli.Context, f func(*server.Server, *registry.Registry) (stop bool, err error)) error {
	cfg, done, err := p.target(c.Context, c)
	if err != nil {
		return err
	}
	defer done()
	names := []string{cfg.Database()}
	if names[0] == "" {
		names = databases()
	}
	found := false
	for _, name := range names {
		srv, err := server.Open(c.Context, cfg.WithDatabase(name), "")
		if err != nil {
			if len(names) > 1 && server.Code(err) == pgerrcode.InvalidCatalogName {
				continue
			}
			return err
		}
		stop, err := p.withRegistry(c.Context, srv, f)
		if errors.Is(err, registry.ErrNoRegistry) || len(names) > 1 && server.Code(err) == pgerrcode.InvalidCatalogName {
			continue
		}
		found = true
		if stop || err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("%w: loader has loaded nothing into %s", registry.ErrNoRegistry, strings.Join(names, " or "))
	}
	return nil
}

func (p *program) withRegistry(ctx context.Context, srv *server.Server, f func(*server.Server, *registry.Registry) (bool, error)) (bool, error) {
	pool, err := srv.Pool(ctx, server.Sessions{Name: "loader", Max: 2, Brief: true})
	if err != nil {
		return false, err
	}
	defer server.ClosePool(pool)
	reg, err := registry.Open(ctx, pool, srv.Info)
	if err != nil {
		return false, err
	}
	return f(srv, reg)
}

// one calls f with the registry that has the load.
func (p *program) one(c *cli.Context, id string, f func(*server.Server, *registry.Registry, registry.Load) error) error {
	found := false
	err := p.registries(c, func(srv *server.Server, reg *registry.Registry) (bool, error) {
		l, err := reg.Get(c.Context, id)
		if errors.Is(err, registry.ErrNoLoad) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		found = true
		return true, f(srv, reg, l)
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: %s; loader loads list shows all loads", registry.ErrNoLoad, id)
	}
	return err
}

// loadJSON is the JSON form of a load's record.
type loadJSON struct {
	ID       string          `json:"load"`
	Kind     string          `json:"what"`
	Database string          `json:"database"`
	Table    string          `json:"table"`
	State    string          `json:"state"`
	In       int64           `json:"in"`
	Of       int64           `json:"of"`
	Unit     string          `json:"unit"` // of In and Of: rows, or bytes of files
	Created  time.Time       `json:"created"`
	Finished *time.Time      `json:"finished,omitempty"`
	Spec     json.RawMessage `json:"spec"`
}

func asJSON(srv *server.Server, l registry.Load, in int64) loadJSON {
	j := loadJSON{ID: l.ID, Kind: l.Kind, Database: srv.Config.Database(), Table: l.Target, State: string(l.State), In: in, Of: l.Positions, Unit: "rows", Created: l.Created, Spec: l.Spec}
	for _, k := range dataset.Kinds() {
		if k.Kind == l.Kind {
			j.Unit = k.Unit
		}
	}
	if !l.Finished.IsZero() {
		j.Finished = &l.Finished
	}
	return j
}

func (p *program) listLoads(c *cli.Context) error {
	all := []loadJSON{}
	err := p.registries(c, func(srv *server.Server, reg *registry.Registry) (bool, error) {
		list, in, err := reg.ListIn(c.Context)
		for _, l := range list {
			all = append(all, asJSON(srv, l, in[l.ID].Len()))
		}
		return false, err
	})
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(all)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LOAD\tKIND\tDATABASE\tTABLE\tSTATE\tLOADED\tOF\t\tCREATED")
	for _, l := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", l.ID, l.Kind, l.Database, l.Table, l.State, l.In, l.Of, l.Unit, l.Created.Local().Format(time.DateTime))
	}
	return w.Flush()
}

func (p *program) showLoad(c *cli.Context, id string) error {
	return p.one(c, id, func(srv *server.Server, reg *registry.Registry, l registry.Load) error {
		in, err := reg.In(c.Context, id)
		if err != nil {
			return err
		}
		j := asJSON(srv, l, in.Len())
		if p.json {
			return p.printJSON(j)
		}
		w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "load\t%s\nkind\t%s\ntarget\t%s, database %s\nstate\t%s\nloaded\t%d of %d %s\ncreated\t%s\n", j.ID, j.Kind, j.Table, j.Database, j.State, j.In, j.Of, j.Unit, j.Created.Local().Format(time.DateTime))
		if j.Finished != nil {
			fmt.Fprintf(w, "finished\t%s\n", j.Finished.Local().Format(time.DateTime))
		}
		fmt.Fprintf(w, "specification\t%s\n", j.Spec)
		_, unreplaced := load.Unreplaced(l)
		if unreplaced {
			fmt.Fprintf(w, "replaces\t%s, at the end\n", l.Target)
		}
		if l.State != registry.Done || unreplaced {
			fmt.Fprintf(w, "resume with\tloader loads resume %s%s\n", id, p.sameURL())
		}
		return w.Flush()
	})
}

func (p *program) resumeLoad(c *cli.Context, id string) error {
	s, err := p.settings(c)
	if err != nil {
		return err
	}
	s.Input, s.AnyTime, s.Mend = files.NewInput(p.stdin), c.Bool("any-time"), true
	if err := readTolerance(c, s.Input); err != nil {
		return err
	}
	if err := (&load.Request{Settings: s}).Check(); err != nil {
		return err
	}
	if c.IsSet("rejects") {
		if err := checkRejects(c.String("rejects")); err != nil {
			return err
		}
	}
	return p.one(c, id, func(srv *server.Server, _ *registry.Registry, rec registry.Load) error {
		for _, flag := range []string{"rejects", "max-errors", "max-record-bytes", "any-time"} {
			if rec.Kind != files.Kind.Kind && c.IsSet(flag) {
				return &usageError{fmt.Sprintf("--%s is for loads of files, and load %s is one of %s; leave it out", flag, id, rec.Kind)}
			}
		}
		if rec.State == registry.Cancelled {
			return fmt.Errorf("%w: %s; remove its rows with: loader loads cancel %s --remove-rows; then start a new load", registry.ErrCancelled, id, id)
		}
		r := &lateReporter{}
		s.Note, s.Observe = r.note, r.observe
		p.rejects = c.String("rejects")
		l, err := load.Resume(c.Context, srv, id, s)
		if err != nil {
			return err
		}
		defer l.Close()
		if l.Tolerates() {
			if err := checkRejects(p.rejects); err != nil {
				return err
			}
		}
		in, err := l.In(c.Context)
		if err != nil {
			return err
		}
		return p.runLoad(c.Context, srv, l, r, in.Len(), connection(c) == "")
	})
}
