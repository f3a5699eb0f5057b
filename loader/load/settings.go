package load

import (
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/files"
	"bulkload/loader/importer"
)

// Import is the method of loads that are handed off to the server's IMPORT INTO.
const Import commit.Method = "import"

// Settings say how one run loads rows. They may differ between the runs of a load; what it
// holds never depends on them. New and Resume read them in the steps of the opening, and
// nothing changes them.
type Settings struct {
	Chunk            int64         // rows per chunk; zero is automatic
	Workers          int           // chunks in flight; zero is automatic
	Method           commit.Method // empty is automatic
	CommitMode       commit.Mode   // empty is automatic, or that of the load that is resumed
	ChunkTimeout     time.Duration
	RetryFor         time.Duration
	Note             func(string) // see commit.Options.Note
	Observe          func(loader.Event)
	Stop             <-chan struct{}
	StaleAfter       time.Duration // see registry.Registry; zero is its default
	SkipVerification bool          // see commit.Options.SkipVerification
	// Rate is the maximum of rows per second; zero is no maximum. InOrder lets workers
	// take neighbouring spans on every server.
	Rate    float64
	InOrder bool
	// ImportOptions says how the rows of a load by IMPORT reach the server.
	ImportOptions importer.Options
	// Detail lets an error quote the row that it is about.
	Detail bool
	// Input opens the files of a load that is resumed. AnyTime accepts a file of which only
	// the time differs.
	Input   *files.Input
	AnyTime bool
	// Mend goes on with a file that was changed, if all that is in of the load stands in it as
	// it was.
	Mend bool
}

// A Request asks for a new load.
type Request struct {
	Dataset    dataset.Dataset
	Table      string  // empty is the dataset's own
	NoRegistry bool    // keep no record: no resume, nothing to verify
	Indexes    Indexes // what becomes of secondary indexes; empty keeps them
	// Once refuses a load of files into a table for which there is an unfinished load of one of
	// them, with rows in it.
	Once bool
	Settings
}

// Indexes says what becomes of the table's secondary indexes during a load.
type Indexes string

// The choices.
const (
	KeepIndexes  Indexes = "keep"
	DeferIndexes Indexes = "defer" // dropped before the first row, made again after the last
)

// A TableError says that the target does not fit the load. Nothing was written.
type TableError = dataset.TableError

// A ResumeError says why a load that was begun cannot go on, and what can be done.
type ResumeError = dataset.ResumeError

// Defaults of the number of workers. A server on this machine shares the processors with the
// loader: in measurements more than 2 to 4 workers gained nothing. An ordinary user cannot ask
// another machine for its processors, and each worker also waits for the network. A longer run
// tries more workers by itself.
const (
	minWorkers    = 2
	nearWorkers   = 4  // at most to begin with on a server of this machine
	farWorkers    = 4  // to begin with elsewhere
	maxWorkers    = 16 // that a run tries by itself
	pooledWorkers = 64 // sessions that there may be where the user names no number
)

// A WorkerCount is the number of workers of a run, and why.
type WorkerCount struct {
	Start, Max int // to begin with; that the run may try
	Why        string
}

// extraSessions are those beside the workers': for claims and checkpoints.
const extraSessions = 2

// sessions returns the maximum of sessions of the run's pool. It is known before the registry is
// read.
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

// note tells the user something.
func (s *Settings) note(text string) {
	if s.Note != nil {
		s.Note(text)
	}
}
