package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"bulkload/loader/load"
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
		&cli.StringFlag{Name: "database", Value: databases[load.Points], Usage: "database to run them in"},
	}, p.dbSQL)
	sql.ArgsUsage = "STATEMENT…"
	return &cli.Command{
		Name:  "db",
		Usage: "start, stop, look at and remove the private local database",
		Description: `Examples:
   loader db sql 'SELECT count(*) FROM points'
   psql "$(loader db start)"`,
		Subcommands: []*cli.Command{
			sub("start", "start it and keep it running; prints its URL", nil, p.dbStart),
			sub("stop", "stop it; its data stays", nil, p.dbStop),
			sub("url", "print its URL, where it runs", nil, p.dbURL),
			sub("path", "print where its data is", nil, p.dbPath),
			sql,
			sub("remove", "stop it and delete its data", nil, p.dbRemove),
		},
		Action: func(c *cli.Context) error {
			return &usageError{"db takes one of start, stop, url, path, sql, remove"}
		},
	}
}

// withDB calls f with the running local database, and ends its use.
func (p *program) withDB(ctx context.Context, f func(*localdb.DB) error) error {
	db, err := localdb.Start(ctx, localdb.Options{})
	if err != nil {
		return &localError{err}
	}
	err = f(db)
	return errors.Join(err, db.Stop(context.WithoutCancel(ctx)))
}

func (p *program) dbStart(c *cli.Context) error {
	return p.withDB(c.Context, func(db *localdb.DB) error {
		p.note("%s, data in %s; loader db stop stops it", db.Binary, db.Dir)
		fmt.Fprintln(p.stdout, db.URL)
		return db.Keep(true)
	})
}

func (p *program) dbStop(c *cli.Context) error {
	return p.withDB(c.Context, func(db *localdb.DB) error { return db.Keep(false) })
}

func (p *program) dbURL(c *cli.Context) error {
	return p.withDB(c.Context, func(db *localdb.DB) error {
		if !localdb.Kept(db.Dir) {
			return &localError{errors.New("the local database is not running; loader db start starts it")}
		}
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
	dir, err := localdb.Remove(c.Context, localdb.Options{})
	if err != nil {
		return &localError{err}
	}
	fmt.Fprintln(p.stdout, "removed", dir)
	return nil
}

func (p *program) dbSQL(c *cli.Context) error {
	if !c.Args().Present() {
		return &usageError{"db sql takes the statements to run"}
	}
	return p.withDB(c.Context, func(db *localdb.DB) error {
		cfg, err := server.Parse(db.URL)
		if err != nil {
			return err
		}
		for _, statement := range c.Args().Slice() {
			columns, found, err := server.Run(c.Context, cfg.WithDatabase(c.String("database")), statement)
			if err != nil {
				return err
			}
			printRows(p.stdout, columns, found)
		}
		return nil
	})
}

// printRows prints a result as a table; tabs and line ends in values are shown as
// blanks.
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
