package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

func (p *program) countCommand() *cli.Command {
	return &cli.Command{
		Name:  "count",
		Usage: "count the rows of a table",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "table", Value: dataset.BankTable, Usage: "table to count"},
		}, p.commonFlags()...),
		Description: `Examples:
   loader count
   loader count --table points --url 'postgres://root@localhost:26257/pointstore?sslmode=disable'`,
		Action: p.count,
	}
}

// existing connects to the target's server and an existing database: the URL's, or the named
// one if the URL names none.
func (p *program) existing(c *cli.Context, database string) (srv *server.Server, done func(), err error) {
	cfg, done, err := p.target(c.Context, c)
	if err != nil {
		return nil, nil, err
	}
	srv, missing, err := server.OpenExisting(c.Context, cfg, database)
	if err == nil && missing != "" {
		err = missingDatabase(missing)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return srv, done, nil
}

// missingDatabase returns the error of a database that does not exist.
func missingDatabase(name string) error {
	return &server.TargetError{Name: "database " + name, Reason: "does not exist; loader accounts creates and fills it, loader init creates it with its user"}
}

// countIn counts the rows of a table of an existing database.
func countIn(c *cli.Context, cfg *server.Config, database string, name pgx.Identifier) (srv *server.Server, n int64, err error) {
	srv, missing, err := server.OpenExisting(c.Context, cfg, database)
	if err == nil && missing != "" {
		err = missingDatabase(missing)
	}
	if err == nil {
		n, err = server.Count(c.Context, srv, name)
	}
	return srv, n, err
}

// isAbsent reports whether a table, or its database, does not exist.
func isAbsent(err error) bool {
	var target *server.TargetError
	return errors.Is(err, server.ErrNoTable) || errors.As(err, &target)
}

func (p *program) count(c *cli.Context) error {
	if err := p.begin(c); err != nil {
		return err
	}
	if c.Args().Present() {
		return &usageError{fmt.Sprintf("count takes no argument %q; --table names the table", c.Args().First())}
	}
	name, err := server.ParseTable(c.String("table"))
	if err != nil {
		return &usageError{err.Error()}
	}
	cfg, done, err := p.target(c.Context, c)
	if err != nil {
		return err
	}
	defer done()
	// Without a database in the URL, each kind of rows has its own.
	list := []string{cfg.Database()}
	if list[0] == "" {
		list = databases()
		for _, k := range dataset.Kinds() {
			if name[len(name)-1] == k.Table {
				list = []string{k.Database}
			}
		}
	}
	var srv *server.Server
	var n int64
	for _, database := range list {
		if srv, n, err = countIn(c, cfg, database, name); err == nil || !isAbsent(err) {
			break
		}
	}
	if isAbsent(err) && len(list) > 1 {
		err = &server.TargetError{Name: "table " + server.Display(name), Reason: fmt.Sprintf("is in none of the databases %s; name another database in --url", strings.Join(list, ", "))}
	}
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(struct {
			Server   string `json:"server"`
			Database string `json:"database"`
			Table    string `json:"table"`
			Rows     int64  `json:"rows"`
		}{srv.Info.String(), srv.Config.Database(), server.Display(name), n})
	}
	fmt.Fprintln(p.stdout, n)
	return nil
}
