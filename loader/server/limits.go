package server

import (
	"context"
	"fmt"
	"strconv"

	"bulkload/chunker"
)

// OnePhase names the limit below which one INSERT commits in one phase.
const OnePhase = "the one-phase commit limit"

// onePhaseKVs is the number of key-value pairs from which on a single statement's
// transaction needs two phases: measured on 21.1; it is the row batcher's size
// (pkg/sql/row, maxBatchSize) of v21.1.
const onePhaseKVs = 10_000

// CockroachLimits returns what bounds one chunk on CockroachDB. intents is
// IntentLimit's.
func CockroachLimits(info Info, intents chunker.Limit) chunker.Limits {
	return chunker.Limits{
		{
			Unit: chunker.KVs, Max: onePhaseKVs - 1, Name: OnePhase, From: "measured on 21.1", Advice: true,
			Cost: "the server then writes intents and commits in two phases, at about half the rate",
		},
		intents,
		{
			Unit: chunker.MessageBytes, Max: 16 << 20, Name: "sql.conn.max_read_buffer_message_size", From: "default",
		},
		{
			Unit: chunker.MessageBytes, Max: 32 << 20, Name: "kv.raft.command.max_size", From: "half of the default, for keys and overhead",
		},
	}
}

// PostgresLimits returns what bounds one chunk on PostgreSQL: one message and one
// array are at most 1 GB (MaxAllocSize, src/include/utils/memutils.h).
func PostgresLimits() chunker.Limits {
	return chunker.Limits{{Unit: chunker.MessageBytes, Max: 1<<30 - 1<<20, Name: "the largest message", From: "MaxAllocSize"}}
}

// IntentSetting is the cluster setting that bounds the keys a transaction may hold
// before its coordinator condenses them.
const IntentSetting = "kv.transaction.max_intents_bytes"

// IntentLimit reads IntentSetting; where the user may not, it takes the version's
// default and says so. The server condenses from the value on, so a chunk may hold
// one byte less.
func IntentLimit(ctx context.Context, db Querier, info Info) chunker.Limit {
	l := chunker.Limit{Unit: chunker.IntentBytes, Name: IntentSetting}
	var text string
	err := db.QueryRow(ctx, "SHOW CLUSTER SETTING "+IntentSetting).Scan(&text)
	value, parseErr := strconv.ParseInt(text, 10, 64)
	if err == nil && parseErr == nil {
		l.Max, l.From = value-1, "read from the server"
		return l
	}
	switch {
	case info.AtLeast(21, 2, 0):
		l.Max = 4_194_304 - 1
	case info.AtLeast(19, 1, 0):
		l.Max = 262_144 - 1
	default:
		l.Max = 256_000 - 1
	}
	l.From = fmt.Sprintf("default of %d.%d; the user may not read it", info.Major, info.Minor)
	return l
}
