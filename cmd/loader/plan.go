package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"bulkload/loader/dataset"
	"bulkload/loader/load"
	"bulkload/loader/server"
)

func (p *program) planCommand() *cli.Command {
	files := p.csvCommand()
	files.Usage, files.Description, files.Action = "plan: "+files.Usage+"; shows the detected format and the first records", "", p.planCSV
	var list []*cli.Command
	for _, g := range generators() {
		load := p.generateCommand(g)
		load.Usage, load.Description = "plan: "+load.Usage, ""
		load.Action = func(c *cli.Context) error { return p.plan(c, g) }
		list = append(list, load)
	}
	rows := p.rowsCommand()
	rows.Usage, rows.Description = "plan: "+rows.Usage+"; shows the rule of each column, and ten rows", ""
	rows.Action = func(c *cli.Context) error {
		tables, err := readTables(c)
		if err == nil && len(tables) > 1 {
			err = &usageError{"plan rows takes one table"}
		}
		if err != nil {
			return err
		}
		if c.IsSet("out") {
			return &usageError{"--out loads nothing, so there is nothing to plan; leave out plan or --out"}
		}
		req, _, err := p.rowsRequest(c, tables[0])
		if err != nil {
			return err
		}
		return p.preview(c, req)
	}
	list = append(list, rows)
	return &cli.Command{
		Name:  "plan",
		Usage: "show what a load would do and why; writes nothing",
		Description: `Write plan before a load command and its flags.
Example:
   loader plan points --n 1000000 --url 'postgres://root@localhost:26257/pointstore?sslmode=disable'`,
		Subcommands: append(list, files),
		Action: func(c *cli.Context) error {
			return &usageError{"plan takes a load command: plan points, plan accounts, plan rows or plan csv"}
		},
	}
}

func (p *program) plan(c *cli.Context, g generator) error {
	req, _, err := p.request(c, g)
	if err != nil {
		return err
	}
	if c.IsSet("out") {
		return &usageError{"--out uses no server, so there is nothing to plan; leave out plan or --out"}
	}
	return p.preview(c, req)
}

// preview prints the plan of a load.
func (p *program) preview(c *cli.Context, req load.Request) error {
	if err := req.Check(); err != nil {
		return err
	}
	cfg, done, err := p.target(c.Context, c)
	if err != nil {
		return err
	}
	defer done()
	srv, missing, err := server.OpenExisting(c.Context, cfg, req.Dataset.Facts().Database)
	if err != nil {
		return err
	}
	preview, err := load.NewPreview(c.Context, srv, req, missing)
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(preview)
	}
	p.printPreview(preview)
	return nil
}

func (p *program) printPreview(v *load.Preview) {
	out := p.stdout
	what := fmt.Sprintf("%d %s", v.Rows, v.Kind)
	if v.Files != nil {
		what = fmt.Sprintf("about %d rows", v.Rows)
		if v.Rows == 0 {
			what = "a stream"
		}
	}
	fmt.Fprintf(out, "%s into %s, database %s, %s; nothing is written\n", what, v.Table, v.Database, v.Server)
	if v.Files != nil {
		printFilesPreview(out, v.Files)
	}
	if v.Rules != nil {
		printRules(out, v.Rules)
	}
	switch {
	case v.Create != "":
		fmt.Fprintf(out, "table: would be created: %s\n", v.Create)
	case v.Empty:
		fmt.Fprintln(out, "table: empty")
	case v.Estimated >= 0:
		fmt.Fprintf(out, "table: about %d rows\n", v.Estimated)
	default:
		fmt.Fprintln(out, "table: has rows")
	}
	if v.Method == load.Import {
		fmt.Fprintln(out, "one job of IMPORT INTO")
	} else {
		fmt.Fprintf(out, "chunks: %d of %d rows, by %s, committed by %s\n", v.Chunks, v.RowsPerChunk, v.Method, v.CommitMode)
		if v.CommitWhy != "" {
			fmt.Fprintf(out, "by %s: %s\n", v.CommitMode, v.CommitWhy)
		}
	}
	fmt.Fprintf(out, "limited by: %s\n", v.LimitedBy)
	if v.Workers > 0 {
		fmt.Fprintf(out, "workers: %d (%s)\n", v.Workers, v.WorkersWhy)
	}
	fmt.Fprintf(out, "statement: %s\n", v.Statement)
	for _, create := range v.Deferred {
		fmt.Fprintf(out, "after the last row: %s\n", create)
	}
	fmt.Fprintln(out)
	if len(v.Indexes) > 0 {
		printIndexes(out, v.Indexes)
		fmt.Fprintln(out)
	}
	printLimits(out, v.Limits)
	if len(v.Notes) > 0 {
		fmt.Fprintf(out, "\n%s\n", strings.Join(v.Notes, "\n"))
	}
}

