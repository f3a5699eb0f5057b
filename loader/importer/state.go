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
	// Files are the URLs of files of Mode URLs, without their queries, which may hold
	// credentials. Once says that a URL had a query.
	Files []string `json:"files,omitempty"`
	Once  bool     `json:"once,omitempty"`
	// Batch is the number of positions of one job.
	Batch int64 `json:"group"`
	// Valid are the constraints that were valid before the load.
	Valid []string `json:"valid,omitempty"`
	// Skip is the number of records before the data, in CSV files of Mode URLs.
	Skip int `json:"skip,omitempty"`
	// WasEmpty says that the table was empty, so that all of its rows are the load's.
	WasEmpty bool `json:"was_empty,omitempty"`
	// Differs, when not empty, describes how the rows of a successful job differ from those of the
	// load. The rows are in the table, and no run can change that.
	Differs string `json:"differs,omitempty"`
	// Tag, Began, Range, Addr and Secret belong to the newest job: a text in its description, the
	// server's time before its start, its positions, and the address and key of its served files.
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

// Err returns an error if Differs is set, else nil.
func (s *State) Err() error {
	if s == nil || s.Differs == "" {
		return nil
	}
	return &differsError{s.Differs}
}

// minUploads is the minimum number of files uploaded at once.
const minUploads = 2
