package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/load"
	"bulkload/loader/server"
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

// runFlags are the flags of every run of a load; their values may differ from run to run.
func (p *program) runFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "chunk", Value: "auto", Usage: "rows per chunk, or auto"},
		&cli.StringFlag{Name: "workers", Value: "auto", Usage: "chunks loaded at once, or auto"},
		&cli.StringFlag{Name: "via", Value: "auto", Usage: "method: auto, insert, copy, or import for CockroachDB's IMPORT INTO"},
		commitFlag(),
		&cli.DurationFlag{Name: "chunk-timeout", Value: commit.DefaultChunkTimeout, Usage: "maximum time of one attempt at a chunk"},
		&cli.StringFlag{Name: "rate", Usage: "maximum rows per second"},
		orderFlag(),
		&cli.DurationFlag{Name: "retry-for", Value: commit.DefaultRetryFor, Usage: "maximum time of all attempts at a chunk"},
	}, handoffFlags()...)
}

func commitFlag() cli.Flag {
	return &cli.StringFlag{Name: "commit", Value: "auto", Usage: "how a chunk is committed: statement (one statement, its rows are looked up after a lost reply), transaction (its rows and a ledger row), or auto"}
}

func orderFlag() cli.Flag {
	return &cli.StringFlag{Name: "order", Value: "auto", Usage: "order in which chunks are taken: file for the order of the input, or auto (CockroachDB: from distant parts of the input; PostgreSQL: as file)"}
}

// resumeHelp holds the help of runFlags where a resumed load has another default.
var resumeHelp = map[string]struct{ usage, byDefault string }{
	"chunk":   {"rows per chunk of this run, or auto; not kept from earlier runs", ""},
	"workers": {"chunks loaded at once by this run, or auto; not kept from earlier runs", ""},
	"via":     {"method of this run: auto, insert or copy; a load begun by IMPORT goes on by IMPORT", ""},
	"commit":  {"how a chunk is committed; cannot be changed", "as before"},
	"rate":    {"maximum rows per second of this run; not kept from earlier runs", "no maximum"},
	"order":   {"order in which chunks are taken: file for the order of the input, from now on", "as before"},
	"streams": {"number of files of a load by IMPORT; cannot be changed", "as before"},
}

// resumeFlags are runFlags with the help for a resumed load.
func (p *program) resumeFlags() []cli.Flag {
	list := p.runFlags()
	for _, flag := range list {
		if f, ok := flag.(*cli.StringFlag); ok {
			if h, ok := resumeHelp[f.Name]; ok {
				f.Usage, f.DefaultText = h.usage, h.byDefault
			}
		}
	}
	return list
}

// readOrder reports whether chunks must be committed in the order of the input.
func readOrder(c *cli.Context) (bool, error) {
	switch x := c.String("order"); x {
	case "auto":
		return false, nil
	case "file":
		return true, nil
	default:
		return false, &usageError{fmt.Sprintf("--order is auto or file, not %q", x)}
	}
}

// number reads a whole number within bounds.
func number(name, text string, low, high int64) (int64, error) {
	n, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, 64)
	if err != nil || n < low || n > high {
		return 0, &usageError{fmt.Sprintf("--%s takes a whole number from %d to %d, not %q", name, low, high, text)}
	}
	return n, nil
}

// Bounds of flags.
const (
	maxRows    = int64(1) << 50 // keys of points end at 2^53
	maxChunk   = 10_000_000     // more rows than any server takes in one transaction
	maxWorkers = 256
)

