package load

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/importer"
	"bulkload/loader/indexes"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// A spec is the recorded specification of a load, without its dataset's part.
type spec struct {
	Table      []string    `json:"table"`
	CommitMode commit.Mode `json:"way"`
	// InOrder says that the user asked for the order of the input.
	InOrder bool `json:"in_order,omitempty"`
	// Unique are the deferred unique indexes, to name duplicates.
	Unique []indexes.Unique `json:"unique,omitempty"`
	// Made is the OID of the table that the load created; zero: the table existed.
	Made  uint32 `json:"made,omitempty"`
	Empty bool   `json:"empty,omitempty"` // the table was empty when the load began
	// Truncate says whether the table is to be emptied; empty: nobody asked.
	Truncate truncation `json:"truncate,omitempty"`
	// Replace says which table is to be replaced by Table; nil: none.
	Replace *replacement `json:"replace,omitempty"`
	importer.Kept
	// Identity identifies the table; nil in a record of an older version.
	Identity *identity `json:"identity,omitempty"`
	// Session are the session settings that decide the meaning of texts, from the load's first
	// run; nil in a record of an older version.
	Session map[string]string `json:"session,omitempty"`
}

// An identity is the recorded identity of the table. It keeps a resume from taking another
// table, or the same table without its rows, for the loaded one.
type identity struct {
	OID     uint32 `json:"oid"`
	Storage string `json:"storage,omitempty"` // see server.Identity
	Marker  string `json:"marker,omitempty"`  // of UNLOGGED tables: see registry.Marker
	Version int64  `json:"version,omitempty"` // of a load that looks rows up: see server.Table
}

func (i *identity) marker() string {
	if i == nil {
		return ""
	}
	return i.Marker
}

func (i *identity) version() int64 {
	if i == nil {
		return 0
	}
	return i.Version
}

// A record is one run's view of the load's record in the registry. registry is nil if the load
// has no record.
type record struct {
	load, run string // their ids
	registry  *registry.Registry
	spec      spec
	text      json.RawMessage // the specification as stored in the registry
	was       registry.Load   // of a resumed load: the record as first read
	dataset   dataset.Dataset // owns a part of the specification
	// running says that the run has begun: the registry then checks new sessions.
	running atomic.Bool
}

// exists reports whether the registry has a record of the load.
func (r *record) exists() bool { return r.registry != nil }

// read reads the specification of a recorded load.
func (r *record) read(text json.RawMessage) error {
	r.text = text
	if err := json.Unmarshal(text, &r.spec); err != nil {
		return fmt.Errorf("load %s: its specification is of another version of loader: %w", r.load, err)
	}
	return nil
}

// encode returns the specification: one JSON object with the parts of the load and of its
// dataset.
func (r *record) encode() (json.RawMessage, error) {
	own, err := json.Marshal(r.spec)
	if err != nil {
		return nil, fmt.Errorf("write the load's specification: %w", err)
	}
	rows, err := r.dataset.Record()
	if err != nil {
		return nil, fmt.Errorf("write the load's specification: %w", err)
	}
	all := map[string]json.RawMessage{}
	for _, part := range []json.RawMessage{own, rows} {
		if err := json.Unmarshal(part, &all); err != nil {
			return nil, fmt.Errorf("write the load's specification: %w", err)
		}
	}
	return json.Marshal(all)
}

// replace records the present specification, unless another run has changed it first.
func (r *record) replace(ctx context.Context) error {
	text, err := r.encode()
	if err != nil {
		return err
	}
	return r.registry.ReplaceSpec(ctx, r.load, r.text, text)
}

// Save implements importer.Record.
func (r *record) Save(ctx context.Context, s *importer.State) error {
	r.spec.Import = s
	text, err := r.encode()
	if err != nil {
		return err
	}
	return r.registry.SetSpec(ctx, r.load, r.run, text)
}

// SetJob implements importer.Record.
func (r *record) SetJob(ctx context.Context, id int64) error {
	return r.registry.SetJob(ctx, r.load, r.run, id)
}

// askAdmission returns a query that refuses a new session of a fenced run: another run took
// over its leases while its process was suspended. A run that has not begun has no leases to
// lose.
func (r *record) askAdmission() string {
	if !r.running.Load() {
		return ""
	}
	return r.registry.AskAdmission(r.load, r.run)
}

func (r *record) admitted(_ *pgx.Conn, rows [][][]byte) error {
	return registry.Admitted(r.load, r.run, rows)
}

// deferral returns the load's deferred indexes.
func (r *record) deferral(srv *server.Server, pool *pgxpool.Pool) *indexes.Deferral {
	return &indexes.Deferral{ID: r.load, Server: srv, DB: pool, Registry: r.registry, Table: r.spec.Table, Unique: r.spec.Unique}
}