// printIndexes prints what each index costs.
func printIndexes(out io.Writer, list []load.IndexPreview) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "INDEX\tKEY BYTES A ROW\tKEY-VALUE PAIRS\tWITHOUT IT")
	for _, x := range list {
		bytes, kvs, without := "not counted", "-", "-"
		if x.KVs > 0 {
			bytes, kvs = fmt.Sprintf("at most %d", x.KeyBytes), fmt.Sprint(x.KVs)
			if x.Exact {
				bytes = fmt.Sprint(x.KeyBytes)
			}
			if !x.Primary {
				without = fmt.Sprintf("chunks of %d rows", x.RowsPerChunkWithout)
				if x.MaxRowsWithout > x.RowsPerChunkWithout {
					without += fmt.Sprintf(", up to %d fit", x.MaxRowsWithout)
				}
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", x.Name, bytes, kvs, without)
	}
	w.Flush()
}

// printLimits prints the limits of the server, and what one chunk takes of each.
func printLimits(out io.Writer, list []load.LimitPreview) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LIMIT\tVALUE\tOF\tONE CHUNK\tSHARE\tROWS THAT FIT\tFROM")
	for _, l := range list {
		name := l.Name
		if l.Soft {
			name += " (advice)"
		}
		fits := "any"
		if l.MaxRows > 0 {
			fits = fmt.Sprint(l.MaxRows)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%.1f %%\t%s\t%s\n", name, l.Max, l.Unit, l.Uses, 100*l.Share, fits, l.Origin)
	}
	w.Flush()
}

// printFilesPreview prints how files are read.
func printFilesPreview(out io.Writer, f *dataset.Reading) {
	size := "of unknown length"
	if f.Bytes >= 0 {
		size = fmt.Sprintf("%d bytes", f.Bytes)
	}
	header := "no header"
	if f.Header {
		header = "a header"
	}
	quote := "nothing quoted"
	if f.Quote != "" {
		quote = "quoted by " + f.Quote
	}
	fmt.Fprintf(out, "files: %s, %s; fields between %q, %s, NULL is %q, %s\n\n", strings.Join(f.Names, ", "), size, f.Delimiter, quote, f.Null, header)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "FIELD\tCOLUMN\tTYPE")
	for i := range f.Sample {
		fmt.Fprintf(w, "\tRECORD %d", i+1)
	}
	fmt.Fprintln(w)
	for i, x := range f.Fields {
		from, to := x.Field, x.Column
		if x.Expr != "" {
			from = x.Expr
		}
		if to == "" {
			to = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s", from, to, x.Type)
		for _, r := range f.Sample {
			switch {
			case x.Expr != "" || i >= len(r):
				fmt.Fprint(w, "\t")
			case r[i] == nil:
				fmt.Fprint(w, "\tNULL")
			default:
				fmt.Fprintf(w, "\t%s", short(*r[i]))
			}
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	fmt.Fprintln(out)
}

// printRules prints how the values of columns are made, and then the first rows.
func printRules(out io.Writer, rules []dataset.ColumnRule) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nCOLUMN\tTYPE\tNULL\tRULE")
	for _, r := range rules {
		fmt.Fprintf(w, "%s\t%s\t%g %%\t%s\n", r.Column, r.Type, 100*r.Nulls, r.Rule)
	}
	fmt.Fprintln(w)
	w.Flush()
	for _, r := range rules {
		fmt.Fprintf(w, "%s\t", r.Column)
	}
	fmt.Fprintln(w)
	for i := range rules[0].Sample {
		for _, r := range rules {
			text := "NULL"
			if r.Sample[i] != nil {
				text = short(*r.Sample[i])
			}
			fmt.Fprintf(w, "%s\t", text)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
	w.Flush()
}

// short quotes a value for a table. It cuts a long value.
func short(s string) string {
	const maxLen = 24
	if r := []rune(s); len(r) > maxLen {
		s = string(r[:maxLen-1]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
