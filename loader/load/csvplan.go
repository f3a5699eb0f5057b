package load

import (
	"context"
	"fmt"
	"slices"

	"bulkload/chunker"
	"bulkload/loader/commit"
	"bulkload/loader/files"
	"bulkload/loader/server"
)

// keysCSV returns the primary key where the files bring all of it.
func (l *Load) keysCSV() []string {
	for _, k := range l.Table.Primary {
		if !slices.ContainsFunc(l.spec.CSV.Fields, func(f csvField) bool { return f.Column && f.Name == k }) {
			return nil
		}
	}
	return l.Table.Primary
}

// chooseCSV is choose for files.
func (l *Load) chooseCSV(ctx context.Context, s Settings) error {
	c := l.spec.CSV
	name := l.Table.Display()
	if l.Way == "" {
		l.Way = commit.Transaction
	}
	if l.Via == "" {
		l.Via = commit.Insert
		if l.srv.Product == server.PostgreSQL && c.Set == nil && c.Conflict == "" {
			l.Via = commit.Copy
		}
	}
	if bad := l.unescaped(); bad != nil && l.Via == commit.Copy {
		return &TableError{fmt.Sprintf("--via copy cannot carry column %s: CockroachDB's COPY does not undo the escapes of %s; use --via insert", bad.Name, bad.SQLType)}
	}
	switch {
	case l.Via == commit.Copy && (c.Set != nil || c.Conflict != ""):
		return &TableError{"--via copy can neither compute columns (--set) nor pass over rows (--on-conflict); use --via insert"}
	case c.Conflict != "" && l.keysCSV() == nil:
		return &TableError{fmt.Sprintf("--on-conflict %s needs the whole primary key of %s in the file", c.Conflict, name)}
	case l.Way != commit.Statement:
	case l.recalledWay && (c.Conflict != "" || !c.MaxErrors.none() || l.unsure() != ""):
		l.Way = commit.Transaction
	case c.Conflict != "" || !c.MaxErrors.none():
		return &TableError{"--on-conflict and --max-errors need --commit transaction"}
	default:
		why := l.unsure()
		if why == "" {
			var err error
			if why, err = l.unsureKeys(ctx, s); err != nil {
				return err
			}
		}
		if why != "" {
			if l.spec.Way != "" { // the load was begun
				return &ResumeError{fmt.Sprintf("load %s: --commit statement %s; loads forget %s, remove its rows, and load again with --commit transaction", l.ID, why, l.ID)}
			}
			return &TableError{"--commit statement " + why + "; use --commit transaction"}
		}
	}
	if l.spec.Way == "" {
		if err := l.pool.QueryRow(ctx, commit.Stamp(l.srv.Product)).Scan(&c.Began); err != nil {
			return fmt.Errorf("ask the server for the time: %w", err)
		}
	}
	if l.ordered() && s.Workers > 1 {
		l.Notes = append(l.Notes, fmt.Sprintf("one worker, not %d: with --on-conflict %s chunks are committed in the order of the input", s.Workers, c.Conflict))
	}
	if len(c.Set) > 0 {
		if err := l.checkStatement(ctx, s); err != nil {
			return err
		}
	}
	return l.plan(ctx, s.Chunk)
}

// undefinedTable is the SQLSTATE of a table that is not there.
const undefinedTable = "42P01"

// checkStatement has the server look at the statement that computes columns, before the
// first row.
func (l *Load) checkStatement(ctx context.Context, s Settings) error {
	ctx, cancel := context.WithTimeout(ctx, server.ConnectTimeout)
	defer cancel()
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	_, err = conn.Conn().PgConn().Prepare(ctx, "", commit.Compose(l.optionsCSV(s), l.srv.Product), nil)
	if err == nil || server.Code(err) == undefinedTable {
		return nil // for a plan, the table is still to be made
	}
	switch server.Classify(err) {
	case server.Permanent, server.Data:
		return &TableError{"--set: " + server.Reason(err)}
	}
	return nil // what else there may be, the load meets
}

// costCSV is what a row of the files adds to a chunk.
func (l *Load) costCSV(cost chunker.Cost) chunker.Cost {
	cost.MessageBytes = 4 * int64(len(l.csv.Cols))
	cost.MessagePerByte = 1
	cost.FixedParameters = int64(len(l.csv.Cols))
	if l.Via == commit.Copy {
		cost.MessagePerByte, cost.FixedParameters = 2, 0 // each byte may be escaped
	}
	cost.FixedMessageBytes = fixedMessageBytes
	return cost
}

// Bytes of a chunk whose text goes to PostgreSQL as it is: measured on 15, larger ones
// spare commits, and more than these gain nothing. They end one record beyond this, and
// are as large as a record may be at most: what is larger is parsed, to see whether a
// record is. Where bad rows are searched for, and where text is parsed,
// files.DefaultSpanBytes is better.
const rawSpanBytes = files.DefaultMaxRecordBytes - 128<<10

// takesRaw reports whether chunks will go to the server as they are in the files, and
// whole: with no row to be searched for.
func (l *Load) takesRaw() bool {
	c := l.spec.CSV
	return l.srv.Product == server.PostgreSQL && l.Via == commit.Copy && c.Dialect.Quote != 0 && c.wholeRecords() && c.MaxErrors.none()
}

// preferredCSV returns the bytes of a chunk where no limit is near: fewer for files that
// would not give each worker some.
func (l *Load) preferredCSV() int64 {
	if !l.takesRaw() || l.Rows == 0 {
		return files.DefaultSpanBytes
	}
	const chunksEach = 4
	return min(max(l.Positions/(chunksEach*leastWorkers), files.DefaultSpanBytes), rawSpanBytes)
}

// fitSpans bounds the bytes of a span, so that every limit holds whatever the length of
// its records: the plan's rows are for those at the beginning of the files.
func (l *Load) fitSpans() {
	size := l.preferredCSV()
	for _, limit := range l.Plan.Limits {
		perByte := l.Plan.Cost.Use(limit.Unit, 1, 1) - l.Plan.Cost.Use(limit.Unit, 1, 0)
		if limit.Max <= 0 || perByte <= 0 {
			continue
		}
		left := limit.Max - l.Plan.Cost.Use(limit.Unit, max(l.Plan.RowsPerChunk, l.mostRows()), 0)
		size = min(size, max(left/perByte, 1))
	}
	l.csv.SpanBytes, l.csv.SpanRows = int(size), l.Plan.RowsPerChunk
}
