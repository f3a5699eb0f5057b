package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/load"
	"bulkload/loader/server"
	"bulkload/loader/source"
)

// databases are where the tutorial keeps each kind of row, for URLs that name none.
var databases = map[load.What]string{load.Points: "pointstore", load.Accounts: "bank", load.CSV: "files"}

func (p *program) pointsCommand() *cli.Command {
	return &cli.Command{
		Name:  "points",
		Usage: "load random points (id, x, y, z), the coordinates uniform in [0, 1024)",
		Flags: p.generateFlags(10_000, "points"),
		Description: `Examples:
   loader points --n 10000 --chunk 1000
   loader points --n 1000000 --seed 7 --url 'postgres://root@localhost:26257/pointstore?sslmode=disable'`,
		Action: func(c *cli.Context) error { return p.generate(c, load.Points) },
	}
}

func (p *program) accountsCommand() *cli.Command {
	return &cli.Command{
		Name:  "accounts",
		Usage: "load random bank accounts (id, balance), the ids distinct in [0, 1 000 000 000)",
		Flags: p.generateFlags(100, "accounts"),
		Description: `Examples:
   loader accounts --n 100
   loader accounts --n 100000 --workers 4 --url env`,
		Action: func(c *cli.Context) error { return p.generate(c, load.Accounts) },
	}
}

// Numbers are read as text, so that a fault is told in one line that names the range.
func (p *program) generateFlags(n int64, table string) []cli.Flag {
	return append(append([]cli.Flag{
		&cli.StringFlag{Name: "n", Value: strconv.FormatInt(n, 10), Usage: "rows to load"},
		&cli.StringFlag{Name: "seed", Usage: "what the rows are made from; a new one is drawn and printed without it"},
		&cli.StringFlag{Name: "table", Value: table, Usage: "table to load into; created when missing"},
		&cli.StringFlag{Name: "indexes", Value: "keep", Usage: "secondary indexes: keep, or defer to after the last row (empty tables only)"},
		&cli.BoolFlag{Name: "no-registry", Usage: "keep no record of the load in schema loader: it cannot be resumed or verified"},
		&cli.StringFlag{Name: "out", Usage: "write the rows to files instead, for an IMPORT INTO that you run: dir/" + table + "-*.csv, where * becomes a number (--streams files); .gz and .zst compress"},
	}, p.runFlags()...), p.commonFlags()...)
}

// runFlags are those of every run of a load; they may differ from run to run.
func (p *program) runFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "chunk", Value: "auto", Usage: "rows per chunk, or auto"},
		&cli.StringFlag{Name: "workers", Value: "auto", Usage: "chunks in flight, or auto"},
		&cli.StringFlag{Name: "via", Value: "auto", Usage: "how rows travel: auto, insert, copy, or import for the server's own IMPORT INTO"},
		&cli.StringFlag{Name: "commit", Value: "auto", Usage: "how a chunk is committed: auto, statement, transaction"},
		&cli.DurationFlag{Name: "chunk-timeout", Value: commit.DefaultChunkTimeout, Usage: "most time for one attempt at a chunk"},
		&cli.DurationFlag{Name: "retry-for", Value: commit.DefaultRetryFor, Usage: "most time for all attempts at a chunk"},
	}, handoffFlags()...)
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
	mostRows    = int64(1) << 50 // keys of points end at 2^53
	mostChunk   = 10_000_000     // more rows than any server takes in one transaction
	mostWorkers = 256
)

// settings reads runFlags.
func (p *program) settings(c *cli.Context) (load.Settings, error) {
	var s load.Settings
	var err error
	if text := c.String("chunk"); text != "auto" {
		n, err := number("chunk", text, 1, mostChunk)
		if err != nil {
			return s, err
		}
		s.Chunk = n
	}
	if text := c.String("workers"); text != "auto" {
		n, err := number("workers", text, 1, mostWorkers)
		if err != nil {
			return s, err
		}
		s.Workers = int(n)
	}
	switch v := c.String("via"); v {
	case "auto":
	case string(commit.Insert), string(commit.Copy), string(load.Import):
		s.Via = commit.Via(v)
	default:
		return s, &usageError{fmt.Sprintf("--via is auto, insert, copy or import, not %q", v)}
	}
	switch v := c.String("commit"); v {
	case "auto":
	case string(commit.Statement), string(commit.Transaction):
		s.Way = commit.Way(v)
	default:
		return s, &usageError{fmt.Sprintf("--commit is auto, statement or transaction, not %q", v)}
	}
	s.ChunkTimeout, s.RetryFor = c.Duration("chunk-timeout"), c.Duration("retry-for")
	if s.ChunkTimeout <= 0 || s.RetryFor <= 0 {
		return s, &usageError{"--chunk-timeout and --retry-for are longer than 0s"}
	}
	if s.Handoff, err = readHandoff(c); err != nil {
		return s, err
	}
	s.Stop, s.Detail = p.stop, p.verbose
	return s, nil
}

