package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"bulkload/loader/dataset"
	"bulkload/loader/load"
)

// A generator is a kind of generated rows with its own command.
type generator struct {
	dataset.Facts
	usage    string
	examples string
	rows     int64 // by default
	maxRows  int64
	new      func(rows int64, seed uint64) dataset.Dataset
}

// generators returns the kinds of generated rows with a command.
func generators() []generator {
	return []generator{
		{
			Facts: dataset.NewPoints(0, 0).Facts(), rows: 10_000, maxRows: maxRows,
			usage: "load random points (id, x, y, z), the coordinates uniform in [0, 1024)",
			examples: `
   loader points --n 10000 --chunk 1000
   loader points --n 1000000 --seed 7 --url 'postgres://root@localhost:26257/pointstore?sslmode=disable'`,
			new: func(n int64, seed uint64) dataset.Dataset { return dataset.NewPoints(n, seed) },
		},
		{
			Facts: dataset.NewAccounts(0, 0).Facts(), rows: 100, maxRows: dataset.AccountIDs,
			usage: "load random bank accounts (id, balance), the ids distinct in [0, 1 000 000 000)",
			examples: `
   loader accounts --n 100
   loader accounts --n 100000 --workers 4 --url env`,
			new: func(n int64, seed uint64) dataset.Dataset { return dataset.NewAccounts(n, seed) },
		},
	}
}

// databases returns the databases of the kinds of rows, each once, for URLs without a database.
func databases() []string {
	var list []string
	for _, k := range dataset.Kinds() {
		if !slices.Contains(list, k.Database) {
			list = append(list, k.Database)
		}
	}
	return list
}

// generateCommand returns the command of a kind of generated rows.
func (p *program) generateCommand(g generator) *cli.Command {
	return &cli.Command{
		Name:        g.Kind,
		Usage:       g.usage,
		Flags:       p.generateFlags(g.rows, g.Kind),
		Description: "Examples:" + g.examples,
		Action:      func(c *cli.Context) error { return p.generate(c, g) },
	}
}

// generateFlags returns the flags of a command for generated rows. Numbers are read as text, so
// that an error is one line that names the range.
func (p *program) generateFlags(n int64, table string) []cli.Flag {
	return append(append([]cli.Flag{
		&cli.StringFlag{Name: "n", Value: strconv.FormatInt(n, 10), Usage: "rows to load"},
		&cli.StringFlag{Name: "seed", Usage: "seed of the rows (default: a random one, which is printed)"},
		&cli.StringFlag{Name: "table", Value: table, Usage: "table to load into; created if missing"},
		&cli.StringFlag{Name: "indexes", Value: "keep", Usage: "secondary indexes: keep, or defer until after the last row (empty tables only)"},
		&cli.BoolFlag{Name: "no-registry", Usage: "do not record the load in schema loader; it cannot be resumed or verified"},
		&cli.StringFlag{Name: "out", Usage: "write the rows to files instead, for an IMPORT INTO that you run: dir/" + table + "-*.csv, where * becomes a number (--streams files); .gz and .zst compress"},
	}, p.runFlags()...), p.commonFlags()...)
}

// request reads the flags of a load of generated rows.
func (p *program) request(c *cli.Context, g generator) (req load.Request, seed uint64, err error) {
	if err := p.begin(c); err != nil {
		return req, 0, err
	}
	s, err := p.settings(c)
	if err != nil {
		return req, 0, err
	}
	indexes, err := readIndexes(c)
	if err != nil {
		return req, 0, err
	}
	n, seed, err := rowsAndSeed(c, g)
	if err != nil {
		return req, 0, err
	}
	return load.Request{Dataset: g.new(n, seed), Table: c.String("table"), NoRegistry: c.Bool("no-registry"), Indexes: indexes, Settings: s}, seed, nil
}

// rowsAndSeed reads the flags that select the generated rows.
func rowsAndSeed(c *cli.Context, g generator) (n int64, seed uint64, err error) {
	if c.Args().Present() {
		return 0, 0, &usageError{fmt.Sprintf("%s takes no argument %q", g.Kind, c.Args().First())}
	}
	if n, err = number("n", c.String("n"), 1, g.maxRows); err != nil {
		return 0, 0, err
	}
	seed, err = readSeed(c)
	return n, seed, err
}

// generate loads generated rows, or writes them to files.
func (p *program) generate(c *cli.Context, g generator) error {
	req, seed, err := p.request(c, g)
	if err != nil {
		return err
	}
	if pattern := c.String("out"); pattern != "" {
		return p.writeOut(c, req, seed, pattern)
	}
	return p.start(c, req)
}
