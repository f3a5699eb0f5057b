package main

import (
	"github.com/urfave/cli/v2"

	"bulkload/loader/files"
)

func (p *program) csvCommand() *cli.Command {
	return &cli.Command{
		Name:      "csv",
		Usage:     "load CSV or TSV files into a table",
		ArgsUsage: "FILE…",
		Flags:     fileFormat(append(append(csvFlags(), p.runFlags()...), p.commonFlags()...)),
		Description: `A FILE is a path, a pattern such as 'orders-*.csv.gz', - for standard input, an
http:// or https:// address, or @LIST, a file that names one of these per line.
gzip, zstd, bzip2, xz and UTF-16 are recognised by their content.

Examples:
   loader csv orders.csv --table orders
   loader csv 'orders-*.csv.gz' --table shop.orders --max-errors 100
   loader csv people.tsv --table people --create-table --key id
   loader csv orders.csv --table orders --map 'Order No=id' --set 'loaded_at=now()'
   loader plan csv orders.csv --table orders`,
		Action: p.loadCSV,
	}
}

// loadCSV runs the command csv.
func (p *program) loadCSV(c *cli.Context) error {
	req, err := p.csvRequest(c)
	if err != nil {
		return err
	}
	p.rejects = c.String("rejects")
	if t, _ := tolerance(c.String("max-errors")); t != (files.Tolerance{}) {
		if err := checkRejects(p.rejects); err != nil {
			return err
		}
	}
	return p.start(c, req)
}

// planCSV runs plan csv.
func (p *program) planCSV(c *cli.Context) error {
	req, err := p.csvRequest(c)
	if err != nil {
		return err
	}
	return p.preview(c, req)
}
