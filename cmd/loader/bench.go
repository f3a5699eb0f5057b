package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"bulkload/loader/anytable"
	"bulkload/loader/atomicfile"
	"bulkload/loader/bench"
	"bulkload/loader/commit"
	"bulkload/loader/failure"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

func (p *program) benchCommand() *cli.Command {
	list := generators()
	var commands []*cli.Command
	for _, g := range list {
		commands = append(commands, &cli.Command{
			Name: g.Kind, Usage: "measure loads of " + g.Kind, Flags: p.benchFlags(g.Kind),
			Action: func(c *cli.Context) error { return p.bench(c, benched(g)) },
		})
	}
	commands = append(commands, &cli.Command{
		Name: anytable.Facts.Kind, Usage: "measure loads of generated rows that fit a table of yours", Flags: append(p.benchFlags(""), valueFlags()...),
		Action: func(c *cli.Context) error {
			g, err := rowsGenerator(c)
			if err == nil && c.String("table") == "" {
				err = &usageError{"bench rows needs --table, the table to measure"}
			}
			if err != nil {
				return err
			}
			return p.bench(c, benched(g))
		},
	})
	files := csvFlags()
	// Flags of a single load, and flags that take a list here.
	files = slices.DeleteFunc(files, func(f cli.Flag) bool {
		return slices.Contains([]string{"table", "max-errors", "rejects", "indexes", "truncate", "replace", "no-registry"}, f.Names()[0])
	})
	shared := slices.DeleteFunc(p.benchFlags(""), func(f cli.Flag) bool {
		return slices.Contains([]string{"n", "seed"}, f.Names()[0])
	})
	return &cli.Command{
		Name:  "bench",
		Usage: "measure which chunk size, method and number of workers load fastest, and recommend one",
		Flags: p.benchFlags(list[0].Kind),
		Description: `Loads the same rows with each setting into a scratch table that has the definition of
the named table. The scratch table is dropped at the end; the named table is not
written. Without points, accounts, rows or csv, points are measured. Ctrl-C ends the
measurement and prints the report so far.

Examples:
   loader bench --chunks 100,1000,5000 --via insert,copy --html bench.html
   loader bench points --workers 1,2,4 --budget 5m --save
   loader bench csv orders.csv --table orders --indexes keep,defer`,
		Action: func(c *cli.Context) error { return p.bench(c, benched(list[0])) },
		Subcommands: append(commands, &cli.Command{
			Name: "csv", Usage: "measure loads of CSV or TSV files", ArgsUsage: "FILE…", Flags: fileFormat(append(append(shared, files...), orderFlag())),
			Action: func(c *cli.Context) error { return p.bench(c, p.benchedFiles) },
		}),
	}
}

func (p *program) benchFlags(table string) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "n", Value: "200000", Usage: "rows per run"},
		&cli.StringFlag{Name: "seed", Usage: "seed of the rows (default: a random one)"},
		&cli.StringFlag{Name: "table", Value: table, Usage: "table whose definition the scratch table gets; need not exist"},
		&cli.StringFlag{Name: "chunks", Value: "auto", Usage: "rows per chunk, such as 100,1000,5000; auto takes sizes around the server's limits"},
		&cli.StringFlag{Name: "workers", Value: "auto", Usage: "chunks loaded at once, such as 1,2,4; auto takes what a load would"},
		&cli.StringFlag{Name: "via", Value: "insert,copy", Usage: "methods: insert, copy, import"},
		commitFlag(),
		&cli.StringFlag{Name: "indexes", Value: "keep", Usage: "secondary indexes: keep or defer"},
		&cli.StringFlag{Name: "count", Value: strconv.Itoa(bench.DefaultCount), Usage: "runs of each setting"},
		&cli.DurationFlag{Name: "budget", Value: 2 * time.Minute, Usage: "maximum time of the whole bench; 0s for none"},
		&cli.BoolFlag{Name: "save", Usage: "store the recommendation: loads of the table with --chunk auto start from it"},
		&cli.StringFlag{Name: "out", Usage: "write the runs to this file in the Go benchmark format, for benchstat"},
		&cli.StringFlag{Name: "json", Usage: "write the whole report to this file as JSON"},
		&cli.StringFlag{Name: "csv", Usage: "write the runs to this file as CSV"},
		&cli.StringFlag{Name: "html", Usage: "write an HTML page with the chart to this file"},
		&cli.StringFlag{Name: "svg", Usage: "write the chart to this file as SVG"},
		&cli.DurationFlag{Name: "chunk-timeout", Value: commit.DefaultChunkTimeout, Usage: "maximum time of one attempt at a chunk"},
		&cli.DurationFlag{Name: "retry-for", Value: commit.DefaultRetryFor, Usage: "maximum time of all attempts at a chunk"},
		&cli.BoolFlag{Name: "no-registry", Usage: "measure loads that are not recorded in schema loader"},
	}, p.commonFlags()...)
}

