package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/jackc/pgerrcode"
	"github.com/urfave/cli/v2"

	"bulkload/loader/dataset"
	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

func (p *program) dbCommand() *cli.Command {
	sub := func(name, usage string, flags []cli.Flag, action cli.ActionFunc) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, Flags: flags,
			Action: func(c *cli.Context) error {
				if c.Args().Present() && name != "sql" {
					return &usageError{fmt.Sprintf("db %s takes no argument %q", name, c.Args().First())}
				}
				return action(c)
			},
		}
	}
	sql := sub("sql", "run SQL statements on the local database and print the rows", []cli.Flag{
		&cli.StringFlag{Name: "database", Value: dataset.PointsDatabase, Usage: "database to run them in"},
	}, p.dbSQL)
	sql.ArgsUsage = "STATEMENT…"
	return &cli.Command{
		Name:  "db",
		Usage: "start, stop, query and remove the private local database",
		Description: `Examples:
   loader db sql 'SELECT count(*) FROM points'
   psql "$(loader db start)"
   loader db start --postgres 16      change to PostgreSQL 16, which has its own data`,
		Subcommands: []*cli.Command{
			sub("start", "start the local database, keep it running, and print its URL", []cli.Flag{
				&cli.IntFlag{Name: "postgres", DefaultText: "the database of the last command", Usage: fmt.Sprintf("change to this major version of PostgreSQL (%d to %d), which is fetched if it is not installed", localdb.OldestMajor, localdb.NewestMajor)},
				&cli.BoolFlag{Name: "cockroach", Usage: "change to the CockroachDB on PATH, or in COCKROACH_BINARY"},
			}, p.dbStart),
			sub("stop", "stop every local database that runs; the data stays", nil, p.dbStop),
			sub("url", "print the URL of the local database, if it is running", nil, p.dbURL),
			sub("path", "print the directory with its data", nil, p.dbPath),
			sql,
			sub("remove", "stop every local database and delete the data of all", nil, p.dbRemove),
		},
		Action: func(c *cli.Context) error {
			return &usageError{"db needs one of start, stop, url, path, sql, remove"}
		},
	}
}

// withDB calls f with the running local database, and releases it afterwards.
func (p *program) withDB(ctx context.Context, o localdb.Options, f func(*localdb.DB) error) error {
	db, err := p.startLocal(ctx, o)
	if err != nil {
		return err
	}
	var failed error
	stop := p.atEnd(func() { failed = db.Stop(context.WithoutCancel(ctx)) })
	err = f(db)
	stop()
	return errors.Join(err, failed)
}

func (p *program) dbStart(c *cli.Context) error {
	o, err := p.chosen(c)
	if err != nil {
		return err
	}
	return p.withDB(c.Context, o, func(db *localdb.DB) error {
		p.note("%s, data in %s; loader db stop stops it", db.Binary, db.Dir)
		p.noteOthers(db)
		fmt.Fprintln(p.stdout, db.URL)
		return db.Retain(true)
	})
}

// chosen reads which database to start.
func (p *program) chosen(c *cli.Context) (o localdb.Options, err error) {
	major := c.Int("postgres")
	switch {
	case c.IsSet("postgres") && c.Bool("cockroach"):
		return o, &usageError{"--postgres and --cockroach cannot be used together"}
	case c.IsSet("postgres") && major < 1:
		return o, &usageError{fmt.Sprintf("--postgres takes a major version such as %d, not %d", localdb.NewestMajor, major)}
	case c.IsSet("postgres"):
		o.Choose = true
		o.Binary, err = withDownload(c.Context, p, func(ctx context.Context, r localdb.Reporter) (localdb.Binary, error) {
			return localdb.Provide(ctx, server.PostgreSQL, major, r)
		})
	case c.Bool("cockroach"):
		o.Choose = true
		if o.Binary, err = localdb.FindProduct(server.CockroachDB); err != nil {
			err = &localError{err}
		}
	}
	return o, err
}

func (p *program) dbStop(c *cli.Context) error {
	stopped, err := localdb.StopAll(c.Context, "")
	for _, s := range stopped {
		if s.Used {
			p.note("%s is in use by another command and stops when that command ends", s.Data)
			continue
		}
		p.note("stopped %s", s.Data)
	}
	if err != nil {
		return &localError{err}
	}
	if len(stopped) == 0 {
		p.note("no local database is running")
	}
	return nil
}

func (p *program) dbURL(c *cli.Context) error {
	if d, ok := localdb.Meant(""); !ok || !localdb.Retained(d.Dir) {
		return &localError{errors.New("the local database is not running; loader db start starts it")}
	}
	return p.withDB(c.Context, localdb.Options{}, func(db *localdb.DB) error {
		fmt.Fprintln(p.stdout, db.URL)
		return nil
	})
}

func (p *program) dbPath(c *cli.Context) error {
	dir, err := localdb.DefaultDir()
	if err != nil {
		return &localError{err}
	}
	fmt.Fprintln(p.stdout, dir)
	return nil
}

func (p *program) dbRemove(c *cli.Context) error {
	gone, err := localdb.RemoveAll(c.Context, "")
	for _, dir := range gone {
		fmt.Fprintln(p.stdout, "removed", dir)
	}
	if err != nil {
		return &localError{err}
	}
	if len(gone) == 0 {
		p.note("there is no local database")
	}
	return nil
}

func (p *program) dbSQL(c *cli.Context) error {
	if !c.Args().Present() {
		return &usageError{"db sql needs the statements to run"}
	}
	return p.withDB(c.Context, localdb.Options{}, func(db *localdb.DB) error {
		cfg, err := server.Parse(db.URL)
		if err != nil {
			return err
		}
		for _, statement := range c.Args().Slice() {
			columns, found, err := server.Run(c.Context, cfg.WithDatabase(c.String("database")), statement)
			if server.Code(err) == pgerrcode.InvalidCatalogName {
				return fmt.Errorf("%w; --database names another; loader points creates pointstore, loader accounts creates bank", err)
			}
			if err != nil {
				return err
			}
			printRows(p.stdout, columns, found)
		}
		return nil
	})
}

// printRows prints a result as a table. Tabs and line ends in values become blanks.
func printRows(out io.Writer, columns []string, found [][]string) {
	if len(columns) == 0 {
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	clean := strings.NewReplacer("\t", " ", "\n", " ", "\r", " ")
	fmt.Fprintln(w, strings.Join(columns, "\t"))
	for _, row := range found {
		for i, v := range row {
			row[i] = clean.Replace(v)
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush()
}
