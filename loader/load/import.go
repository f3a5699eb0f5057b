package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

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
const Import commit.Method = "import"

// slowRows is the number of rows from which on IMPORT is taken where nothing is said and chunks
// are slow. A job takes about half a second by itself, and statistics are gathered behind it.
// Measured on 21.1 with two cores: chunks with ledger rows or secondary indexes bring 25 000 to
// 90 000 rows/s: of 100 000 accounts IMPORT takes 0.7 s, and chunks 1.7 s.
const slowRows = 100_000

// minRows is the number of rows from which on this load goes by IMPORT, where nothing is
// said: any that loader bench found to be best so.
func (l *Load) minRows() int64 {
	if l.prefers {
		return 1
	}
	secondary := slices.ContainsFunc(l.Table.Indexes, func(x server.TableIndex) bool { return !x.Primary })
	if n := l.Dataset.Import().MinRows; n > 0 && !secondary {
		return n
	}
	return slowRows
}

// decide says whether the load is handed off to IMPORT: where the user wants it, or,
// where nothing is said, where it is faster and nobody misses the table meanwhile. The
// error says why it cannot be, where the user wants it.
func (l *Load) decide(ctx context.Context, req *Request) error {
	wanted := req.Method == Import
	switch {
	case l.srv.Product == server.PostgreSQL && wanted:
		req.Method = "" // the fastest of its own
		l.Notes = append(l.Notes, "PostgreSQL has no IMPORT: rows go by COPY")
		return nil
	case l.srv.Product == server.PostgreSQL, !wanted && (req.Method != "" || l.rows() < l.minRows()):
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
		l.Method = Import
		if !wanted {
			l.Notes = append(l.Notes, fmt.Sprintf("handed off to IMPORT INTO: %d rows for an empty table, which is offline meanwhile (--via insert loads in chunks)", l.rows()))
		}
	case wanted:
		return &TableError{Reason: "--via import: " + why}
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
	wanted := req.Method == Import
	switch {
	case req.CommitMode != "":
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
	m := l.Dataset.Import()
	if m.Refused != "" {
		return m.Refused, nil
	}
	name := l.Table.Display()
	switch {
	case !l.Table.Empty && !wanted:
		return fmt.Sprintf("%s has rows, and would be offline meanwhile (--via import does it)", name), nil
	case !l.Table.Empty && m.IntoRows != "":
		return fmt.Sprintf("%s has rows, %s", name, m.IntoRows), nil
	}
	return importer.Refuses(ctx, l.pool, l.srv.Info, l.Table)
}

// openHandoff opens what the server reads from. It returns why that cannot be.
func (l *Load) openHandoff(ctx context.Context, req *Request) (string, error) {
	o := req.ImportOptions
	s := &importer.State{Mode: o.Mode, Format: l.Dataset.Import().Format, Streams: o.Streams, WasEmpty: l.Table.Empty}
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
		if err != nil || why == "" || !auto || req.Method != Import {
			l.handoff = s
			return why, err
		}
		l.Notes = append(l.Notes, why+"; the rows are uploaded instead")
		s.Mode = importer.Upload
	case importer.Upload:
		if req.Method != Import {
			return "the server is on another machine and cannot read from here (--serve-addr HOST:PORT lets it, --via import uploads)", nil
		}
	case importer.URLs:
		for _, f := range o.Files {
			if err := importer.CheckURL(f); err != nil {
				return "", &TableError{Reason: err.Error()}
			}
			s.Files = append(s.Files, importer.Redact(f))
			s.Once = s.Once || importer.Redact(f) != f
		}
		if asIs := l.Dataset.Import().AsIs; asIs != nil {
			s.Format = virtual.CSV
			var why string
			var err error
			if s.Skip, why, err = asIs(ctx, l.opening(req.Settings)); why != "" || err != nil {
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

// planImport decides what the jobs of the load read.
func (l *Load) planImport(ctx context.Context, settings Settings) error {
	s := l.handoff
	l.settings = settings
	m, positions := l.Dataset.Import(), l.Dataset.Size().Positions
	s.Batch = positions
	if s.Mode == importer.Upload {
		part, group := int64(partBytes), l.settings.ImportOptions.BatchBytes
		if group == 0 {
			group = importer.DefaultBatchBytes
		}
		part, group = part/m.RowBytes, max(group/m.RowBytes, 1)
		// A load in several jobs is not all or nothing, and a later job must not
		// collide with an earlier one.
		if group < positions && m.OwnKeys {
			s.Batch = group
		}
		s.Streams = max(s.Streams, int((min(s.Batch, positions)+part-1)/part))
	}
	var err error
	if s.Valid, err = importer.Valid(ctx, l.pool, l.Table.Name); err != nil {
		return err
	}
	l.spec.Import = s
	l.Plan = chunker.Plan{Rows: l.rows(), Limits: l.limits(ctx)}
	return nil
}

// runner returns what loads the rows by IMPORT.
func (l *Load) runner() *importer.Runner {
	s := l.settings
	r := &importer.Runner{
		ID: l.ID, DB: l.srv, Pool: l.pool, Table: l.Table, State: l.spec.Import, Options: s.ImportOptions, Server: l.serving,
		Workers: s.Workers, AttemptTimeout: s.ChunkTimeout, RetryFor: s.RetryFor, Stop: s.Stop, Note: s.Note, Observe: s.Observe, Detail: s.Detail,
	}
	m, size := l.Dataset.Import(), l.Dataset.Size()
	r.Input = importer.Input{
		Source: l.Dataset.Source(), Positions: size.Positions, Rows: size.Rows,
		Exact: m.Exact, Fit: m.Fit, Count: m.Count, MaxRecordBytes: m.MaxRecordBytes,
	}
	if m.KeysOf != nil {
		r.Input.There = func(ctx context.Context, r chunker.Range) (int64, error) { return l.countKeys(ctx, m.KeysOf(r)) }
	}
	if m.Repeats != nil {
		r.Input.Repeated = l.firstRepeat
	}
	if m.Options != nil {
		r.Input.CSV = m.Options(r.State.Skip)
	}
	if l.registry == nil {
		r.ID = l.run // a load without a record has no id of its own
		return r
	}
	q := l.registry.Queue(l.ID, l.run)
	q.Block, q.MaxLease, q.MinLease = 0, r.State.Batch, r.State.Batch
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
	text, err := r.specText()
	if err != nil {
		return err
	}
	return r.registry.SetSpec(ctx, r.ID, r.run, text)
}

func (r importRecord) SetJob(ctx context.Context, id int64) error {
	return r.registry.SetJob(ctx, r.ID, r.run, id)
}

// countKeys counts the rows of the table that have keys of a range.
func (l *Load) countKeys(ctx context.Context, r chunker.Range) (n int64, err error) {
	key := pgx.Identifier{l.Table.Primary[0]}.Sanitize()
	err = l.pool.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM %s WHERE %s >= $1 AND %s < $2", l.Table.Name.Sanitize(), key, key), r.First, r.End).Scan(&n)
	if err != nil {
		err = fmt.Errorf("count the rows of the load's keys: %w", err)
	}
	return n, err
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

// reopenImport opens a recorded load by IMPORT. attached says that a job of an earlier
// run has the table offline, so that all there is to do is to follow it. What s leaves open
// and the record has is set in it.
func (l *Load) reopenImport(ctx context.Context, o *dataset.Opening, rec registry.Load, s *Settings) (attached bool, err error) {
	l.Method, l.handoff = Import, l.spec.Import
	if rec.State == registry.Done {
		return false, nil
	}
	h := l.handoff
	if h.Mode == importer.URLs {
		if len(s.ImportOptions.Files) == 0 && h.Once {
			return false, fmt.Errorf("load %s: %w: the queries of its URLs may hold what gives access and are not kept; name them again with --handoff", l.ID, files.ErrOnce)
		}
		if len(s.ImportOptions.Files) == 0 {
			s.ImportOptions.Files = h.Files
		}
	}
	if s.Workers == 0 {
		s.Workers = leastWorkers
	}
	l.settings = *s
	if h.Mode == importer.Serve && h.Addr != "" {
		// At the same place, so that a job that is still reading finds it.
		o := s.ImportOptions
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
	if err := l.refit(ctx, o); err != nil {
		return false, err
	}
	l.Job = &loader.Job{Source: l.Dataset.Source(), Positions: l.Dataset.Size().Positions, Workers: s.Workers}
	return true, nil
}
