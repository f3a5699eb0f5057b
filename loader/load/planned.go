package load

import (
	"context"
	"fmt"
	"slices"

	"bulkload/chunker"
	"bulkload/chunker/keysize"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/registry"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// choose sets the way and the carrier, and the plan.
func (l *Load) choose(ctx context.Context, s Settings) error {
	cockroach := l.srv.Product == server.CockroachDB
	l.Way, l.Via = s.Way, s.Via
	if l.What == CSV {
		return l.chooseCSV(ctx, s)
	}
	if l.Way == "" {
		l.Way = commit.Transaction
		if l.What == Points && cockroach {
			l.Way = commit.Statement
		}
	}
	if l.Way == commit.Statement {
		switch {
		case l.What == Accounts:
			return &TableError{"accounts cannot be loaded by --commit statement: an id that is taken is drawn again, which needs a transaction"}
		case l.Table.Deferrable:
			return &TableError{fmt.Sprintf("the primary key of %s is deferrable; use --commit transaction", l.Table.Name.Sanitize())}
		}
	}
	if l.Via == "" {
		l.Via = commit.Copy
		if cockroach {
			l.Via = commit.Insert
		}
	}
	return l.plan(ctx, s.Chunk)
}

// postgresRows is the number of rows of a chunk on PostgreSQL, where no limit is near:
// measured on 15, the rate is flat from 20 000 rows on.
const postgresRows = 20_000

// plan makes the plan for chunks of the given number of rows; zero is automatic.
func (l *Load) plan(ctx context.Context, chunk int64) error {
	limits := l.limits(ctx)
	if l.srv.Product == server.CockroachDB && l.Way == commit.Transaction {
		limits = limits.Except(server.OnePhase)
	}
	if chunk == 0 && l.tuned.Origin == registry.ByBench {
		chunk = l.tuned.Chunk // measured, so that no advice is above it
	}
	var err error
	if l.Plan, err = chunker.MakePlan(l.Rows, chunk, l.preferred(), l.rowBytes(), l.cost(l.Table.Keys), limits); err != nil {
		return &TableError{err.Error()}
	}
	if l.What == CSV {
		l.fitSpans()
	}
	return nil
}

// rowBytes is the length of a record; zero where rows are generated.
func (l *Load) rowBytes() int64 {
	if l.What == CSV {
		return l.spec.CSV.RowBytes
	}
	return 0
}

// preferred returns the rows of a chunk where no limit is near.
func (l *Load) preferred() int64 {
	if l.tuned.Chunk > 0 {
		return l.tuned.Chunk
	}
	return l.untuned()
}

// untuned is preferred before anything was found out about the table.
func (l *Load) untuned() int64 {
	switch {
	case l.What == CSV && l.takesRaw():
		return max(l.preferredCSV()/max(l.rowBytes(), 1), postgresRows)
	case l.srv.Product == server.PostgreSQL:
		return postgresRows
	}
	return chunker.DefaultRowsPerChunk
}

// given is what is known of the rows.
func (l *Load) given() keysize.RowInfo {
	if l.What == CSV {
		// Longer records may follow than those that were looked at, and with more
		// elements. They make keys larger than planned only in inverted indexes.
		g := keysize.RowInfo{Major: l.srv.Major, Minor: l.srv.Minor, MaxRecordBytes: l.spec.CSV.Longest, MaxElements: l.spec.CSV.Elements}
		for _, c := range l.Table.Columns {
			if !slices.ContainsFunc(l.spec.CSV.Fields, func(f csvField) bool { return f.Column && f.Name == c.Name }) {
				g.Absent = append(g.Absent, c.Name)
			}
		}
		return g
	}
	return keysize.RowInfo{Major: l.srv.Major, Minor: l.srv.Minor, Ints: map[string]keysize.IntRange{"id": l.ids()}}
}

// cost returns what a row adds to a chunk, with the given indexes.
func (l *Load) cost(keys keysize.Schema) chunker.Cost {
	cost := keys.Cost(l.given())
	if l.What == CSV {
		return l.costCSV(cost)
	}
	cost.MessageBytes = messageBytes(columnsOf(l.What), l.Via)
	cost.FixedMessageBytes = fixedMessageBytes
	if l.Via == commit.Insert {
		cost.FixedParameters = int64(len(columnsOf(l.What)))
	}
	return cost
}

// fixedMessageBytes bounds what a message holds beside the rows: the statement and the
// heads of the arrays.
const fixedMessageBytes = 1024

// limits reads the server's limits, as far as the user may.
func (l *Load) limits(ctx context.Context) chunker.Limits {
	ctx, cancel := context.WithTimeout(ctx, server.ConnectTimeout)
	defer cancel()
	return server.Limits(ctx, l.pool, l.srv.Info)
}

// ids returns the range of the key column's values of this load.
func (l *Load) ids() keysize.IntRange {
	if l.What == Accounts {
		return keysize.IntRange{First: 0, Last: dataset.AccountIDs - 1}
	}
	return keysize.IntRange{First: l.Keys.First, Last: l.Keys.End - 1}
}

// messageBytes returns the bytes of one row on the wire: length and value of each
// column, and for COPY the number of columns.
func messageBytes(columns []rows.Column, via commit.Via) int64 {
	n := int64(len(columns)) * (4 + 8)
	if via == commit.Copy {
		n += 2
	}
	return n
}
