package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"bulkload/loader/anytable"
	"bulkload/loader/dataset"
	"bulkload/loader/load"
)

// rowsCommand loads generated rows into any table.
func (p *program) rowsCommand() *cli.Command {
	return &cli.Command{
		Name:  anytable.Facts.Kind,
		Usage: "fill any table with generated rows that fit its types, keys and constraints",
		Flags: append(append([]cli.Flag{
			&cli.StringFlag{Name: "table", Usage: "table to fill, or several with their numbers of rows: a=1000,b=100000"},
			&cli.StringFlag{Name: "n", Value: "1000", Usage: "rows to load"},
			&cli.StringFlag{Name: "seed", Usage: "seed of the rows (default: a random one, which is printed)"},
			&cli.StringFlag{Name: "indexes", Value: "keep", Usage: "secondary indexes: keep, or defer until after the last row (empty tables only)"},
			&cli.BoolFlag{Name: "no-registry", Usage: "do not record the load in schema loader; it cannot be resumed or verified"},
			&cli.StringFlag{Name: "out", Usage: "write the rows to CSV files instead: FILE, or dir/rows-*.csv, where * becomes a number (--streams files); .gz and .zst compress"},
		}, append(valueFlags(), p.runFlags()...)...), p.commonFlags()...),
		Description: `Examples:
   loader rows --table orders --n 1000000
   loader rows --table shop.customers --n 5000 --seed 7 --nulls 0%
   loader rows --table orders --n 9 --value 'status=list(new,paid:3)' --value 'total=normal(1,500)'
   loader rows --table customers=1000,orders=100000
   loader rows --table orders --n 1000 --out orders.csv`,
		Action: p.loadRows,
	}
}

// loadRows runs the command rows.
func (p *program) loadRows(c *cli.Context) error {
	tables, err := readTables(c)
	if err != nil {
		return err
	}
	if len(tables) > 1 && c.IsSet("value") {
		return &usageError{"--value needs a single table in --table"}
	}
	pattern := c.String("out")
	if len(tables) > 1 && pattern != "" {
		return &usageError{"--out needs a single table in --table"}
	}
	if len(tables) == 1 {
		req, seed, err := p.rowsRequest(c, tables[0])
		if err != nil {
			return err
		}
		if pattern != "" {
			if err := req.Dataset.(*anytable.Dataset).CheckFile(); err != nil {
				return err
			}
			return p.writeRows(c, req, seed, pattern)
		}
		return p.start(c, req)
	}
	return p.loadTables(c, tables)
}

// loadTables fills several tables, one after the other: those to which foreign keys of others
// point come first.
func (p *program) loadTables(c *cli.Context, tables []tableRows) error {
	names := make([]string, len(tables))
	for i, t := range tables {
		req, _, err := p.rowsRequest(c, t)
		if err == nil {
			err = req.Check()
		}
		if err != nil {
			return err
		}
		names[i] = t.name
	}
	if p.json {
		return &usageError{"--format json needs a single table in --table"}
	}
	srv, done, err := p.open(c, anytable.Facts.Database)
	if err != nil {
		return err
	}
	defer done()
	order, err := anytable.Order(c.Context, srv, names)
	if err != nil {
		return err
	}
	for i, step := range order {
		req, seed, err := p.rowsRequest(c, tables[step.Table])
		if err != nil {
			return err
		}
		p.resumeID = ""
		if step.Cycle != nil {
			var note string
			if note, err = anytable.Begin(c.Context, srv, names, step.Cycle, seed); note != "" {
				p.always("note: %s", note)
			}
		}
		if err == nil {
			err = p.startOn(c, srv, req)
		}
		if err != nil {
			var rest []string
			for _, left := range order[i+1:] {
				rest = append(rest, names[left.Table])
			}
			if len(rest) > 0 {
				p.always("not begun: %s", strings.Join(rest, ", "))
			}
			return err
		}
	}
	return nil
}

// A tableRows is a table of --table, with the number of its rows.
type tableRows struct{ name, rows string }

// readTables reads --table: a table, or several with commas between them, each with its number of
// rows or that of --n.
func readTables(c *cli.Context) ([]tableRows, error) {
	var list []tableRows
	for _, part := range cutOutsideQuotes(c.String("table"), ',') {
		both := cutOutsideQuotes(part, '=')
		t := tableRows{name: strings.TrimSpace(both[0]), rows: c.String("n")}
		if len(both) == 2 {
			t.rows = strings.TrimSpace(both[1])
		}
		if t.name == "" || len(both) > 2 {
			return nil, &usageError{"rows needs --table, the table to fill, or several: a=1000,b=100000"}
		}
		if slices.ContainsFunc(list, func(x tableRows) bool { return x.name == t.name }) {
			return nil, &usageError{fmt.Sprintf("--table names %s twice", t.name)}
		}
		list = append(list, t)
	}
	return list, nil
}

// cutOutsideQuotes cuts a text at a separator that is not in double quotes.
func cutOutsideQuotes(text string, at byte) []string {
	var list []string
	from, quoted := 0, false
	for i := range len(text) {
		switch text[i] {
		case '"':
			quoted = !quoted
		case at:
			if !quoted {
				list = append(list, text[from:i])
				from = i + 1
			}
		}
	}
	return append(list, text[from:])
}

// rowsGenerator reads the flags by which rows are made.
func rowsGenerator(c *cli.Context) (generator, error) {
	nulls, err := readNulls(c.String("nulls"))
	var values []anytable.Value
	for _, text := range c.StringSlice("value") {
		v, bad := anytable.ParseValue(text)
		if bad != nil && err == nil {
			err = &usageError{"--value " + bad.Error()}
		}
		values = append(values, v)
	}
	return generator{
		Facts: anytable.Facts, maxRows: maxRows,
		new: func(n int64, seed uint64) dataset.Dataset {
			return anytable.New(anytable.Request{Rows: n, Seed: seed, Nulls: nulls, Values: values})
		},
	}, err
}

// rowsRequest reads the flags of a load of rows for any table.
func (p *program) rowsRequest(c *cli.Context, t tableRows) (req load.Request, seed uint64, err error) {
	g, err := rowsGenerator(c)
	if err != nil {
		return req, 0, err
	}
	n, err := number("n", t.rows, 1, maxRows)
	if err != nil {
		return req, 0, err
	}
	req, seed, err = p.request(c, g)
	req.Dataset, req.Table = g.new(n, seed), t.name
	return req, seed, err
}

// valueFlags are flags of every command that makes rows for any table.
func valueFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "value", Usage: "COLUMN=RULE: null, const(TEXT), list(A,B:WEIGHT,…), uniform(LOW,HIGH), normal(…), zipf(…), sequence(START,STEP), pattern(TEXT), sql(EXPRESSION)"},
		&cli.StringFlag{Name: "nulls", Value: "5%", Usage: "share of NULLs in columns that allow them and belong to no unique key"},
	}
}

// readNulls reads --nulls.
func readNulls(text string) (float64, error) {
	share, ok := strings.CutSuffix(text, "%")
	f, err := strconv.ParseFloat(share, 64)
	if !ok || err != nil || !(f >= 0 && f <= 100) {
		return 0, &usageError{fmt.Sprintf("--nulls takes a share from 0%% to 100%%, not %q", text)}
	}
	return f / 100, nil
}