// request reads the flags of a load of generated rows.
func (p *program) request(c *cli.Context, what load.What) (load.Request, error) {
	if err := p.begin(c); err != nil {
		return load.Request{}, err
	}
	s, err := p.settings(c)
	if err != nil {
		return load.Request{}, err
	}
	switch x := load.Indexes(c.String("indexes")); x {
	case load.KeepIndexes, load.DeferIndexes:
		s.Indexes = x
	default:
		return load.Request{}, &usageError{fmt.Sprintf("--indexes is keep or defer, not %q", x)}
	}
	req, err := generated(c, what)
	req.Settings = s
	return req, err
}

// generated reads the flags that say which rows are generated.
func generated(c *cli.Context, what load.What) (load.Request, error) {
	if c.Args().Present() {
		return load.Request{}, &usageError{fmt.Sprintf("%s takes no argument %q", what, c.Args().First())}
	}
	most := mostRows
	if what == load.Accounts {
		most = source.AccountIDs
	}
	n, err := number("n", c.String("n"), 1, most)
	if err != nil {
		return load.Request{}, err
	}
	seed := rand.Uint64()
	if text := c.String("seed"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			return load.Request{}, &usageError{fmt.Sprintf("--seed takes a whole number from 0 to %d, not %q", uint64(math.MaxUint64), text)}
		}
	}
	return load.Request{What: what, Rows: n, Seed: seed, Table: c.String("table"), NoRegistry: c.Bool("no-registry")}, nil
}

// generate is the command points or accounts.
func (p *program) generate(c *cli.Context, what load.What) error {
	req, err := p.request(c, what)
	if err != nil {
		return err
	}
	if pattern := c.String("out"); pattern != "" {
		return p.writeOut(c, req, pattern)
	}
	return p.start(c, req)
}

// late passes events on to a reporter that is made after the job.
type late struct{ r *reporter }

func (l *late) note(s string)          { l.r.note(s) }
func (l *late) observe(e loader.Event) { l.r.observe(e) }

