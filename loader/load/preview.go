package load

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"bulkload/chunker"
	"bulkload/chunker/keysize"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// A Preview says what a load would do and why, without doing it.
type Preview struct {
	Server    string `json:"server"`
	Database  string `json:"database"`
	Table     string `json:"table"`
	Create    string `json:"create,omitempty"` // the statement that would make the table
	Empty     bool   `json:"empty"`
	Estimated int64  `json:"estimated_rows"` // by the server's statistics; -1 is unknown

	Kind         string        `json:"what"`
	Rows         int64         `json:"rows"`
	RowsPerChunk int64         `json:"rows_per_chunk"`
	Chunks       int64         `json:"chunks"`
	Workers      int           `json:"workers"`
	MaxWorkers   int           `json:"workers_most"` // that a longer run may try
	WorkersWhy   string        `json:"workers_why"`
	CommitMode   commit.Mode   `json:"commit"`
	Method       commit.Method `json:"via"`
	Statement    string        `json:"statement"` // that carries a chunk's rows
	LimitedBy    string        `json:"binds"`     // the limit that decided, or why none did

	Indexes []IndexPreview `json:"indexes"`
	// Deferred are the statements that would make indexes again after the load.
	Deferred []string       `json:"deferred,omitempty"`
	Limits   []LimitPreview `json:"limits"`
	// Exact says that the bytes of key are exact, not a bound.
	Exact bool     `json:"exact"`
	Notes []string `json:"notes"`
	// Files is how files are read; nil where rows are generated.
	Files *dataset.Reading `json:"files,omitempty"`
}

// An IndexPreview is what one row adds to an index, and what the plan would be without
// that index.
type IndexPreview struct {
	Name     string `json:"name"`
	Primary  bool   `json:"primary"`
	KeyBytes int64  `json:"key_bytes_per_row"` // over all its key-value pairs; zero on PostgreSQL
	KVs      int64  `json:"kvs_per_row"`
	Exact    bool   `json:"exact"`
	// WithoutRows is the number of rows per chunk without the index, zero for the
	// primary one.
	RowsPerChunkWithout int64 `json:"rows_per_chunk_without,omitempty"`
	// MaxRowsWithout is the most rows that the clamping limits would then allow.
	MaxRowsWithout int64 `json:"most_rows_without,omitempty"`
}

// A LimitPreview is a limit and how much of it a chunk uses.
type LimitPreview struct {
	Name    string  `json:"name"`
	Unit    string  `json:"unit"`
	Max     int64   `json:"max"`
	Origin  string  `json:"from"`
	Soft    bool    `json:"advice"`
	Uses    int64   `json:"chunk_uses"`
	Share   float64 `json:"share"`     // Uses / Max
	MaxRows int64   `json:"most_rows"` // rows that would fit it; zero is any number
}

