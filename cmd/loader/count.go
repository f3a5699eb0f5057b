package main

import (
	"fmt"

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
		err = &server.TargetError{Name: "database " + missing, Reason: "does not exist; loader accounts creates and fills it, loader init creates it with its user"}
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return srv, done, nil
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
	database := dataset.BankDatabase
	for _, k := range dataset.Kinds() {
		if name[len(name)-1] == k.Table {
			database = k.Database
		}
	}
	srv, done, err := p.existing(c, database)
	if err != nil {
		return err
	}
	defer done()
	n, err := server.Count(c.Context, srv, name)
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
