package main

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/load"
	"bulkload/loader/server"
)

// A loadResult is what the JSON form of a finished load begins with.
type loadResult struct {
	Load     string `json:"load,omitempty"`
	What     string `json:"what"`
	Server   string `json:"server"`
	Host     string `json:"host"`
	Database string `json:"database"`
	Table    string `json:"table"`
}

// A runResult is what it says of the run that finished it.
type runResult struct {
	RunRows   int64   `json:"rows_this_run"`
	Already   int64   `json:"rows_already_there"`
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

// A generatedResult is the JSON form of a finished load of rows that were generated.
type generatedResult struct {
	loadResult
	Rows     int64  `json:"rows"`
	Seed     string `json:"seed"`
	FirstKey int64  `json:"first_key,omitempty"`
	EndKey   int64  `json:"end_key,omitempty"`
	runResult
}

// A filesResult is that of a finished load of files.
type filesResult struct {
	loadResult
	Files     int   `json:"files"`
	Bytes     int64 `json:"bytes_this_run"`
	Conflicts int64 `json:"conflicts_this_run"`
	Rejected  int64 `json:"rejected"`
	runResult
}

func newLoadResult(srv *server.Server, l *load.Load) loadResult {
	return loadResult{
		Load: l.ID, What: string(l.What), Server: srv.Info.String(), Host: srv.Config.Host(),
		Database: srv.Config.Database(), Table: l.Table.Display(),
	}
}

func newRunResult(l *load.Load, res loader.Result) runResult {
	return runResult{
		RunRows: res.Rows, Already: res.AlreadyRows,
		Chunks: res.Chunks, ChunkRows: l.Plan.RowsPerChunk, Workers: l.Job.Workers, Via: string(l.Via), Commit: string(l.Way),
		Retries: res.Retries, LookUps: res.LookUps,
		Seconds: res.Elapsed.Seconds(), Rate: math.Round(res.RowsPerSecond()), P50: ms(res.P50), P99: ms(res.P99),
	}
}

func ms(d time.Duration) float64 { return math.Round(float64(d.Microseconds())/10) / 100 }

// printResult writes the result of a load to stdout.
func (p *program) printResult(srv *server.Server, l *load.Load, res loader.Result, rejected int64, local bool) error {
	if l.What == load.CSV {
		return p.printFiles(srv, l, res, rejected, local)
	}
	if p.json {
		return p.printJSON(generatedResult{
			loadResult: newLoadResult(srv, l), Rows: l.Rows, Seed: strconv.FormatUint(l.Seed, 10),
			FirstKey: l.Keys.First, EndKey: l.Keys.End, runResult: newRunResult(l, res),
		})
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
	p.hintRows(srv, fmt.Sprintf("SELECT * FROM %s%s ORDER BY id LIMIT 5", inSQL(l.Table), where), local)
	return nil
}

// printFiles writes the result of a load of files to stdout.
func (p *program) printFiles(srv *server.Server, l *load.Load, res loader.Result, rejected int64, local bool) error {
	if p.json {
		bytes := res.Positions
		if l.Rows == 0 {
			bytes = 0 // of streams it is not known
		}
		return p.printJSON(filesResult{
			loadResult: newLoadResult(srv, l), Files: len(l.InputFiles()), Bytes: bytes, Conflicts: res.Conflicts, Rejected: rejected,
			runResult: newRunResult(l, res),
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
	p.hintRows(srv, fmt.Sprintf("SELECT * FROM %s LIMIT 5", l.Table.Name.Sanitize()), local)
	return nil
}

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

// hintRows says how to look at what was loaded.
func (p *program) hintRows(srv *server.Server, query string, local bool) {
	if local {
		flag := ""
		if db := srv.Config.Database(); db != databases[load.Points] {
			flag = " --database " + shellWord(db)
		}
		query = fmt.Sprintf("loader db sql%s %s", flag, shellWord(query))
	}
	fmt.Fprintf(p.stdout, "look at them: %s\n", query)
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