// NewPreview plans a load and writes nothing: its sessions are read-only. srv may be
// connected to another database when the load's own is not there yet; missing then
// names it. The errors are those of New.
func NewPreview(ctx context.Context, srv *server.Server, req Request, missing string) (*Preview, error) {
	ctx, done := loader.WithStop(ctx, req.Stop)
	defer done()
	l := &Load{Dataset: req.Dataset.Fresh(), srv: srv}
	var err error
	if l.pool, err = srv.Pool(ctx, server.Sessions{Name: registry.SessionName("plan", "plan"), Max: 1, ReadOnly: true, Prepare: commit.Prepare}); err != nil {
		return nil, err
	}
	defer l.Close()
	o := l.opening(req.Settings)
	if err := l.Dataset.Inspect(ctx, o); err != nil {
		return nil, err
	}
	facts := l.Dataset.Facts()
	name := req.Table
	if name == "" {
		name = facts.Table
	}
	id, err := server.ParseTable(name)
	if err != nil {
		return nil, &TableError{Reason: err.Error()}
	}
	p := &Preview{Server: srv.Info.String(), Database: srv.Config.Database(), Kind: facts.Kind, Estimated: -1, Notes: []string{}}
	if missing == "" {
		l.Table, err = server.Describe(ctx, l.pool, srv.Info, id)
	}
	switch {
	case missing != "" || errors.Is(err, server.ErrNoTable):
		if p.Create, l.Table, err = l.Dataset.Create(srv.Product, id); err != nil {
			return nil, &TableError{Reason: fmt.Sprintf("no table %s; %v", server.Display(id), err)}
		}
		p.Empty, p.Estimated = true, 0
		if missing != "" {
			p.Database = missing
			p.Notes = append(p.Notes, fmt.Sprintf("database %s does not exist yet and would be created", missing))
		}
	case err != nil:
		return nil, asTableError(err)
	default:
		p.Empty, p.Estimated = l.Table.Empty, l.Table.EstimatedRows
	}
	o.Table = l.Table
	if err := l.Dataset.Fit(ctx, o); err != nil {
		return nil, err
	}
	p.Files = l.Dataset.Reading()
	if p.Create == "" && !req.NoRegistry {
		if err := l.look(ctx, &req.Settings); err != nil {
			return nil, err
		}
	}
	if req.Indexes == DeferIndexes {
		if err := l.previewDeferred(ctx, req, p); err != nil {
			return nil, err
		}
	}
	imported, err := l.previewImport(ctx, &req)
	if err != nil {
		return nil, err
	}
	if err := l.choose(ctx, o, req.Settings); err != nil {
		return nil, err
	}
	p.Table, p.CommitMode, p.Method = l.Table.Display(), l.CommitMode, l.Method
	p.Rows = l.rows()
	p.RowsPerChunk, p.Chunks = l.Plan.RowsPerChunk, l.Plan.Chunks
	if p.Rows > 0 {
		p.RowsPerChunk = min(p.RowsPerChunk, p.Rows)
	}
	crew := l.crew(req.Settings)
	p.Workers, p.MaxWorkers, p.WorkersWhy = crew.Start, crew.Max, crew.Why
	p.Statement = commit.Compose(l.options(req.Settings), srv.Product)
	p.Notes = append(append(append(p.Notes, l.Notes...), l.Plan.Notes...), l.Table.Notes...)
	p.Exact = l.Plan.Cost.Exact
	p.fill(l, req.Settings)
	if imported {
		p.asImport(l, req.Settings)
	}
	return p, nil
}

// previewDeferred leaves out the indexes that the load would drop.
func (l *Load) previewDeferred(ctx context.Context, req Request, p *Preview) error {
	list, err := l.deferrable(ctx, req.NoRegistry)
	if err != nil || len(list) == 0 {
		return err
	}
	kept := *l.Table
	kept.Indexes = slices.DeleteFunc(slices.Clone(kept.Indexes), func(x server.TableIndex) bool { return !x.Primary })
	kept.Keys.Indexes = slices.DeleteFunc(slices.Clone(kept.Keys.Indexes), func(x keysize.Index) bool { return !x.Primary })
	l.Table = &kept
	p.Deferred = []string{}
	for _, x := range list {
		p.Deferred = append(append(p.Deferred, x.Create), x.Then...)
	}
	return nil
}

// look reads what an earlier load or a benchmark has found out about the table, where
// there is a registry that the user may read.
func (l *Load) look(ctx context.Context, s *Settings) error {
	var err error
	if l.registry, err = registry.Open(ctx, l.pool, l.srv.Info); errors.Is(err, registry.ErrNoRegistry) {
		return nil
	}
	if err == nil {
		err = l.recall(ctx, s)
	}
	if err != nil && server.Classify(err) == server.Refused {
		l.Notes = append(l.Notes, "what earlier loads of this table settled on cannot be read: "+server.Reason(err))
		return nil
	}
	return err
}

