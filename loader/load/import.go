package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/files"
	"bulkload/loader/importer"
	"bulkload/loader/importer/serve"
	"bulkload/loader/importer/virtual"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// Import is the carrier of loads that are handed off to the server's IMPORT INTO.
const Import commit.Via = "import"

// Numbers of rows from which on IMPORT is taken where nothing is said. A job takes about
// half a second by itself, and statistics are gathered behind it. Measured on 21.1 with two
// cores: chunks that are committed in one phase bring 340 000 points/s and IMPORT 430 000,
// so that it takes many rows to make up for a table that is offline; other chunks, with
// ledger rows or secondary indexes, bring 25 000 to 90 000: of 100 000 accounts IMPORT takes
// 0.7 s, and chunks 1.7 s.
const (
	importRows     = 5_000_000
	importSlowRows = 100_000
)

// manyRows is the number of rows from which on this load goes by IMPORT, where nothing is
// said: any that loader bench found to be best so.
func (l *Load) manyRows() int64 {
	if l.prefers {
		return 1
	}
	secondary := slices.ContainsFunc(l.Table.Indexes, func(x server.TableIndex) bool { return !x.Primary })
	if l.What == Points && !secondary {
		return importRows
	}
	return importSlowRows
}

// decide says whether the load is handed off to IMPORT: where the user wants it, or,
// where nothing is said, where it is faster and nobody misses the table meanwhile. The
// error says why it cannot be, where the user wants it.
func (l *Load) decide(ctx context.Context, req *Request) error {
	wanted := req.Via == Import
	switch {
	case l.srv.Product == server.PostgreSQL && wanted:
		req.Via = "" // the fastest of its own
		l.Notes = append(l.Notes, "PostgreSQL has no IMPORT: rows go by COPY")
		return nil
	case l.srv.Product == server.PostgreSQL, !wanted && (req.Via != "" || l.Rows < l.manyRows()):
		return nil
	}
	why, err := l.refuseImport(ctx, req)
	if err == nil && why == "" {
		why, err = l.openHandoff(ctx, req)
	}
	switch {
	case err != nil:
		return err
	case why == "":
		l.Via = Import
		if !wanted {
			l.Notes = append(l.Notes, fmt.Sprintf("handed off to IMPORT INTO: %d rows for an empty table, which is offline meanwhile (--via insert loads in chunks)", l.Rows))
		}
	case wanted:
		return &TableError{"--via import: " + why}
	default:
		l.Notes = append(l.Notes, "in chunks, not by IMPORT: "+why)
	}
	return nil
}

// refuseImport returns why IMPORT cannot take the load.
func (l *Load) refuseImport(ctx context.Context, req *Request) (string, error) {
	given := func(flag string) string {
		return fmt.Sprintf("all rows are read by one job of the server's, which knows nothing of %s", flag)
	}
	wanted := req.Via == Import
	switch {
	case req.Way != "":
		return given("--commit"), nil
	case !wanted && req.Chunk != 0:
		return given("--chunk"), nil
	case !wanted && req.Workers != 0:
		return given("--workers"), nil
	case req.Rate > 0:
		return given("--rate"), nil
	case req.Indexes == DeferIndexes:
		return given("--indexes defer, and fills indexes in one go"), nil
	}
	if req.What == CSV {
		c := l.spec.CSV
		switch {
		case len(c.Set) > 0:
			return given("--set"), nil
		case c.Conflict != "":
			return given("--on-conflict"), nil
		case !c.MaxErrors.none():
			return given("--max-errors"), nil
		case slices.ContainsFunc(c.Files, func(f files.File) bool { return f.Name == files.Stdin }):
			return "standard input cannot be read a second time, as the server may want to", nil
		}
		for _, f := range c.Fields {
			if has := l.Table.Column(f.Name); has != nil && has.Hidden {
				return fmt.Sprintf("column %s is hidden", f.Name), nil
			}
		}
	}
	name := l.Table.Display()
	switch {
	case !l.Table.Empty && !wanted:
		return fmt.Sprintf("%s has rows, and would be offline meanwhile (--via import does it)", name), nil
	case !l.Table.Empty && req.What == Accounts:
		return fmt.Sprintf("%s has rows, whose ids accounts may collide with", name), nil
	case !l.Table.Empty && req.What == CSV && l.keysCSV() == nil:
		return fmt.Sprintf("%s has rows, and the keys that IMPORT makes for rows without one collide with older ones", name), nil
	}
	return importer.Refuses(ctx, l.pool, l.srv.Info, l.Table)
}

