package registry

// Schema is the schema that holds the registry's tables.
const Schema = "loader"

// Version is the registry version that this package creates and writes.
const Version = 5

// tables are the registry's tables as a new registry has them. Positions are row numbers or
// byte offsets; lo is inclusive, hi exclusive. The tables are created outside of any load's
// transactions, since DDL commits by itself on CockroachDB from 25.1 on.
var tables = []struct{ name, ddl string }{
	// One row per load. done holds the committed positions outside of leases, as chunker.Ranges
	// writes them. generation counts how often Registry.Move replaced the positions. open holds
	// the positions that a dead run leased and may have sent without recording them, where no
	// ledger tells.
	{"loads", `CREATE TABLE IF NOT EXISTS loader.loads (
		id TEXT NOT NULL PRIMARY KEY,
		created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
		finished_at TIMESTAMPTZ,
		what TEXT NOT NULL,
		target TEXT NOT NULL,
		state TEXT NOT NULL,
		positions BIGINT NOT NULL,
		done TEXT NOT NULL DEFAULT '',
		spec TEXT NOT NULL,
		job BIGINT,
		open TEXT NOT NULL DEFAULT '',
		generation BIGINT NOT NULL DEFAULT 0)`},
	// One row per lease. run never changes: it names the sessions that must end before another
	// run takes the range. successor is NULL as long as run may work. beat is the last
	// heartbeat. announced says that run records each range in loader.sent before it sends it, so
	// that nothing else of the lease was sent.
	{"claims", `CREATE TABLE IF NOT EXISTS loader.claims (
		load TEXT NOT NULL,
		lo BIGINT NOT NULL,
		hi BIGINT NOT NULL,
		run TEXT NOT NULL,
		done TEXT NOT NULL DEFAULT '',
		beat TIMESTAMPTZ NOT NULL DEFAULT now(),
		successor TEXT,
		announced BOOL NOT NULL DEFAULT false,
		PRIMARY KEY (load, lo))`},
	// One row per chunk that CommitMode transaction committed and that lies in a lease. It is
	// written in the transaction of the chunk's rows. hash identifies the input bytes of a
	// file's chunk; records is its number of records.
	{"ledger", `CREATE TABLE IF NOT EXISTS loader.ledger (
		load TEXT NOT NULL,
		lo BIGINT NOT NULL,
		hi BIGINT NOT NULL,
		hash TEXT NOT NULL DEFAULT '',
		records BIGINT NOT NULL DEFAULT 0,
		PRIMARY KEY (load, lo))`},
	// Chunk hashes that came from the ledger, for committed chunks outside of leases. They are
	// kept until the load is done.
	{"ranges", `CREATE TABLE IF NOT EXISTS loader.ranges (
		load TEXT NOT NULL,
		lo BIGINT NOT NULL,
		hi BIGINT NOT NULL,
		hash TEXT NOT NULL,
		records BIGINT NOT NULL,
		PRIMARY KEY (load, lo))`},
	// Ranges that runs without a ledger may have sent, written before the first of their chunks
	// is sent. hash identifies their input bytes; empty is unknown. They are kept until all of
	// the lease is committed, or the load is done.
	{"sent", `CREATE TABLE IF NOT EXISTS loader.sent (
		load TEXT NOT NULL,
		lo BIGINT NOT NULL,
		hi BIGINT NOT NULL,
		hash TEXT NOT NULL,
		PRIMARY KEY (load, lo, hi))`},
	// Rekeyed rows: their generated key belonged to another row, so they have this key instead.
	{"moved", `CREATE TABLE IF NOT EXISTS loader.moved (
		load TEXT NOT NULL,
		row_number BIGINT NOT NULL,
		id BIGINT NOT NULL,
		PRIMARY KEY (load, row_number))`},
	// Secondary indexes that a load has dropped, or is about to drop.
	{"indexes", `CREATE TABLE IF NOT EXISTS loader.indexes (
		load TEXT NOT NULL,
		name TEXT NOT NULL,
		place BIGINT NOT NULL,
		ddl TEXT NOT NULL,
		PRIMARY KEY (load, name))`},
	// Rejected records of a file, written in the transaction of their chunk.
	{"rejects", `CREATE TABLE IF NOT EXISTS loader.rejects (
		load TEXT NOT NULL,
		position BIGINT NOT NULL,
		file TEXT NOT NULL,
		line BIGINT NOT NULL,
		byte BIGINT NOT NULL,
		column_name TEXT NOT NULL,
		code TEXT NOT NULL,
		reason TEXT NOT NULL,
		record BYTEA NOT NULL,
		PRIMARY KEY (load, position))`},
	// The best known settings for loading a table.
	{"tuning", `CREATE TABLE IF NOT EXISTS loader.tuning (
		target TEXT NOT NULL,
		what TEXT NOT NULL,
		chunk BIGINT NOT NULL,
		workers BIGINT NOT NULL,
		via TEXT NOT NULL,
		way TEXT NOT NULL,
		origin TEXT NOT NULL,
		updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
		PRIMARY KEY (target, what))`},
	// One row per run that has had a lease: the user of its sessions, and whether it is fenced.
	// A fenced run may not work: other runs take over its leases, or have done so.
	{"runs", `CREATE TABLE IF NOT EXISTS loader.runs (
		load TEXT NOT NULL,
		run TEXT NOT NULL,
		username TEXT NOT NULL DEFAULT '',
		began_at TIMESTAMPTZ NOT NULL DEFAULT now(),
		fenced BOOL NOT NULL DEFAULT false,
		PRIMARY KEY (load, run))`},
	// Positions with unknown outcome. looked: a lookup found equal rows and counted them as
	// this load's. That must be settled before the load is done.
	{"doubts", `CREATE TABLE IF NOT EXISTS loader.doubts (
		load TEXT NOT NULL,
		lo BIGINT NOT NULL,
		hi BIGINT NOT NULL,
		looked BOOL NOT NULL,
		PRIMARY KEY (load, lo, hi))`},
	// One row per version that the registry has reached.
	{"version", `CREATE TABLE IF NOT EXISTS loader.version (
		number BIGINT NOT NULL PRIMARY KEY,
		upgraded_at TIMESTAMPTZ NOT NULL DEFAULT now())`},
}

