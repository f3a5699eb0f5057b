package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"bulkload/loader/anytable"
	"bulkload/loader/dataset"
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
			&cli.StringFlag{Name: "nulls", Value: "5%", Usage: "share of NULLs in columns that allow them and belong to no unique key"},
			&cli.StringFlag{Name: "indexes", Value: "keep", Usage: "secondary indexes: keep, or defer until after the last row (empty tables only)"},
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
	nulls, err := readNulls(c.String("nulls"))
	if err != nil {
		return err
	}
	req, _, err := p.request(c, generator{
		Facts: anytable.Facts, maxRows: maxRows,
		new: func(n int64, seed uint64) dataset.Dataset {
			return anytable.New(anytable.Request{Rows: n, Seed: seed, Nulls: nulls})
		},
	})
	if err != nil {
		return err
	}
	if req.Table == "" {
		return &usageError{"rows takes --table, the table to fill"}
	}
	return p.start(c, req)
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
