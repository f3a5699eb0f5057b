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

// spec is what the record keeps of a load, beside what the dataset keeps of itself.
type spec struct {
	Table      []string    `json:"table"`
	CommitMode commit.Mode `json:"way"`
	// InOrder says that the user wanted the order of the input.
	InOrder bool `json:"in_order,omitempty"`
	// Unique are the deferred unique indexes, to name duplicates.
	Unique []indexes.Unique `json:"unique,omitempty"`
	Empty  bool             `json:"empty,omitempty"` // the table had no row when the load began
	importer.Kept
	// Identity is that of the table; older versions did not keep it.
	Identity *identity `json:"identity,omitempty"`
	// Session are the settings that give texts their meaning, as they were when the
	// load began; nil of a load that an older version recorded.
	Session map[string]string `json:"session,omitempty"`
}

// identity is what the record keeps of the table, so that a resume does not take another
// table, or the same without its rows, for the one that was loaded.
type identity struct {
	OID     uint32 `json:"oid"`
	Storage string `json:"storage,omitempty"` // see server.Identity
	Marker  string `json:"marker,omitempty"`  // of UNLOGGED tables: see registry.Marker
}

func (i *identity) marker() string {
	if i == nil {
		return ""
	}
	return i.Marker
}

// A record is what the registry keeps of a load, for one run of it. Without a registry there
// is none: registry is nil.
type record struct {
	load, run string // their ids
	registry  *registry.Registry
	spec      spec
	text      json.RawMessage // the specification as the registry has it
	was       registry.Load   // of a load that is resumed: the record as it was read
	dataset   dataset.Dataset // keeps a part of it
	// running says that the run has begun, and that new sessions are admitted by the
	// registry.
	running atomic.Bool
}

// kept reports whether there is a record.
func (r *record) kept() bool { return r.registry != nil }

// read reads the specification of a recorded load.
func (r *record) read(text json.RawMessage) error {
	r.text = text
	if err := json.Unmarshal(text, &r.spec); err != nil {
		return fmt.Errorf("load %s: its specification is of another version of loader: %w", r.load, err)
	}
	return nil
}

// encode returns the specification: one object, of what is the load's and what is its
// dataset's.
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

// replace records the specification as it is now, unless another run was faster.
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

// askAdmission returns the query by which the server refuses a new session of a run that
// another run has taken for dead and fenced: the run was stopped, and wakes. Before the run has
// begun there are no claims to lose.
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
