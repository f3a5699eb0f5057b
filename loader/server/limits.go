package server

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"bulkload/chunker"
)

// Names of limits that callers look for.
const (
	// OnePhase names the limit below which one INSERT commits in one phase.
	OnePhase = "the one-phase commit limit"
	// IntentSetting is the cluster setting that bounds the bytes of keys a transaction may
	// track before its coordinator condenses them.
	IntentSetting = "kv.transaction.max_intents_bytes"
)

// Other settings that bound a chunk.
const (
	rejectSetting  = "kv.transaction.reject_over_max_intents_budget.enabled" // 21.1.7, 21.2 on
	countSetting   = "kv.transaction.max_intents_and_locks"                  // 24.2.8 on
	batchSetting   = "sql.mutations.mutation_batch_byte_size"                // 21.2 on
	messageSetting = "sql.conn.max_read_buffer_message_size"
	raftSetting    = "kv.raft.command.max_size"
	rowsSetting    = "transaction_rows_written_err" // 21.2 on; session setting
)

// onePhaseRows is the number of rows at which an INSERT sends its first batch without the
// commit: productionMaxBatchSize of pkg/sql/mutations of v21.1.5, and currentBatchSize of
// pkg/sql/tablewriter.go, which counts rows, not key-value pairs. Measured on 21.1.5 with two
// secondary indexes: 9 999 rows (29 997 pairs) commit in one phase (metric txn.commits1PC), 10
// 000 do not. 26.1 behaves the same, except that its transactions with buffered writes commit
// in one phase at any number of rows.
const onePhaseRows = 10_000

// RaiseNote is the answer to a user who wants to raise IntentSetting.
const RaiseNote = IntentSetting + " need not be raised for a load: CockroachDB advises against changing it without their support " +
	"(each transaction's coordinator keeps that much in memory), and smaller chunks usually cost nothing: " +
	"the rate is flat from about 2,000 rows to the one-phase limit"

// Limits returns the limits of one chunk on the server. A limit that the user may not read
// gets the version's default, and its Origin says so. Limits asks in one round trip and never
// fails.
func Limits(ctx context.Context, db Querier, info Info) chunker.Limits {
	parameters := chunker.Limit{Unit: chunker.Parameters, Max: 1<<16 - 1, Name: "bind parameters", Origin: "wire protocol: Bind counts them in 16 bits"}
	if info.Product == PostgreSQL {
		return chunker.Limits{
			// One array can have at most MaxAllocSize bytes (src/include/utils/memutils.h),
			// and so can every message except COPY data (PQ_LARGE_MESSAGE_LIMIT,
			// src/include/libpq/libpq.h). The message is a little larger than the array.
			{Unit: chunker.MessageBytes, Max: 1<<30 - 1<<20, Name: "the largest message", Origin: "PostgreSQL's MaxAllocSize, 1 GB", Cost: "the server closes the connection"},
			parameters,
		}
	}
	s := readSettings(ctx, db, info)
	measured := "21.1"
	if info.AtLeast(22, 2, 0) {
		measured = "26.1"
	}
	limits := chunker.Limits{
		{
			Unit: chunker.Rows, Max: onePhaseRows - 1, Name: OnePhase, Origin: "CockroachDB's batch of 10,000 rows; measured on " + measured, Soft: true,
			Cost: "the server then writes intents and commits in two phases, at about half the rate",
		},
	}
	if info.AtLeast(21, 2, 0) {
		l := s.number(batchSetting, 4<<20)
		l.Max-- // the server sends a batch when it reaches the value
		l.Unit, l.Soft, l.Cost = chunker.WriteBytes, true, "the statement is then sent in several batches and commits in two phases"
		limits = append(limits, l)
	}
	limits = append(limits, s.intents())
	if info.AtLeast(24, 2, 8) {
		if l := s.number(countSetting, 0); l.Max > 0 {
			l.Unit, l.Cost = chunker.KVs, "the server rejects the transaction (SQLSTATE 53400)"
			limits = append(limits, l)
		}
	}
	message := s.number(messageSetting, 16<<20)
	message.Unit, message.Cost = chunker.MessageBytes, "the server refuses the message (SQLSTATE 08P01)"
	raft := s.number(raftSetting, 64<<20)
	raft.Unit, raft.Cost = chunker.WriteBytes, `the server answers "command is too large"`
	// Half of it: the size of the rows in a command is only an estimate.
	raft.Max /= 2
	raft.Origin += ", half of it for the overhead around keys and values"
	limits = append(limits, parameters, message, raft)
	if info.AtLeast(21, 2, 0) {
		if l := s.number(rowsSetting, 0); l.Max > 1 {
			l.Max-- // one row is the ledger's
			l.Unit, l.Cost = chunker.Rows, "the server rejects the transaction"
			limits = append(limits, l)
		}
	}
	return limits
}