// fill adds indexes, limits and what they mean.
func (p *Preview) fill(l *Load, s Settings) {
	switch {
	case l.Plan.LimitedBy != nil:
		p.LimitedBy = l.Plan.LimitedBy.Name
	case s.Chunk > 0:
		p.LimitedBy = "--chunk"
	case l.tuned.Chunk > 0 && l.tuned.Origin == registry.ByBench:
		p.LimitedBy = "none: loader bench found this size"
	case l.tuned.Chunk > 0:
		p.LimitedBy = "none: the last load of this table settled on this size"
	default:
		p.LimitedBy = "none: chunks of this size are as fast as any, and cheaper to repeat"
	}
	secondary := 0
	for _, c := range l.Table.Keys.IndexCosts(l.Dataset.RowInfo()) {
		x := IndexPreview{Name: c.Index.Name, Primary: c.Index.Primary, KeyBytes: c.Key.Bytes + c.Key.PerByte*l.Dataset.RecordBytes(), KVs: c.KVs + c.KVsPerByte*l.Dataset.RecordBytes(), Exact: c.Key.Exact}
		if !c.Index.Primary {
			secondary++
			without := l.Table.Keys
			without.Indexes = nil
			for _, other := range l.Table.Keys.Indexes {
				if other.Name != c.Index.Name {
					without.Indexes = append(without.Indexes, other)
				}
			}
			cost := l.cost(without)
			if plan, err := chunker.MakePlan(l.rows(), s.Chunk, l.preferred(), l.Dataset.RecordBytes(), cost, l.Plan.Limits); err == nil {
				x.RowsPerChunkWithout = plan.RowsPerChunk
			}
			x.MaxRowsWithout = most(cost, l.Dataset.RecordBytes(), l.Plan.Limits)
		}
		p.Indexes = append(p.Indexes, x)
	}
	if l.srv.Product == server.PostgreSQL {
		// No limit of PostgreSQL's counts keys.
		for _, x := range l.Table.Indexes {
			p.Indexes = append(p.Indexes, IndexPreview{Name: x.Name, Primary: x.Primary, RowsPerChunkWithout: p.RowsPerChunk})
		}
	}
	raise := false
	for _, limit := range l.Plan.Limits {
		lp := LimitPreview{Name: limit.Name, Unit: limit.Unit.String(), Max: limit.Max, Origin: limit.Origin, Soft: limit.Soft, Uses: l.Plan.Cost.Use(limit.Unit, p.RowsPerChunk, l.Dataset.RecordBytes())}
		if limit.Max > 0 {
			lp.Share = float64(lp.Uses) / float64(limit.Max)
		}
		lp.MaxRows = most(l.Plan.Cost, l.Dataset.RecordBytes(), chunker.Limits{limit})
		raise = raise || limit.Name == server.IntentSetting
		p.Limits = append(p.Limits, lp)
	}
	if note := l.Dataset.Advice(); note != "" {
		p.Notes = append(p.Notes, note)
	}
	if raise {
		p.Notes = append(p.Notes, server.RaiseNote)
	}
	if secondary > 0 && l.srv.Product == server.CockroachDB {
		note := secondaryIndexes(secondary, "makes", "make") + " each chunk a transaction over several ranges. One index on a random column cost a factor of seven when it was measured (200 000 rows on 21.1: 8.4 s; loading first and creating the index afterwards: 1.4 s + 1.0 s)"
		if l.Table.Empty {
			note += "; --indexes defer does that"
		} else {
			note += "; --indexes defer would do that, but only for an empty table"
		}
		p.Notes = append(p.Notes, note)
	}
}

// most returns the most rows of a chunk that the limits allow which clamp or advise;
// zero is any number.
func most(cost chunker.Cost, record int64, limits chunker.Limits) int64 {
	var least int64
	for _, limit := range limits {
		if limit.Max <= 0 || cost.Use(limit.Unit, 1, record) == cost.Use(limit.Unit, 0, record) {
			continue
		}
		per := cost.Use(limit.Unit, 1, record) - cost.Use(limit.Unit, 0, record)
		fits := (limit.Max - cost.Use(limit.Unit, 0, record)) / per
		if least == 0 || fits < least {
			least = fits
		}
	}
	return least
}
