package files

import (
	"context"
	"fmt"
	"slices"

	"bulkload/chunker"
	"bulkload/chunker/keysize"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// keys returns the primary key's columns; nil unless the files supply all of them.
func (d *Dataset) keys() []string {
	for _, k := range d.table.Primary {
		if !slices.ContainsFunc(d.spec.Fields, func(f mappedField) bool { return f.Column && f.Name == k }) {
			return nil
		}
	}
	return d.table.Primary
}

// Choose implements dataset.Dataset.
func (d *Dataset) Choose(ctx context.Context, o *dataset.Opening, asked dataset.Choice) (dataset.Choice, error) {
	c := d.spec
	name := d.table.Display()
	automatic := asked.Mode == ""
	if automatic {
		asked.Mode = commit.Transaction
		if d.info.Product == server.CockroachDB {
			if asked.Why = d.against(o); asked.Why == "" {
				asked.Mode = commit.Statement
			}
		}
	}
	if asked.Method == "" {
		asked.Method = commit.Insert
		if d.info.Product == server.PostgreSQL && c.Set == nil && c.Conflict == "" && !d.table.RowSecurity {
			asked.Method = commit.Copy
		}
	}
	d.choice = asked
	if bad := d.unescaped(); bad != nil && asked.Method == commit.Copy {
		return asked, dataset.Refuse("--via copy cannot load column %s: CockroachDB's COPY does not decode the escapes of %s; use --via insert", bad.Name, bad.SQLType)
	}
	switch {
	case asked.Method == commit.Copy && (c.Set != nil || c.Conflict != ""):
		return asked, dataset.Contradict(copyIsPlain)
	case c.Conflict != "" && d.keys() == nil:
		return asked, dataset.Refuse("--on-conflict %s needs the whole primary key of %s in the file", c.Conflict, name)
	case asked.Mode != commit.Statement:
	case automatic:
		var err error
		if asked.Why, err = d.unsureKeys(ctx, o); err != nil {
			return asked, err
		}
		if asked.Why != "" {
			asked.Mode, asked.Why = commit.Transaction, "--commit statement "+asked.Why
		} else {
			asked.Why = provedExact
		}
		d.choice = asked
	case o.RecalledMode && (c.Conflict != "" || !c.MaxErrors.none() || d.unsure() != ""):
		asked.Mode = commit.Transaction
		d.choice = asked
	case c.Conflict != "" || !c.MaxErrors.none() && (o.Resumed == "" || d.info.Product != server.CockroachDB):
		return asked, dataset.Contradict(needsTransaction)
	default:
		why := d.unsure()
		if why == "" {
			var err error
			if why, err = d.unsureKeys(ctx, o); err != nil {
				return asked, err
			}
		}
		if why != "" {
			if o.Resumed != "" {
				return asked, &dataset.ResumeError{Reason: fmt.Sprintf("load %s: --commit statement %s; run loader loads forget %s, delete its rows, and load again with --commit transaction", o.Resumed, why, o.Resumed)}
			}
			return asked, dataset.Refuse("--commit statement %s; use --commit transaction", why)
		}
	}
	if o.Resumed == "" && c.Began == "" {
		var err error
		if c.Began, err = dataset.Began(ctx, o.DB, o.Info); err != nil {
			return asked, err
		}
	}
	if d.Ordered() != "" && o.Workers > 1 {
		d.note(fmt.Sprintf("one worker, not %d: %s", o.Workers, d.Ordered()))
	}
	if len(c.Set) > 0 {
		opts := d.Options()
		opts.Table, opts.Mode, opts.Method = d.table.Name, d.choice.Mode, d.choice.Method
		return asked, dataset.CheckStatement(ctx, o, opts, "--set")
	}
	return asked, nil
}

// provedExact says why an automatic choice took the statement mode.
const provedExact = "the table was empty, the files have its whole primary key, and a look-up compares each value as it is stored; --commit transaction writes ledger rows instead"

// against returns what speaks against the statement mode as the automatic choice; empty if
// nothing does.
func (d *Dataset) against(o *dataset.Opening) string {
	if d.spec.Conflict != "" || !d.spec.MaxErrors.none() {
		return needsTransaction
	}
	if why := dataset.AgainstStatements(o, d.table, d.columns()); why != "" {
		return why
	}
	if why := d.unsure(); why != "" {
		return "--commit statement " + why
	}
	return ""
}

// Ordered implements dataset.Dataset. Load order decides which of several records with one key
// the table keeps: the last one replaces the others, or the first one stays.
//
// Note: measured on PostgreSQL 15. Without repeated keys, two workers were 1.4 times as fast as
// one. With keys shared between chunks they were several times slower, because workers waited
// for each other's locks and for deadlocks.
func (d *Dataset) Ordered() string {
	if d.spec.Conflict == "" {
		return ""
	}
	return fmt.Sprintf("with --on-conflict %s chunks are committed in the order of the input", d.spec.Conflict)
}

// Cost implements dataset.Dataset.
func (d *Dataset) Cost(cost chunker.Cost) chunker.Cost {
	cost.MessageBytes = 4 * int64(len(d.source.Cols))
	cost.MessagePerByte = 1
	cost.FixedParameters = int64(len(d.source.Cols))
	if d.choice.Method == commit.Copy {
		cost.MessagePerByte, cost.FixedParameters = 2, 0 // each byte may be escaped
	}
	cost.FixedMessageBytes = commit.FixedMessageBytes
	return cost
}

// rawSpanBytes is the size of a chunk whose text goes to PostgreSQL unparsed. Measured on 15:
// larger chunks save commits, but there is no gain beyond this size. A chunk ends one record
// beyond this size, and should not exceed the maximum size of a record: a larger chunk is parsed,
// to find a record over that maximum. defaultSpanBytes is better where text is parsed or bad rows
// are searched for.
const rawSpanBytes = DefaultMaxRecordBytes - 128<<10

// takesRaw reports whether chunks go to the server whole and unparsed, without a search for bad
// rows.
func (d *Dataset) takesRaw() bool {
	c := d.spec
	return d.info.Product == server.PostgreSQL && d.choice.Method == commit.Copy && c.Dialect.Quote != 0 && c.wholeRecords() && c.MaxErrors.none()
}

// chunkBytes returns the bytes of a chunk where no limit applies. Small files get smaller
// chunks, so that each worker has some.
func (d *Dataset) chunkBytes() int64 {
	size := d.Size()
	if !d.takesRaw() || size.Rows == 0 {
		return defaultSpanBytes
	}
	const chunks = 4 * 2 // for each of a run's initial workers
	return min(max(size.Positions/chunks, defaultSpanBytes), rawSpanBytes)
}

// RecordBytes implements dataset.Dataset.
func (d *Dataset) RecordBytes() int64 { return d.spec.RowBytes }

// ChunkRows implements dataset.Dataset.
func (d *Dataset) ChunkRows() int64 {
	if d.takesRaw() {
		return max(d.chunkBytes()/max(d.spec.RowBytes, 1), dataset.PostgresRows)
	}
	return dataset.DefaultChunkRows(d.info)
}

// Planned implements dataset.Dataset: it bounds the bytes of a span, so that every limit holds
// for any record length. The plan's rows fit the records at the beginning of the files.
func (d *Dataset) Planned(p chunker.Plan, maxRows int64, together int) {
	size := d.chunkBytes()
	for _, limit := range p.Limits {
		perByte := p.Cost.Use(limit.Unit, 1, 1) - p.Cost.Use(limit.Unit, 1, 0)
		if limit.Max <= 0 || perByte <= 0 {
			continue
		}
		left := limit.Max - p.Cost.Use(limit.Unit, max(p.RowsPerChunk, maxRows), 0)
		size = min(size, max(left/perByte, 1))
	}
	d.source.SpanBytes, d.source.SpanRows, d.source.SpansTogether = int(size), p.RowsPerChunk, together
}

// RowInfo implements dataset.Dataset. Later records may be longer than the sampled ones and
// have more elements. They make keys larger than planned only in inverted indexes.
func (d *Dataset) RowInfo() keysize.RowInfo {
	g := keysize.RowInfo{Major: d.info.Major, Minor: d.info.Minor, MaxRecordBytes: d.spec.Longest, MaxElements: d.spec.Elements}
	for _, c := range d.table.Columns {
		if !slices.ContainsFunc(d.spec.Fields, func(f mappedField) bool { return f.Column && f.Name == c.Name }) {
			g.Absent = append(g.Absent, c.Name)
		}
	}
	return g
}