// settings are settings of a CockroachDB server, as it prints them. What cannot be read is not
// among the texts.
type settings struct {
	info  Info
	texts map[string]string
}

// readSettings reads what Limits asks for, each setting as its own query: a version may not know
// some of them.
func readSettings(ctx context.Context, db Querier, info Info) settings {
	s := settings{info, map[string]string{}}
	var readers []func(context.Context, Querier) error
	read := func(name, query string) {
		readers = append(readers, func(ctx context.Context, db Querier) error {
			if text, err := showOne(ctx, db, query); err == nil {
				s.texts[name] = text
			}
			return nil
		})
	}
	for _, name := range []string{rejectSetting, countSetting, batchSetting, messageSetting, raftSetting, IntentSetting} {
		read(name, "SHOW CLUSTER SETTING "+name)
	}
	read(rowsSetting, "SHOW "+rowsSetting)
	Together(ctx, db, readers...)
	return s
}

// showOne returns the only value of a query as the server prints it.
func showOne(ctx context.Context, db Querier, query string) (string, error) {
	rows, err := db.Query(ctx, query)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	if !rows.Next() {
		return "", rows.Err()
	}
	values, err := rows.Values()
	if err != nil || len(values) != 1 {
		return "", err
	}
	return fmt.Sprint(values[0]), nil
}

// limit makes a limit from a value printed by the server, or from the default if text does not
// parse.
func (s settings) limit(name, text string, byDefault int64) chunker.Limit {
	if n, ok := parseBytes(text); ok {
		return chunker.Limit{Name: name, Max: n, Origin: "read from the server"}
	}
	return chunker.Limit{Name: name, Max: byDefault, Origin: fmt.Sprintf("default of %d.%d; this user may not read it", s.info.Major, s.info.Minor)}
}

func (s settings) number(name string, byDefault int64) chunker.Limit {
	return s.limit(name, s.texts[name], byDefault)
}

// intents returns the limit on the bytes of keys. The server condenses once the bytes reach
// the setting (maybeCondense of pkg/kv/kvclient/kvcoord/condensable_span_set.go leaves bytes <
// maxBytes alone), so a chunk may hold one byte less.
func (s settings) intents() chunker.Limit {
	byDefault := int64(256_000)
	switch {
	case s.info.AtLeast(21, 2, 0):
		byDefault = 4_194_304
	case s.info.AtLeast(19, 1, 0):
		byDefault = 262_144
	}
	l := s.number(IntentSetting, byDefault)
	l.Unit, l.Max = chunker.IntentBytes, l.Max-1
	l.Cost = "the server condenses the transaction's locks to ranges, and cleaning them up gets slow"
	if s.info.AtLeast(21, 1, 7) && isOn(s.texts[rejectSetting]) {
		l.Cost = "the server rejects the transaction (SQLSTATE 53400), as " + rejectSetting + " is on"
	}
	return l
}

func isOn(text string) bool { return text == "true" || text == "t" || text == "on" }

// parseBytes parses a number, or a size as CockroachDB prints it: "16 MiB". The server prints
// two or three digits, so a size that is not round is off by some percent.
func parseBytes(text string) (int64, bool) {
	number, unit, _ := strings.Cut(strings.TrimSpace(text), " ")
	scale, ok := map[string]float64{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}[unit]
	if !ok {
		return 0, false
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && n >= 0 && scale == 1 {
		return n, true
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f < 0 || f*scale > 1<<62 {
		return 0, false
	}
	return int64(f * scale), true
}
