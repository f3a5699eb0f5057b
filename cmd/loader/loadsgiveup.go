package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"bulkload/loader/files"
	"bulkload/loader/importer"
	"bulkload/loader/load"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

func (p *program) pauseLoad(c *cli.Context, id string) error {
	return p.one(c, id, func(srv *server.Server, _ *registry.Registry, rec registry.Load) error {
		job, err := importer.PauseJob(c.Context, srv, rec)
		if err != nil {
			return err
		}
		if p.json {
			return p.printJSON(struct {
				Load string `json:"load"`
				Job  int64  `json:"job"`
			}{id, job})
		}
		fmt.Fprintf(p.stdout, "paused job %d of load %s; resume with: loader loads resume %s%s\n", job, id, id, p.sameURL())
		return nil
	})
}

func (p *program) cancelLoad(c *cli.Context, id string) error {
	return p.one(c, id, func(srv *server.Server, reg *registry.Registry, rec registry.Load) error {
		note := func(s string) { p.note("%s", s) }
		if name, yes := load.Unreplaced(rec); yes {
			return p.cancelReplacement(c.Context, srv, reg, rec, name)
		}
		open := func() (*load.Load, error) {
			return load.Resume(c.Context, srv, id, load.Settings{Input: files.NewInput(p.stdin), Stop: p.stop, Note: note, Mend: true})
		}
		if c.Bool("remove-rows") {
			// Refuse the whole command before any change. Cancelling ends the load's sessions,
			// so the load is opened again afterwards.
			l, err := open()
			if err == nil {
				err = l.Removable(c.Context)
				l.Close()
			}
			if err != nil {
				return err
			}
			p.further = "loader loads cancel " + id + " --remove-rows"
		}
		if err := importer.CancelJob(c.Context, srv, rec, note); err != nil {
			return err
		}
		if err := reg.Cancel(c.Context, id); err != nil {
			return err
		}
		// The load's files and table may already be gone.
		if err := load.RestoreIndexes(c.Context, srv, reg, rec, note); err != nil {
			return err
		}
		rec, err := reg.Get(c.Context, id)
		if err != nil {
			return err
		}
		in, err := reg.In(c.Context, id)
		if err != nil {
			return err
		}
		if c.Bool("remove-rows") {
			l, err := open()
			if err != nil {
				return err
			}
			defer l.Close()
			return p.removeRows(c.Context, l, in.Len())
		}
		j := asJSON(srv, rec, in.Len())
		if p.json {
			return p.printJSON(j)
		}
		what := "cancelled load %s"
		if rec.State == registry.Done {
			what = "load %s is complete; there is nothing to cancel"
		}
		fmt.Fprintf(p.stdout, what+"; %d %s stay in %s\n", id, j.In, j.Unit, j.Table)
		return nil
	})
}

// endedJSON is the JSON form of a load that was forgotten, or cancelled before it replaced a table.
type endedJSON struct {
	Load    string `json:"load"`
	Table   string `json:"table"`
	State   string `json:"state,omitempty"`
	Dropped string `json:"dropped_table,omitempty"` // where its rows were
}

// cancelReplacement cancels a load whose rows are in a table of its own, and drops that table.
func (p *program) cancelReplacement(ctx context.Context, srv *server.Server, reg *registry.Registry, rec registry.Load, name string) error {
	p.further = "loader loads cancel " + rec.ID
	if err := reg.Cancel(ctx, rec.ID); err != nil {
		return err
	}
	rec, err := reg.Get(ctx, rec.ID)
	if err != nil {
		return err
	}
	if _, yes := load.Unreplaced(rec); !yes {
		if p.json {
			return p.printJSON(endedJSON{Load: rec.ID, Table: rec.Target, State: string(rec.State)})
		}
		fmt.Fprintf(p.stdout, "load %s is complete and has replaced %s; there is nothing to cancel\n", rec.ID, rec.Target)
		return nil
	}
	if err := load.DropUnreplaced(ctx, srv, rec); err != nil {
		return err
	}
	if rec.State == registry.Done { // all rows were in the dropped table
		if err := reg.Forget(ctx, rec.ID); err != nil {
			return err
		}
	}
	if p.json {
		return p.printJSON(endedJSON{Load: rec.ID, Table: rec.Target, State: string(registry.Cancelled), Dropped: name})
	}
	fmt.Fprintf(p.stdout, "cancelled load %s; its rows were in %s, which is dropped; %s is as before\n", rec.ID, name, rec.Target)
	return nil
}

// removeRows removes the rows of a cancelled load.
func (p *program) removeRows(ctx context.Context, l *load.Load, in int64) error {
	r := p.report(in, 0, l.Dataset.Facts().Unit+" checked")
	n, err := l.RemoveRows(ctx, r.set)
	r.end()
	if err != nil {
		if n.Rows > 0 {
			p.note("%d rows were removed by this run", n.Rows)
		}
		return err
	}
	if p.json {
		return p.printJSON(struct {
			Load    string `json:"load"`
			Removed int64  `json:"removed"`
			Changed int64  `json:"changed"`
			Missing int64  `json:"missing"`
		}{l.ID, n.Rows, n.Changed, n.Missing})
	}
	fmt.Fprintf(p.stdout, "cancelled load %s; removed %s from %s; kept %s; %d were gone already\n", l.ID, counted(n.Rows, "row", "rows"), l.Table.Display(), counted(n.Changed, "changed row", "changed rows"), n.Missing)
	return nil
}

func (p *program) forgetLoad(c *cli.Context, id string) error {
	return p.one(c, id, func(srv *server.Server, reg *registry.Registry, rec registry.Load) error {
		name, unreplaced := load.Unreplaced(rec)
		if unreplaced { // its table would be left behind
			if err := reg.Cancel(c.Context, id); err != nil {
				return err
			}
			if err := load.DropUnreplaced(c.Context, srv, rec); err != nil {
				return err
			}
		}
		if err := reg.Forget(c.Context, id); err != nil {
			return err
		}
		if p.json {
			return p.printJSON(endedJSON{Load: id, Table: rec.Target, Dropped: name})
		}
		if unreplaced {
			fmt.Fprintf(p.stdout, "forgot load %s; its rows were in %s, which is dropped; %s is as before\n", id, name, rec.Target)
			return nil
		}
		fmt.Fprintf(p.stdout, "forgot load %s; its rows stay in %s\n", id, rec.Target)
		return nil
	})
}
