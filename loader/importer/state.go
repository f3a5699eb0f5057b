package importer

import (
	"errors"
	"fmt"
	"time"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/importer/serve"
	"bulkload/loader/importer/virtual"
)

// A State is what the record of a load keeps of its IMPORT.
type State struct {
	Mode    Mode           `json:"mode"`
	Format  virtual.Format `json:"format"`
	Streams int            `json:"streams"`
	// Files, of files that are there already, are their URLs without queries, which
	// hold what gives access; Once says that there were some.
	Files []string `json:"files,omitempty"`
	Once  bool     `json:"once,omitempty"`
	// Batch is the number of positions of one job.
	Batch int64 `json:"group"`
	// Valid are the constraints that were validated before.
	Valid []string `json:"valid,omitempty"`
	// Skip is the number of records in front of the data, in files of CSV that the
	// server reads as they are.
	Skip int `json:"skip,omitempty"`
	// WasEmpty says that the table was, so that all of its rows are the load's.
	WasEmpty bool `json:"was_empty,omitempty"`
	// Differs says, for people, why the rows of a job that has succeeded are not those of
	// the load. They are in, and no run can change that.
	Differs string `json:"differs,omitempty"`
	// Of the job that was begun last: what its description holds, the server's time
	// before it, and what it loads; and where its files are served.
	Tag   string    `json:"tag,omitempty"`
	Began time.Time `json:"began,omitzero"`
	// Known are earlier jobs of the same files, which have ended.
	Known  []int64       `json:"known,omitempty"`
	Range  chunker.Range `json:"range,omitzero"`
	Addr   string        `json:"addr,omitempty"`
	Secret serve.Secret  `json:"secret,omitempty"`
}

// ErrDiffers: the rows of a job that has succeeded are not those of the load, and no run can
// change that.
var ErrDiffers = errors.New("the rows differ")

// differsError is the error of State.Differs.
type differsError struct{ why string }

func (e *differsError) Error() string   { return fmt.Sprintf("%v: %s", loader.ErrUnconfirmed, e.why) }
func (e *differsError) Unwrap() []error { return []error{loader.ErrUnconfirmed, ErrDiffers} }

// Err returns the error of a load whose rows are not those that the server has read, or nil.
func (s *State) Err() error {
	if s == nil || s.Differs == "" {
		return nil
	}
	return &differsError{s.Differs}
}

// MinUploads is the least number of files that are uploaded at once.
const MinUploads = 2