// list reads a flag with a comma-separated list of known words.
func list[T ~string](c *cli.Context, flag string, known ...T) ([]T, error) {
	var found []T
	for part := range strings.SplitSeq(c.String(flag), ",") {
		w := T(strings.TrimSpace(part))
		if !slices.Contains(known, w) {
			words := make([]string, len(known))
			for i, k := range known {
				words[i] = string(k)
			}
			return nil, &usageError{fmt.Sprintf("--%s takes a comma-separated list of %s, not %q", flag, strings.Join(words, ", "), c.String(flag))}
		}
		if !slices.Contains(found, w) {
			found = append(found, w)
		}
	}
	return found, nil
}

// grid reads the flags of the grid.
func grid(c *cli.Context) (bench.Grid, error) {
	var g bench.Grid
	var err error
	if g.Chunks, err = bench.ParseChunks(c.String("chunks"), maxChunk); err != nil {
		return g, &usageError{"--chunks takes " + err.Error()}
	}
	if g.Workers, err = bench.ParseWorkers(c.String("workers"), maxWorkers); err != nil {
		return g, &usageError{"--workers takes " + err.Error()}
	}
	if g.Methods, err = list(c, "via", commit.Insert, commit.Copy, bench.Import); err != nil {
		return g, err
	}
	if g.Indexes, err = list(c, "indexes", load.KeepIndexes, load.DeferIndexes); err != nil {
		return g, err
	}
	ways, err := list(c, "commit", "auto", commit.Statement, commit.Transaction)
	for _, w := range ways {
		if w == "auto" {
			w = ""
		}
		g.CommitModes = append(g.CommitModes, w)
	}
	g.Asked.Methods, g.Asked.CommitModes = c.IsSet("via"), c.IsSet("commit")
	return g, err
}

// requests reads the flags that select the rows to load. It returns a function that makes a new
// request for each run.
type requests func(c *cli.Context, s load.Settings) (func() load.Request, error)

// benched returns the requests of generated rows.
func benched(g generator) requests {
	return func(c *cli.Context, s load.Settings) (func() load.Request, error) {
		n, seed, err := rowsAndSeed(c, g)
		return func() load.Request {
			return load.Request{Dataset: g.new(n, seed), Table: c.String("table"), NoRegistry: c.Bool("no-registry"), Settings: s}
		}, err
	}
}

// benchedFiles implements requests for files.
func (p *program) benchedFiles(c *cli.Context, s load.Settings) (func() load.Request, error) {
	inOrder, err := readOrder(c)
	if err != nil {
		return nil, err
	}
	s.InOrder = inOrder
	req, d, err := p.files(c, s, "")
	if err == nil && slices.Contains(d.Names, files.Stdin) {
		err = &usageError{"bench csv reads its input once per run and cannot use standard input; name files"}
	}
	return func() load.Request {
		r := req
		f := d.Request
		f.Input = files.NewInput(p.stdin)
		r.Dataset = files.New(f)
		return r
	}, err
}

// bench runs the command bench.
func (p *program) bench(c *cli.Context, read requests) error {
	if err := p.begin(c); err != nil {
		return err
	}
	b := &bench.Bench{Stop: p.stop, Budget: c.Duration("budget")}
	var err error
	if b.Grid, err = grid(c); err != nil {
		return err
	}
	count, err := number("count", c.String("count"), 1, 1000)
	if err != nil {
		return err
	}
	b.Count = int(count)
	s := load.Settings{ChunkTimeout: c.Duration("chunk-timeout"), RetryFor: c.Duration("retry-for")}
	switch {
	case b.Budget < 0:
		return &usageError{"--budget must not be negative"}
	case s.ChunkTimeout <= 0 || s.RetryFor <= 0:
		return &usageError{"--chunk-timeout and --retry-for must be greater than 0"}
	case c.Bool("save") && c.Bool("no-registry"):
		return &usageError{"--save stores the recommendation in the registry and cannot be used with --no-registry"}
	case c.Bool("no-registry") && slices.Contains(b.Grid.Indexes, load.DeferIndexes):
		return &usageError{"--indexes defer stores the index definitions in the registry and cannot be used with --no-registry"}
	}
	if b.Request, err = read(c, s); err != nil {
		return err
	}
	if err := b.Check(); err != nil {
		return err
	}
	outputs, err := openOutputs(c)
	if err != nil {
		return err
	}
	defer outputs.discard()
	srv, done, err := p.open(c, b.Request().Dataset.Facts().Database)
	if err != nil {
		return err
	}
	defer done()
	b.Server = srv
	return p.measure(c, b, outputs)
}