// runLoad runs a load and prints its result. in is the number of rows that are in
// already.
func (p *program) runLoad(ctx context.Context, srv *server.Server, l *load.Load, r *late, in int64, local bool) error {
	p.note("target: %s at %s, database %s, table %s, user %s", srv.Info, srv.Config.Host(), srv.Config.Database(), l.Table.Display(), srv.Config.User())
	id := "without a record: it cannot be resumed"
	if l.ID != "" {
		id = "load " + l.ID
	}
	what := fmt.Sprintf("%d %s, seed %d", l.Rows, l.What, l.Seed)
	unit := string(l.What)
	if l.What == load.CSV {
		what, unit = filesOf(l), "bytes"
	}
	if l.Via == load.Import {
		p.note("%s, %s; by IMPORT INTO, %s", what, id, l.Handoff())
	} else {
		p.note("%s, %s; chunks of %d rows, %d workers, by %s, committed by %s", what, id, l.Plan.RowsPerChunk, l.Job.Workers, l.Via, l.Way)
	}
	for _, n := range append(l.Notes, l.Plan.Notes...) {
		p.note("note: %s", n)
	}
	if !readOnce(l) {
		p.resumeID = l.ID
	}
	p.keyed, p.handed = l.Keyed(), l.Via == load.Import && l.What == load.CSV
	if l.What == load.CSV {
		limitMemory(max(l.Job.Workers, l.Job.MostWorkers))
	}
	total := l.Positions
	if l.What == load.CSV && l.Rows == 0 {
		total, in, unit = -1, 0, "rows" // nobody knows the end of a stream
	}
	r.r = p.report(total, in, unit)
	res, err := l.Run(ctx)
	r.r.end()
	var rejected int64
	if l.What == load.CSV && ctx.Err() == nil && l.ID != "" {
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
	if l.What == load.CSV {
		if err := p.printFiles(srv, l, res, rejected, local); err != nil || rejected == 0 {
			return err
		}
		return fmt.Errorf("%w: %d", errRejected, rejected)
	}
	return p.printResult(srv, l, res, local)
}

// result is the JSON form of a finished load.
type result struct {
	Load      string  `json:"load,omitempty"`
	What      string  `json:"what"`
	Server    string  `json:"server"`
	Host      string  `json:"host"`
	Database  string  `json:"database"`
	Table     string  `json:"table"`
	Rows      int64   `json:"rows"`
	RunRows   int64   `json:"rows_this_run"`
	Already   int64   `json:"rows_already_there"`
	Seed      string  `json:"seed"`
	FirstKey  int64   `json:"first_key,omitempty"`
	EndKey    int64   `json:"end_key,omitempty"`
	Chunks    int64   `json:"chunks"`
	ChunkRows int64   `json:"rows_per_chunk"`
	Workers   int     `json:"workers"`
	Via       string  `json:"via"`
	Commit    string  `json:"commit"`
	Retries   int64   `json:"retries"`
	LookUps   int64   `json:"looked_up"`
	Seconds   float64 `json:"seconds"`
	Rate      float64 `json:"rows_per_second"`
	P50       float64 `json:"chunk_p50_ms"`
	P99       float64 `json:"chunk_p99_ms"`
}

func ms(d time.Duration) float64 { return math.Round(float64(d.Microseconds())/10) / 100 }

// filesOf names the files of a load.
func filesOf(l *load.Load) string {
	files := l.InputFiles()
	var bytes int64
	known := true
	for i := range files {
		known = known && files[i].Bytes >= 0
		bytes += files[i].Bytes
	}
	name := files[0].Base()
	if len(files) > 1 {
		name = fmt.Sprintf("%d files", len(files))
	}
	if !known {
		return name
	}
	return fmt.Sprintf("%s, %d bytes", name, bytes)
}

// filesResult is the JSON form of a finished load of files.
type filesResult struct {
	Load      string  `json:"load,omitempty"`
	What      string  `json:"what"`
	Server    string  `json:"server"`
	Host      string  `json:"host"`
	Database  string  `json:"database"`
	Table     string  `json:"table"`
	Files     int     `json:"files"`
	Bytes     int64   `json:"bytes_this_run"`
	RunRows   int64   `json:"rows_this_run"`
	Already   int64   `json:"rows_already_there"`
	Conflicts int64   `json:"conflicts_this_run"`
	Rejected  int64   `json:"rejected"`
	Chunks    int64   `json:"chunks"`
	ChunkRows int64   `json:"rows_per_chunk"`
	Workers   int     `json:"workers"`
	Via       string  `json:"via"`
	Commit    string  `json:"commit"`
	Retries   int64   `json:"retries"`
	LookUps   int64   `json:"looked_up"`
	Seconds   float64 `json:"seconds"`
	Rate      float64 `json:"rows_per_second"`
	P50       float64 `json:"chunk_p50_ms"`
	P99       float64 `json:"chunk_p99_ms"`
}

// printFiles writes the result of a load of files to stdout.
func (p *program) printFiles(srv *server.Server, l *load.Load, res loader.Result, rejected int64, local bool) error {
	if p.json {
		bytes := res.Positions
		if l.Rows == 0 {
			bytes = 0 // of streams it is not known
		}
		return json.NewEncoder(p.stdout).Encode(filesResult{
			Load: l.ID, What: string(l.What), Server: srv.Info.String(), Host: srv.Config.Host(), Database: srv.Config.Database(), Table: l.Table.Display(),
			Files: len(l.InputFiles()), Bytes: bytes, RunRows: res.Rows, Already: res.AlreadyRows, Conflicts: res.Conflicts, Rejected: rejected,
			Chunks: res.Chunks, ChunkRows: l.Plan.RowsPerChunk, Workers: l.Job.Workers, Via: string(l.Via), Commit: string(l.Way),
			Retries: res.Retries, LookUps: res.LookUps, Seconds: res.Elapsed.Seconds(), Rate: math.Round(res.RowsPerSecond()), P50: ms(res.P50), P99: ms(res.P99),
		})
	}
	out := p.stdout
	if res.Chunks == 0 {
		fmt.Fprintf(out, "load %s is complete: all of %s is in %s; nothing was left to do\n", l.ID, filesOf(l), l.Table.Display())
		return nil
	}
	fmt.Fprintf(out, "loaded %d rows of %s into %s in %.2f s: %.0f rows/s\n", res.Rows, filesOf(l), l.Table.Display(), res.Elapsed.Seconds(), res.RowsPerSecond())
	if res.Conflicts > 0 || l.Conflict() != "" {
		did := map[commit.Conflict]string{commit.SkipRow: "were passed over", commit.UpdateRow: "took the place of an older row"}[l.Conflict()]
		fmt.Fprintf(out, "%d of them %s: their key was there\n", res.Conflicts, did)
	}
	if rejected > 0 {
		fmt.Fprintf(out, "%d records were rejected\n", rejected)
	}
	fmt.Fprintln(out, summary(l, res))
	if l.ID != "" {
		fmt.Fprintf(out, "load %s\n", l.ID)
	}
	query := fmt.Sprintf("SELECT * FROM %s LIMIT 5", l.Table.Name.Sanitize())
	if local {
		fmt.Fprintf(out, "look at them: loader db sql --database %s '%s'\n", srv.Config.Database(), query)
	} else {
		fmt.Fprintf(out, "look at them: %s\n", query)
	}
	return nil
}

// printResult writes the result to stdout.
func (p *program) printResult(srv *server.Server, l *load.Load, res loader.Result, local bool) error {
	if p.json {
		b, err := json.Marshal(result{
			Load: l.ID, What: string(l.What), Server: srv.Info.String(), Host: srv.Config.Host(), Database: srv.Config.Database(), Table: l.Table.Display(),
			Rows: l.Rows, RunRows: res.Rows, Already: res.AlreadyRows, Seed: strconv.FormatUint(l.Seed, 10), FirstKey: l.Keys.First, EndKey: l.Keys.End,
			Chunks: res.Chunks, ChunkRows: l.Plan.RowsPerChunk, Workers: l.Job.Workers, Via: string(l.Via), Commit: string(l.Way),
			Retries: res.Retries, LookUps: res.LookUps, Seconds: res.Elapsed.Seconds(), Rate: math.Round(res.RowsPerSecond()), P50: ms(res.P50), P99: ms(res.P99),
		})
		if err != nil {
			return err
		}
		fmt.Fprintln(p.stdout, string(b))
		return nil
	}
	out := p.stdout
	if res.Chunks == 0 {
		fmt.Fprintf(out, "load %s is complete: %d %s in %s; nothing was left to do\n", l.ID, l.Rows, l.What, l.Table.Display())
		return nil
	}
	fmt.Fprintf(out, "loaded %d %s into %s in %.2f s: %.0f rows/s\n", res.Rows, l.What, l.Table.Display(), res.Elapsed.Seconds(), res.RowsPerSecond())
	if res.Rows != l.Rows {
		fmt.Fprintf(out, "complete with what was there before: %d rows\n", l.Rows)
	}
	fmt.Fprintln(out, summary(l, res))
	fmt.Fprintf(out, "seed %d%s\n", l.Seed, idPart(l))
	where := ""
	if l.What == load.Points {
		where = fmt.Sprintf(" WHERE id >= %d AND id < %d", l.Keys.First, l.Keys.End)
	}
	query := fmt.Sprintf("SELECT * FROM %s%s ORDER BY id LIMIT 5", inSQL(l.Table), where)
	if local {
		flag := ""
		if db := srv.Config.Database(); db != databases[load.Points] {
			flag = " --database " + db
		}
		fmt.Fprintf(out, "look at them: loader db sql%s '%s'\n", flag, query)
	} else {
		fmt.Fprintf(out, "look at them: %s\n", query)
	}
	return nil
}

// summary says how a load went, in one line.
func summary(l *load.Load, res loader.Result) string {
	if l.Via == load.Import {
		return counted(res.Chunks, "IMPORT job", "IMPORT jobs") + "; the table is online, its constraints as before"
	}
	return fmt.Sprintf("%s, %.1f ms each (p50), %.1f ms (p99); %s, %s looked up", counted(res.Chunks, "chunk", "chunks"), ms(res.P50), ms(res.P99),
		counted(res.Retries, "retry", "retries"), counted(res.LookUps, "uncertain outcome", "uncertain outcomes"))
}

// counted returns a number with its noun.
func counted(n int64, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// inSQL returns the table's name for a statement that is shown: plain where it is one
// of the tutorial's, which are no keywords.
func inSQL(t *server.Table) string {
	if name := t.Name[len(t.Name)-1]; t.Name[0] == "public" && (name == string(load.Points) || name == string(load.Accounts)) {
		return name
	}
	return t.Name.Sanitize()
}

func idPart(l *load.Load) string {
	if l.ID == "" {
		return ""
	}
	return ", load " + l.ID + " (loader loads verify " + l.ID + " compares every row)"
}

// readOnce reports whether a load has an input that no other process can read again.
func readOnce(l *load.Load) bool {
	return l.What == load.CSV && slices.ContainsFunc(l.InputFiles(), func(f source.File) bool { return f.Once })
}

// limitMemory has garbage collected in time for what is promised of files: 64 MiB and a
// chunk of at most 4 for each worker. Long records are there several times on their way:
// as text, value and message. What the limit does not count, the program itself among
// it, takes some 20 MiB. It is no bound on what is in use.
func limitMemory(workers int) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(36<<20 + int64(workers)*4<<20)
	}
}
