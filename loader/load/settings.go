package load

import (
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/files"
	"bulkload/loader/importer"
)

// Import is the method of loads by the server's IMPORT INTO.
const Import commit.Method = "import"

// Settings say how one run loads rows. They may differ between the runs of a load; the loaded
// rows never depend on them. New and Resume read them in the steps of the opening; nothing
// changes them.
type Settings struct {
	Chunk            int64         // rows per chunk; zero is automatic
	Workers          int           // chunks in flight; zero is automatic
	Method           commit.Method // empty is automatic
	CommitMode       commit.Mode   // empty is automatic, or the mode of the resumed load
	ChunkTimeout     time.Duration
	RetryFor         time.Duration
	Note             func(string) // see commit.Options.Note
	Observe          func(loader.Event)
	Stop             <-chan struct{}
	StaleAfter       time.Duration // see registry.Registry; zero is its default
	SkipVerification bool          // see commit.Options.SkipVerification
	// Rate is the maximum number of rows per second; zero is no maximum. InOrder lets workers
	// take neighbouring spans on every server.
	Rate    float64
	InOrder bool
	// ImportOptions says how the rows of a load by IMPORT reach the server.
	ImportOptions importer.Options
	// Detail lets an error quote the row it concerns.
	Detail bool
	// Input opens the files of a resumed load. AnyTime accepts a file that differs only in its
	// time.
	Input   *files.Input
	AnyTime bool
	// Mend resumes with a changed file, if the file still has all committed chunks unchanged.
	Mend bool
}

// A Request asks for a new load.
type Request struct {
	Dataset    dataset.Dataset
	Table      string  // empty is the dataset's own table
	NoRegistry bool    // keep no record: no resume, nothing to verify
	Indexes    Indexes // the treatment of secondary indexes; empty keeps them
	// Once refuses a load of a file into a table if an unfinished load of the same file has
	// rows in that table.
	Once bool
	// Truncate empties the table before the first row. It needs a record, and no IMPORT.
	Truncate bool
	// Replace loads into a new table like the target, which takes the target's place after the
	// last row, or an error says what it could not keep. It needs a record, and PostgreSQL.
	Replace bool
	Settings
}

// Indexes is the treatment of the table's secondary indexes during a load.
type Indexes string

// The treatments of secondary indexes.
const (
	KeepIndexes  Indexes = "keep"
	DeferIndexes Indexes = "defer" // dropped before the first row, created again after the last
)

// A TableError reports a target that does not fit the load. Nothing was written.
type TableError = dataset.TableError

// A ResumeError says why a load cannot be resumed, and how to proceed.
type ResumeError = dataset.ResumeError

// Defaults of the number of workers. A server on this machine shares the processors with the
// loader: in measurements more than 2 to 4 workers gained nothing. An ordinary user cannot
// query another machine's number of processors, and each worker also waits for the network. A
// longer run tries more workers by itself.
const (
	minWorkers    = 2
	nearWorkers   = 4  // initial maximum for a server on this machine
	farWorkers    = 4  // initial number for other servers
	maxWorkers    = 16 // maximum that a run tries by itself
	pooledWorkers = 64 // maximum of sessions if the user names no number of workers
)

// A WorkerCount is the number of workers of a run, with its reason.
type WorkerCount struct {
	Start, Max int // initial number; maximum that the run may try
	Why        string
}

// extraSessions is the number of sessions for leases and checkpoints, beside the workers'.
const extraSessions = 2

// sessions returns the maximum number of sessions in the run's pool. It must be known before
// the registry is read.
func (s *Settings) sessions() int {
	if s.Workers > 0 {
		return s.Workers + extraSessions
	}
	return pooledWorkers + extraSessions
}

// attemptTimeout bounds one attempt at a chunk.
func (s *Settings) attemptTimeout() time.Duration {
	if s.ChunkTimeout > 0 {
		return s.ChunkTimeout
	}
	return commit.DefaultChunkTimeout
}

// retryFor bounds all attempts at a chunk.
func (s *Settings) retryFor() time.Duration {
	if s.RetryFor > 0 {
		return s.RetryFor
	}
	return commit.DefaultRetryFor
}

// note sends a message to the user.
func (s *Settings) note(text string) {
	if s.Note != nil {
		s.Note(text)
	}
}
