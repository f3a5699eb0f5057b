package load

import (
	"context"
	"fmt"
	"slices"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/importer"
	"bulkload/loader/indexes"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// A Preview describes a load and the reasons of its plan, without running it.
type Preview struct {
	Server    string `json:"server"`
	Database  string `json:"database"`
	Table     string `json:"table"`
	Create    string `json:"create,omitempty"` // the CREATE TABLE statement of a missing table
	Empty     bool   `json:"empty"`
	Estimated int64  `json:"estimated_rows"` // from the server's statistics; -1 is unknown

	Kind         string        `json:"what"`
	Rows         int64         `json:"rows"`
	RowsPerChunk int64         `json:"rows_per_chunk"`
	Chunks       int64         `json:"chunks"`
	Workers      int           `json:"workers"`
	MaxWorkers   int           `json:"workers_most"` // the maximum that a longer run may try
	WorkersWhy   string        `json:"workers_why"`
	CommitMode   commit.Mode   `json:"commit"`
	CommitWhy    string        `json:"commit_why,omitempty"` // why this mode; empty: it was asked for, or is the only one
	Method       commit.Method `json:"via"`
	Statement    string        `json:"statement"` // the statement that sends a chunk's rows
	LimitedBy    string        `json:"binds"`     // the limit that decided, or why none did

	Indexes []IndexPreview `json:"indexes"`
	// Deferred are the statements that create indexes again after the load.
	Deferred []string       `json:"deferred,omitempty"`
	Limits   []LimitPreview `json:"limits"`
	// Exact says that the bytes of keys are exact, not an upper bound.
	Exact bool     `json:"exact"`
	Notes []string `json:"notes"`
	// Files describes how files are read; nil for generated rows.
	Files *dataset.Reading `json:"files,omitempty"`
	// Rules are the rules of the columns; nil where the rows follow none that differ.
	Rules []dataset.ColumnRule `json:"rules,omitempty"`
}

// sampleRows is the number of rows that a preview shows.
const sampleRows = 10

// An IndexPreview shows the size of one row's entries in an index, and the plan without that
// index.
type IndexPreview struct {
	Name     string `json:"name"`
	Primary  bool   `json:"primary"`
	KeyBytes int64  `json:"key_bytes_per_row"` // over all its key-value pairs; zero on PostgreSQL
	KVs      int64  `json:"kvs_per_row"`
	Exact    bool   `json:"exact"`
	// RowsPerChunkWithout is the number of rows per chunk without the index; zero for the
	// primary index.
	RowsPerChunkWithout int64 `json:"rows_per_chunk_without,omitempty"`
	// MaxRowsWithout is the maximum that the clamping limits would allow without the index.
	MaxRowsWithout int64 `json:"most_rows_without,omitempty"`
}

// A LimitPreview is a limit and a chunk's use of it.
type LimitPreview struct {
	Name    string  `json:"name"`
	Unit    string  `json:"unit"`
	Max     int64   `json:"max"`
	Origin  string  `json:"from"`
	Soft    bool    `json:"advice"`
	Uses    int64   `json:"chunk_uses"`
	Share   float64 `json:"share"`     // Uses / Max
	MaxRows int64   `json:"most_rows"` // rows within the limit; zero is any number
}

// NewPreview plans a load and writes nothing: its sessions are read-only. srv may be connected
// to another database if the load's own does not exist yet; missing then names the load's
// database. The errors are those of New.
func NewPreview(ctx context.Context, srv *server.Server, req Request, missing string) (p *Preview, err error) {
	ctx, done := loader.WithStop(ctx, req.Stop)
	defer done()
	begin := func() *opening {
		o := newOpening(toPreview, srv, req)
		o.missing = missing
		return o
	}
	err = takeSteps(ctx, begin, func(o *opening) (err error) {
		p = o.asPreview()
		if r, ok := o.dataset.(dataset.Ruler); ok {
			p.Rules, err = r.Rules(sampleRows)
		}
		if err == nil {
			o.close()
		}
		return err
	})
	return p, err
}

// asPreview describes the load.
func (o *opening) asPreview() *Preview {
	p := &Preview{
		Server: o.srv.Info.String(), Database: o.srv.Config.Database(), Table: o.table.Display(), Create: o.ddl, Empty: o.table.Empty, Estimated: o.table.EstimatedRows,
		Kind: o.dataset.Facts().Kind, Rows: o.plan.Rows, RowsPerChunk: o.plan.RowsPerChunk, Chunks: o.plan.Chunks,
		CommitMode: o.choice.Mode, CommitWhy: o.choice.Why, Method: o.choice.Method, Exact: o.plan.Cost.Exact, Files: o.dataset.Reading(),
	}
	if o.missing != "" {
		p.Database = o.missing
	}
	if p.Rows > 0 {
		p.RowsPerChunk = min(p.RowsPerChunk, p.Rows)
	}
	if o.req.Indexes == DeferIndexes && o.imported == nil {
		for _, x := range o.deferred {
			p.Deferred = append(append(p.Deferred, x.Create), x.Then...)
		}
	}
	w := o.workers()
	p.Workers, p.MaxWorkers, p.WorkersWhy = w.Start, w.Max, w.Why
	p.Statement = commit.Compose(o.options(), o.srv.Product)
	p.Notes = slices.Concat([]string{}, o.guesses, o.notes, o.plan.Notes, o.table.Notes)
	p.fill(o)
	if o.imported != nil {
		p.asImport(o)
	}
	return p
}

// asImport turns a preview of chunks into one of IMPORT.
func (p *Preview) asImport(o *opening) {
	st := importer.Statement{Table: o.table.Name, Format: o.imported.Format, Files: o.req.ImportOptions.Files}
	for _, c := range o.dataset.Source().Columns() {
		st.Columns = append(st.Columns, c.Name)
	}
	if len(st.Files) == 0 {
		st.Files = []string{"http://HOST/1.csv"}
	}
	p.Notes = append([]string{fmt.Sprintf("IMPORT INTO takes the table offline until the end; in chunks the load would be %d chunks of %d rows, by %s, committed by %s", p.Chunks, p.RowsPerChunk, p.Method, p.CommitMode)}, p.Notes...)
	p.Method, p.CommitMode, p.CommitWhy, p.Statement = Import, "", "", st.String()
	p.Chunks, p.RowsPerChunk, p.Workers = 1, p.Rows, 0
	p.LimitedBy = "nothing (IMPORT INTO uses no transactions; the indexes and limits below are those of a load in chunks)"
}

// fill adds indexes, limits and their effects.
func (p *Preview) fill(o *opening) {
	switch {
	case o.plan.LimitedBy != nil:
		p.LimitedBy = o.plan.LimitedBy.Name
	case o.req.Chunk > 0:
		p.LimitedBy = "--chunk"
	case o.tuned.Chunk > 0 && o.tuned.Origin == registry.ByBench:
		p.LimitedBy = "nothing (size found by loader bench)"
	case o.tuned.Chunk > 0:
		p.LimitedBy = "nothing (size of the last load of this table)"
	default:
		p.LimitedBy = "nothing (default size; larger chunks are no faster)"
	}
	secondary := 0
	for _, c := range o.table.Keys.IndexCosts(o.dataset.RowInfo()) {
		x := IndexPreview{Name: c.Index.Name, Primary: c.Index.Primary, KeyBytes: c.Key.Bytes + c.Key.PerByte*o.dataset.RecordBytes(), KVs: c.KVs + c.KVsPerByte*o.dataset.RecordBytes(), Exact: c.Key.Exact}
		if !c.Index.Primary {
			secondary++
			without := o.table.Keys
			without.Indexes = nil
			for _, other := range o.table.Keys.Indexes {
				if other.Name != c.Index.Name {
					without.Indexes = append(without.Indexes, other)
				}
			}
			cost := o.cost(without)
			if plan, err := o.planFor(o.req.Chunk, o.preferred(), cost, o.plan.Limits); err == nil {
				x.RowsPerChunkWithout = plan.RowsPerChunk
			}
			x.MaxRowsWithout = maxRowsOf(cost, o.dataset.RecordBytes(), o.plan.Limits)
		}
		p.Indexes = append(p.Indexes, x)
	}
	if o.srv.Product == server.PostgreSQL {
		// No PostgreSQL limit counts keys.
		for _, x := range o.table.Indexes {
			p.Indexes = append(p.Indexes, IndexPreview{Name: x.Name, Primary: x.Primary, RowsPerChunkWithout: p.RowsPerChunk})
		}
	}
	raise := false
	for _, limit := range o.plan.Limits {
		lp := LimitPreview{Name: limit.Name, Unit: limit.Unit.String(), Max: limit.Max, Origin: limit.Origin, Soft: limit.Soft, Uses: o.plan.Cost.Use(limit.Unit, p.RowsPerChunk, o.dataset.RecordBytes())}
		if limit.Max > 0 {
			lp.Share = float64(lp.Uses) / float64(limit.Max)
		}
		lp.MaxRows = maxRowsOf(o.plan.Cost, o.dataset.RecordBytes(), chunker.Limits{limit})
		raise = raise || limit.Name == server.IntentSetting
		p.Limits = append(p.Limits, lp)
	}
	if raise {
		p.Notes = append(p.Notes, server.RaiseNote)
	}
	if secondary > 0 && o.srv.Product == server.CockroachDB {
		note := indexes.Count(secondary, "makes", "make") + " each chunk a transaction over several ranges, which is slower. Measured by the project on CockroachDB 21.1 with one index on a random column: 200 000 rows took 8.4 s; without the index they took 1.4 s, and creating it afterwards 1.0 s"
		if o.table.Empty {
			note += "; --indexes defer creates it afterwards"
		} else {
			note += "; --indexes defer would create it afterwards, but needs an empty table"
		}
		p.Notes = append(p.Notes, note)
	}
}

// maxRowsOf returns the maximum number of rows of a chunk under the limits that clamp or advise;
// zero is any number.
func maxRowsOf(cost chunker.Cost, record int64, limits chunker.Limits) int64 {
	var rows int64
	for _, limit := range limits {
		if limit.Max <= 0 || cost.Use(limit.Unit, 1, record) == cost.Use(limit.Unit, 0, record) {
			continue
		}
		per := cost.Use(limit.Unit, 1, record) - cost.Use(limit.Unit, 0, record)
		fits := (limit.Max - cost.Use(limit.Unit, 0, record)) / per
		if rows == 0 || fits < rows {
			rows = fits
		}
	}
	return rows
}