// settings reads runFlags.
func (p *program) settings(c *cli.Context) (load.Settings, error) {
	var s load.Settings
	var err error
	if text := c.String("chunk"); text != "auto" {
		n, err := number("chunk", text, 1, maxChunk)
		if err != nil {
			return s, err
		}
		s.Chunk = n
	}
	if text := c.String("workers"); text != "auto" {
		n, err := number("workers", text, 1, maxWorkers)
		if err != nil {
			return s, err
		}
		s.Workers = int(n)
	}
	switch v := c.String("via"); v {
	case "auto":
	case string(commit.Insert), string(commit.Copy), string(load.Import):
		s.Method = commit.Method(v)
	default:
		return s, &usageError{fmt.Sprintf("--via is auto, insert, copy or import, not %q", v)}
	}
	switch v := c.String("commit"); v {
	case "auto":
	case string(commit.Statement), string(commit.Transaction):
		s.CommitMode = commit.Mode(v)
	default:
		return s, &usageError{fmt.Sprintf("--commit is auto, statement or transaction, not %q", v)}
	}
	s.ChunkTimeout, s.RetryFor = c.Duration("chunk-timeout"), c.Duration("retry-for")
	if s.ChunkTimeout <= 0 || s.RetryFor <= 0 {
		return s, &usageError{"--chunk-timeout and --retry-for must be greater than 0"}
	}
	if s.ImportOptions, err = readHandoff(c); err != nil {
		return s, err
	}
	if text := c.String("rate"); text != "" {
		if s.Rate, err = strconv.ParseFloat(text, 64); err != nil || !(s.Rate >= 1) || math.IsInf(s.Rate, 0) {
			return s, &usageError{fmt.Sprintf("--rate takes rows per second, from 1 on, not %q", text)}
		}
	}
	if s.InOrder, err = readOrder(c); err != nil {
		return s, err
	}
	s.Stop, s.Detail = p.stop, p.verbose
	return s, nil
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

// readIndexes reads whether secondary indexes are kept or deferred.
func readIndexes(c *cli.Context) (load.Indexes, error) {
	switch x := load.Indexes(c.String("indexes")); x {
	case load.KeepIndexes, load.DeferIndexes:
		return x, nil
	default:
		return "", &usageError{fmt.Sprintf("--indexes is keep or defer, not %q", x)}
	}
}

// rowsAndSeed reads the flags that select the generated rows.
func rowsAndSeed(c *cli.Context, g generator) (n int64, seed uint64, err error) {
	if c.Args().Present() {
		return 0, 0, &usageError{fmt.Sprintf("%s takes no argument %q", g.Kind, c.Args().First())}
	}
	if n, err = number("n", c.String("n"), 1, g.maxRows); err != nil {
		return 0, 0, err
	}
	seed = rand.Uint64()
	if text := c.String("seed"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			return 0, 0, &usageError{fmt.Sprintf("--seed takes a whole number from 0 to %d, not %q", uint64(math.MaxUint64), text)}
		}
	}
	return n, seed, nil
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

// lateReporter passes events to a reporter that is created after the job.
type lateReporter struct{ r *reporter }

func (l *lateReporter) note(s string)          { l.r.note(s) }
func (l *lateReporter) observe(e loader.Event) { l.r.observe(e) }

// runLoad runs a load and prints its result. in is the number of rows already loaded.
func (p *program) runLoad(ctx context.Context, srv *server.Server, l *load.Load, r *lateReporter, in int64, local bool) error {
	p.note("target: %s at %s, database %s, table %s, user %s", srv.Info, srv.Config.Host(), srv.Config.Database(), l.Table.Display(), srv.Config.User())
	id := "not recorded: it cannot be resumed"
	if l.ID != "" {
		id = "load " + l.ID
	}
	what, facts, size := l.Dataset.Title(), l.Dataset.Facts(), l.Dataset.Size()
	if l.Method == load.Import {
		p.note("%s, %s; by IMPORT INTO, %s", what, id, l.Handoff())
	} else {
		p.note("%s, %s; chunks of %d rows, %s, by %s, committed by %s", what, id, l.Plan.RowsPerChunk, counted(int64(l.Workers.Start), "worker", "workers"), l.Method, l.CommitMode)
	}
	for _, n := range l.Guesses {
		p.always("note: %s", n)
	}
	for _, n := range append(l.Notes, l.Plan.Notes...) {
		p.note("note: %s", n)
	}
	if !size.Once {
		p.resumeID = l.ID
	}
	if f, ok := l.Dataset.(dataset.Tolerant); ok && l.Method != load.Import {
		if p.inStatements = l.CommitMode == commit.Statement && srv.Product == server.PostgreSQL; !p.inStatements {
			p.tolerate = " --max-errors " + f.MoreErrors()
		}
	}
	p.importing.Store(l.Method == load.Import)
	p.keyed, p.handed = l.Keyed(), l.Method == load.Import && facts.BoundedMemory
	boundMemory(l)
	total, unit := size.Positions, facts.Noun
	if size.Endless {
		total, in, unit = -1, 0, "rows" // the length of a stream is unknown
	}
	r.r = p.report(total, in, unit)
	res, err := l.Run(ctx)
	r.r.end()
	var rejected int64
	if ctx.Err() == nil && l.ID != "" {
		n, rejectErr := p.writeRejects(ctx, l)
		rejected = n
		err = errors.Join(err, rejectErr)
	}
	if err != nil {
		if res.Rows > 0 {
			p.note("%d rows were confirmed by this run", res.Rows)
		}
		return err
	}
	if err := p.printResult(srv, l, res, rejected, local); err != nil || rejected == 0 {
		return err
	}
	return fmt.Errorf("%w: %d", errRejected, rejected)
}

// boundMemory bounds the memory of a load of files.
func boundMemory(l *load.Load) {
	if l.Dataset.Facts().BoundedMemory {
		limitMemory(l.Workers.Max)
	}
}

// limitMemory sets the garbage collector's memory limit for the documented memory of loads of
// files: 64 MiB, and a chunk of at most 4 MiB for each worker. A long record exists several
// times at once: as text, value and message. Memory outside the limit, such as the program
// itself, is about 20 MiB. The limit does not bound the memory in use.
func limitMemory(workers int) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(36<<20 + int64(workers)*4<<20)
	}
}
