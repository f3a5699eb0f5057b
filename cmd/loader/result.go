package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/load"
	"bulkload/loader/server"
)

// A loadResult begins the JSON form of a finished load.
type loadResult struct {
	Load     string `json:"load,omitempty"`
	Kind     string `json:"what"`
	Server   string `json:"server"`
	Host     string `json:"host"`
	Database string `json:"database"`
	Table    string `json:"table"`
}

// A runResult is the part about the run that finished the load.
type runResult struct {
	RunRows          int64   `json:"rows_this_run"`
	AlreadyCommitted int64   `json:"rows_already_there"`
	Chunks           int64   `json:"chunks"`
	ChunkRows        int64   `json:"rows_per_chunk"`
	Workers          int     `json:"workers"`
	Method           string  `json:"via"`
	Commit           string  `json:"commit"`
	Retries          int64   `json:"retries"`
	LookUps          int64   `json:"looked_up"`
	Seconds          float64 `json:"seconds"`
	Rate             float64 `json:"rows_per_second"`
	P50              float64 `json:"chunk_p50_ms"`
	P99              float64 `json:"chunk_p99_ms"`
}

func newLoadResult(srv *server.Server, l *load.Load) loadResult {
	return loadResult{
		Load: l.ID, Kind: l.Dataset.Facts().Kind, Server: srv.Info.String(), Host: srv.Config.Host(),
		Database: srv.Config.Database(), Table: l.Table.Display(),
	}
}

func newRunResult(l *load.Load, res loader.Result) runResult {
	return runResult{
		RunRows: res.Rows, AlreadyCommitted: res.AlreadyCommittedRows,
		Chunks: res.Chunks, ChunkRows: l.Plan.RowsPerChunk, Workers: l.Workers.Start, Method: string(l.Method), Commit: string(l.CommitMode),
		Retries: res.Retries, LookUps: res.LookUps,
		Seconds: res.Elapsed.Seconds(), Rate: math.Round(res.RowsPerSecond()), P50: ms(res.P50), P99: ms(res.P99),
	}
}

func ms(d time.Duration) float64 { return math.Round(float64(d.Microseconds())/10) / 100 }

// printResult writes the result of a load to stdout.
func (p *program) printResult(srv *server.Server, l *load.Load, res loader.Result, rejected int64, local bool) error {
	o, table := l.Dataset.Outcome(l.Table, res, rejected), l.Table.Display()
	if p.json {
		return p.printJSON(joined{newLoadResult(srv, l), o.JSON, newRunResult(l, res)})
	}
	out := p.stdout
	if res.Chunks == 0 {
		fmt.Fprintf(out, "load %s is complete: %s into %s; nothing was left to load\n", l.ID, l.Dataset.Title(), table)
		return nil
	}
	fmt.Fprintf(out, "loaded %d %s into %s in %.2f s: %.0f rows/s\n", res.Rows, titleOf(res.Rows, o.Title), table, res.Elapsed.Seconds(), res.RowsPerSecond())
	if size := l.Dataset.Size(); size.Rows == size.Positions && res.Rows != size.Rows {
		fmt.Fprintf(out, "with earlier runs: %d rows in all\n", size.Rows)
	}
	for _, line := range o.Lines {
		fmt.Fprintln(out, line)
	}
	fmt.Fprintln(out, summary(l, res))
	switch {
	case o.Origin != "":
		fmt.Fprintf(out, "%s%s\n", o.Origin, idPart(l))
	case l.ID != "":
		fmt.Fprintf(out, "load %s\n", l.ID)
	}
	p.hintRows(srv, o.Query, local)
	return nil
}

// joined is one JSON object with the fields of several values.
type joined []any

// MarshalJSON implements json.Marshaler.
func (j joined) MarshalJSON() ([]byte, error) {
	var fields [][]byte
	for _, part := range j {
		b, err := json.Marshal(part)
		if err != nil {
			return nil, err
		}
		if b = bytes.TrimSuffix(bytes.TrimPrefix(b, []byte("{")), []byte("}")); len(b) > 0 {
			fields = append(fields, b)
		}
	}
	return fmt.Appendf(nil, "{%s}", bytes.Join(fields, []byte(","))), nil
}

// hintRows prints a query that shows the loaded rows.
func (p *program) hintRows(srv *server.Server, query string, local bool) {
	if local {
		flag := ""
		if db := srv.Config.Database(); db != dataset.PointsDatabase {
			flag = " --database " + shellWord(db)
		}
		query = fmt.Sprintf("loader db sql%s %s", flag, shellWord(query))
	}
	fmt.Fprintf(p.stdout, "look at them: %s\n", query)
}

// summary describes a finished load in one line.
func summary(l *load.Load, res loader.Result) string {
	if l.Method == load.Import {
		return counted(res.Chunks, "IMPORT job", "IMPORT jobs") + "; the table is online again, with its constraints"
	}
	return fmt.Sprintf("%s, %.1f ms each (p50), %.1f ms (p99); %s, %s looked up", counted(res.Chunks, "chunk", "chunks"), ms(res.P50), ms(res.P99),
		counted(res.Retries, "retry", "retries"), counted(res.LookUps, "uncertain outcome", "uncertain outcomes"))
}

// counted returns a number and its noun.
func counted(n int64, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// titleOf returns the title of n rows, such as "points" or "rows of a.csv": one row has the
// singular.
func titleOf(n int64, title string) string {
	if word, rest, some := strings.Cut(title, " "); n == 1 {
		title = strings.TrimSuffix(word, "s")
		if some {
			title += " " + rest
		}
	}
	return title
}

func idPart(l *load.Load) string {
	if l.ID == "" {
		return ""
	}
	return ", load " + l.ID + " (loader loads verify " + l.ID + " compares every row)"
}