// A column is added to a table of an older registry by a step.
type column struct{ table, name, typ string }

// A step upgrades a registry from the previous version to version. Missing tables are created
// before the first step, as listed in tables.
type step struct {
	version int
	columns []column
}

// steps are the upgrades, in order. A registry without a number is of version 0 or 1. A step
// may be interrupted anywhere, and several loaders may run it at once: each of its statements
// is idempotent, and the number is written last.
//
// Note: no lock keeps other loaders out meanwhile. DDL on CockroachDB commits by itself, so a
// lock would end at the first statement.
var steps = []step{
	// Tables that the first registries lack: indexes, tuning, rejects.
	{version: 1},
	// A takeover keeps the run's name until the run's sessions have ended.
	{version: 2, columns: []column{
		{"loads", "open", "TEXT NOT NULL DEFAULT ''"},
		{"claims", "successor", "TEXT"},
	}},
	// Table doubts.
	{version: 3},
	// Table ranges, and the columns for loads of an edited file.
	{version: 4, columns: []column{
		{"ledger", "hash", "TEXT NOT NULL DEFAULT ''"},
		{"ledger", "records", "BIGINT NOT NULL DEFAULT 0"},
		{"loads", "generation", "BIGINT NOT NULL DEFAULT 0"},
	}},
	// Table sent, and the leases that fill it.
	{version: 5, columns: []column{
		{"claims", "announced", "BOOL NOT NULL DEFAULT false"},
	}},
}