// measure runs a benchmark and writes its report, even if the benchmark was stopped.
func (p *program) measure(c *cli.Context, b *bench.Bench, outputs outputs) error {
	p.note("target: %s at %s, database %s, user %s", b.Server.Info, b.Server.Config.Host(), b.Server.Config.Database(), b.Server.Config.User())
	r := p.grid()
	b.Note, b.Observe, b.Loading = r.note, r.observe, boundMemory
	report, err := b.Run(c.Context)
	r.end()
	if report == nil || len(report.Advice.Lines) == 0 {
		return err
	}
	// The report is written however the benchmark ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context), server.ConnectTimeout)
	defer cancel()
	if c.Bool("save") && err == nil {
		err = p.save(ctx, b.Server, report)
	}
	if p.json {
		var document bytes.Buffer
		err = errors.Join(err, report.WriteJSON(&document))
		p.document = document.Bytes()
	} else {
		width := 80
		if w, _, sizeErr := term.GetSize(int(p.stdout.Fd())); sizeErr == nil {
			width = w
		}
		err = errors.Join(err, report.WriteText(p.stdout, width))
	}
	return errors.Join(err, p.writeOutputs(outputs, report))
}

// save stores the recommendation in the registry.
func (p *program) save(ctx context.Context, srv *server.Server, report *bench.Report) error {
	pool, err := srv.Pool(ctx, server.Sessions{Name: "loader", Max: 1})
	if err != nil {
		return err
	}
	defer server.ClosePool(pool)
	reg, err := registry.Open(ctx, pool, srv.Info)
	if err == nil {
		err = report.Save(ctx, reg)
	}
	if err != nil {
		return err
	}
	p.note("saved: loads of %s into %s with --chunk auto start from it", report.Kind, report.Table)
	return nil
}

// An output is a file for a report. It has a temporary name until it is complete.
type output struct {
	path  string
	file  *atomicfile.File
	write func(*bench.Report, io.Writer) error
}

type outputs []*output

// openOutputs creates the files named by flags before anything is measured: a wrong path must
// not cost a measurement.
func openOutputs(c *cli.Context) (outputs, error) {
	var list outputs
	for _, o := range []output{
		{path: c.String("out"), write: (*bench.Report).WriteBenchmark},
		{path: c.String("json"), write: (*bench.Report).WriteJSON},
		{path: c.String("csv"), write: (*bench.Report).WriteCSV},
		{path: c.String("html"), write: (*bench.Report).WriteHTML},
		{path: c.String("svg"), write: (*bench.Report).WriteSVG},
	} {
		if o.path == "" {
			continue
		}
		var err error
		if o.file, err = atomicfile.Create(o.path); err != nil {
			list.discard()
			var path *os.PathError
			if errors.As(err, &path) {
				err = path.Err
			}
			return nil, &usageError{fmt.Sprintf("%s cannot be written: %v", o.path, err)}
		}
		list = append(list, &o)
	}
	return list, nil
}

// discard removes the unfinished files.
func (l outputs) discard() {
	for _, o := range l {
		if o.file != nil {
			o.file.Discard()
		}
	}
}

func (p *program) writeOutputs(list outputs, report *bench.Report) error {
	var errs []error
	for _, o := range list {
		err := o.write(report, o.file)
		if err == nil {
			err = o.file.Chmod(0o644)
		}
		if err == nil {
			err = o.file.Finish()
		}
		if err != nil {
			errs = append(errs, failure.Writing(o.path, err))
			continue
		}
		o.file = nil
		p.note("wrote %s", o.path)
	}
	return errors.Join(errs...)
}