// openHandoff opens what the server reads from. It returns why that cannot be.
func (l *Load) openHandoff(ctx context.Context, req *Request) (string, error) {
	o := req.Handoff
	s := &importer.State{Mode: o.Mode, Format: virtual.CSV, Streams: o.Streams, WasEmpty: l.Table.Empty}
	if req.What == CSV {
		s.Format = virtual.PGCopy
	}
	if s.Streams == 0 {
		s.Streams = importer.Nodes(ctx, l.pool)
	}
	auto := s.Mode == "" || s.Mode == importer.Auto
	if auto {
		s.Mode = importer.Upload
		if o.Addr != "" || l.srv.Config.Local() {
			s.Mode = importer.Serve
		}
	}
	switch s.Mode {
	case importer.Serve:
		srv, why, err := importer.Listen(ctx, l.pool, s, o, l.tell)
		l.serving = srv
		if err != nil || why == "" || !auto || req.Via != Import {
			l.handoff = s
			return why, err
		}
		l.Notes = append(l.Notes, why+"; the rows are uploaded instead")
		s.Mode = importer.Upload
	case importer.Upload:
		if req.Via != Import {
			return "the server is on another machine and cannot read from here (--serve-addr HOST:PORT lets it, --via import uploads)", nil
		}
	case importer.URLs:
		for _, f := range o.Files {
			if err := importer.CheckURL(f); err != nil {
				return "", &TableError{err.Error()}
			}
			s.Files = append(s.Files, importer.Redact(f))
			s.Once = s.Once || importer.Redact(f) != f
		}
		if req.What == CSV {
			s.Format = virtual.CSV
			if why, err := l.rawCSV(ctx, s); why != "" || err != nil {
				return why, err
			}
		}
	}
	l.handoff = s
	return "", nil
}

// partBytes is the size of a file that is uploaded, before it is compressed, to about
// half: the documentation advises against files much above 15 MB.
const partBytes = 32 << 20

// pointBytes is the length of a point in CSV, about.
const pointBytes = 76

// planImport decides what the jobs of the load read.
func (l *Load) planImport(ctx context.Context, settings Settings) error {
	s := l.handoff
	l.settings = settings
	s.Group = l.Positions
	if s.Mode == importer.Upload {
		part, group := int64(partBytes), l.settings.Handoff.GroupBytes
		if group == 0 {
			group = importer.DefaultGroupBytes
		}
		if l.What != CSV {
			part, group = part/pointBytes, max(group/pointBytes, 1)
		}
		// A load in several jobs is not all or nothing, and a later job must not
		// collide with an earlier one.
		if group < l.Positions && (l.What != CSV || l.keysCSV() != nil) {
			s.Group = group
		}
		s.Streams = max(s.Streams, int((min(s.Group, l.Positions)+part-1)/part))
	}
	var err error
	if s.Valid, err = importer.Valid(ctx, l.pool, l.Table.Name); err != nil {
		return err
	}
	l.spec.Import = s
	l.Plan = chunker.Plan{Rows: l.Rows, Limits: l.limits(ctx)}
	if l.What == CSV {
		l.csv.Raw = false
	}
	return nil
}

// runner returns what loads the rows by IMPORT.
func (l *Load) runner() *importer.Runner {
	s := l.settings
	r := &importer.Runner{
		ID: l.ID, DB: l.srv, Pool: l.pool, Table: l.Table, State: l.spec.Import, Options: s.Handoff, Server: l.serving,
		Workers: s.Workers, AttemptTimeout: s.ChunkTimeout, RetryFor: s.RetryFor, Stop: s.Stop, Note: s.Note, Observe: s.Observe, Detail: s.Detail,
		Input: importer.Input{Source: l.source(), Positions: l.Positions, Rows: l.Rows, Exact: l.What != CSV},
	}
	if l.csv != nil {
		r.Input.Fit, r.Input.Count, r.Input.MaxRecordBytes = l.csv.Fit, l.countRecords, l.spec.CSV.MaxRecord
		r.Input.CSV = l.csvOptions()
	}
	if l.registry == nil {
		r.ID = l.run // a load without a record has no id of its own
		return r
	}
	q := l.registry.Queue(l.ID, l.run)
	q.Block, q.Most, q.Least = 0, r.State.Group, r.State.Group
	if r.State.Mode != importer.URLs {
		q.Fit = r.Input.Fit
	}
	r.Queue, r.Record = q, importRecord{l}
	return r
}

