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
			&cli.StringFlag{Name: "table", Usage: "table to fill; it must exist"},
			&cli.StringFlag{Name: "n", Value: "1000", Usage: "rows to load"},
			&cli.StringFlag{Name: "seed", Usage: "seed of the rows (default: drawn and printed)"},
			nullsFlag(),
			&cli.StringFlag{Name: "indexes", Value: "keep", Usage: "secondary indexes: keep, or defer until after the last row (empty tables only)"},
			&cli.BoolFlag{Name: "no-registry", Usage: "do not record the load in schema loader; it cannot be resumed or verified"},
		}, withoutHandoff(p.runFlags())...), p.commonFlags()...),
		Description: `Examples:
   loader rows --table orders --n 1000000
   loader rows --table shop.customers --n 5000 --seed 7 --nulls 0%`,
		Action: p.loadRows,
	}
}

// withoutHandoff returns flags without those of IMPORT.
func withoutHandoff(flags []cli.Flag) []cli.Flag {
	return slices.DeleteFunc(flags, func(f cli.Flag) bool {
		return slices.ContainsFunc(handoffFlags(), func(h cli.Flag) bool { return h.Names()[0] == f.Names()[0] })
	})
}

// loadRows runs the command rows.
func (p *program) loadRows(c *cli.Context) error {
	req, err := p.rowsRequest(c)
	if err != nil {
		return err
	}
	return p.start(c, req)
}

// rowsGenerator reads the flags by which rows are made.
func rowsGenerator(c *cli.Context) (generator, error) {
	nulls, err := readNulls(c.String("nulls"))
	if err == nil && c.String("table") == "" {
		err = &usageError{"rows takes --table, the table to fill"}
	}
	return generator{
		Facts: anytable.Facts, maxRows: maxRows,
		new: func(n int64, seed uint64) dataset.Dataset {
			return anytable.New(anytable.Request{Rows: n, Seed: seed, Nulls: nulls})
		},
	}, err
}

// rowsRequest reads the flags of a load of rows for any table.
func (p *program) rowsRequest(c *cli.Context) (load.Request, error) {
	g, err := rowsGenerator(c)
	if err != nil {
		return load.Request{}, err
	}
	req, _, err := p.request(c, g)
	return req, err
}

// nullsFlag is a flag of every command that makes rows for any table.
func nullsFlag() cli.Flag {
	return &cli.StringFlag{Name: "nulls", Value: "5%", Usage: "share of NULLs in columns that allow them and belong to no unique key"}
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