// importRecord keeps the state of an IMPORT in the load's record.
type importRecord struct{ *Load }

func (r importRecord) Save(ctx context.Context, s *importer.State) error {
	r.spec.Import = s
	text, err := json.Marshal(r.spec)
	if err != nil {
		return fmt.Errorf("write the load's specification: %w", err)
	}
	return r.registry.SetSpec(ctx, r.ID, r.run, text)
}

func (r importRecord) SetJob(ctx context.Context, id int64) error {
	return r.registry.SetJob(ctx, r.ID, r.run, id)
}

// countRecords counts the records of the load's files.
func (l *Load) countRecords() (int64, error) {
	spans := l.csv.Cut(chunker.Range{End: l.Positions})
	var n int64
	for {
		span, err := spans.Next(1 << 20)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n += span.Rows
		l.csv.Done(span)
	}
}

// csvOptions are those of files that the server reads as they are.
func (l *Load) csvOptions() []importer.Option {
	d := l.spec.CSV.Dialect
	list := []importer.Option{{Key: "nullif", Value: d.Null}}
	if d.Delimiter != ',' {
		list = append(list, importer.Option{Key: "delimiter", Value: string(rune(d.Delimiter))})
	}
	if n := l.spec.Import.Skip; n > 0 {
		list = append(list, importer.Option{Key: "skip", Value: fmt.Sprint(n)})
	}
	return list
}

// Handoff says how the server reaches the rows of a load by IMPORT, for people.
func (l *Load) Handoff() string {
	s := l.spec.Import
	if s == nil {
		return ""
	}
	switch s.Mode {
	case importer.Serve:
		return fmt.Sprintf("served at %s, %s", s.Addr, fileCount(s.Streams))
	case importer.Upload:
		return fmt.Sprintf("uploaded, %s at a time", fileCount(s.Streams))
	}
	return fmt.Sprintf("read from %s", strings.Join(s.Files, ", "))
}

// Keyed reports whether the URLs of a load by IMPORT may hold what gives access, which is
// not kept: a run that resumes it must be given them again.
func (l *Load) Keyed() bool { return l.spec.Import != nil && l.spec.Import.Once }

func fileCount(n int) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}

// fixedKeys reports whether the keys of points are in files that were written without
// the server.
func (l *Load) fixedKeys() bool {
	return l.What == Points && l.handoff != nil && l.handoff.Mode == importer.URLs
}

// reopenImport opens a recorded load by IMPORT. attached says that a job of an earlier
// run has the table offline, so that all there is to do is to follow it. What s leaves open
// and the record has is set in it.
func (l *Load) reopenImport(ctx context.Context, rec registry.Load, s *Settings) (attached bool, err error) {
	l.Via, l.handoff = Import, l.spec.Import
	if rec.State == registry.Done {
		return false, nil
	}
	h := l.handoff
	if h.Mode == importer.URLs {
		if len(s.Handoff.Files) == 0 && h.Once {
			return false, fmt.Errorf("load %s: %w: the queries of its URLs may hold what gives access and are not kept; name them again with --handoff", l.ID, files.ErrOnce)
		}
		if len(s.Handoff.Files) == 0 {
			s.Handoff.Files = h.Files
		}
	}
	if s.Workers == 0 {
		s.Workers = leastWorkers
	}
	l.settings = *s
	if h.Mode == importer.Serve && h.Addr != "" {
		// At the same place, so that a job that is still reading finds it.
		o := s.Handoff
		l.serving, err = serve.Listen(h.Addr, "", o.CertFile, o.KeyFile, h.Secret)
		if err != nil {
			// Another run may be there; if not, the job fails and is begun again.
			l.Notes = append(l.Notes, err.Error()+": this run cannot take the place of the one before it")
			l.serving = nil
		}
	}
	if h.Tag == "" {
		return false, nil
	}
	job, err := importer.Find(ctx, l.pool, h.Tag, h.Began)
	if errors.Is(err, importer.ErrNoJob) || err == nil && job.Status.Over() {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	l.Table = &server.Table{Name: l.spec.Table, Primary: []string{"id"}}
	if l.What == CSV {
		if err := l.reopenCSV(ctx, *s); err != nil {
			return false, err
		}
	}
	l.Keys = dataset.KeyLayout{Base: l.spec.Base, Rows: l.Rows, Block: l.spec.Block}.Range()
	l.Job = &loader.Job{Source: l.source(), Positions: l.Positions, Workers: s.Workers}
	return true, nil
}
