package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"bulkload/loader/dataset"
	"bulkload/loader/importer"
	"bulkload/loader/importer/serve"
	"bulkload/loader/importer/virtual"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// slowRows is the minimum number of rows for which IMPORT is the default where chunks are slow.
// A job itself takes about half a second. Measured on
// 21.1 with two cores: chunks with ledger rows or secondary indexes load 25 000 to 90 000
// rows/s; for 100 000 accounts IMPORT takes 0.7 s, and chunks take 1.7 s.
const slowRows = 100_000

// minRows is the minimum number of rows for which IMPORT is this load's default: any number if
// loader bench found IMPORT the fastest.
func (o *opening) minRows() int64 {
	if o.byImport {
		return 1
	}
	if o.dataset.Import().OnlyAsked {
		return math.MaxInt64
	}
	secondary := slices.ContainsFunc(o.table.Indexes, func(x server.TableIndex) bool { return !x.Primary })
	if n := o.dataset.Import().MinRows; n > 0 && !secondary {
		return n
	}
	return slowRows
}

// chooseImport decides whether IMPORT loads the rows: if the user asks for it, or by default if
// it is faster and the table is empty.
func (o *opening) chooseImport(ctx context.Context) (err error) {
	asked := o.req.Method == Import
	if !asked && o.req.handsOff() {
		// Where nobody asks for IMPORT, the rows may go in chunks.
		defer func() {
			if err == nil && o.imported == nil {
				err = errInChunks
			}
		}()
	}
	switch {
	case o.srv.Product == server.PostgreSQL && asked:
		o.tell("PostgreSQL has no IMPORT: using COPY")
		return nil
	case o.srv.Product == server.PostgreSQL, o.req.Truncate, !asked && (o.req.Method != "" || o.dataset.Size().Rows < o.minRows()):
		return nil
	}
	why, err := o.refuseImport(ctx)
	if err != nil || why != "" {
		return o.inChunks(why, err)
	}
	s := &importer.State{Mode: o.req.ImportOptions.Mode, Format: o.dataset.Import().Format, Streams: o.req.ImportOptions.Streams, WasEmpty: o.table.Empty}
	if s.Mode == "" || s.Mode == importer.Auto {
		s.Mode = importer.Upload
		if o.req.ImportOptions.Addr != "" || o.srv.Config.Local() {
			s.Mode = importer.Serve
		}
	}
	switch {
	case s.Mode == importer.Upload && !asked:
		return o.inChunks("the server is on another machine and cannot read files from here (--serve-addr HOST:PORT serves them, --via import uploads them)", nil)
	case s.Mode == importer.URLs:
		if why, err := o.nameURLs(ctx, s); err != nil || why != "" {
			return o.inChunks(why, err)
		}
	}
	o.imported = s
	return nil
}

// errInChunks: flags say how the server gets the rows, and it gets them in chunks.
var errInChunks = dataset.Contradict("--handoff, --serve-addr, --serve-cert, --serve-key and --streams are for IMPORT, and these rows go in chunks; add --via import, or leave them out")

// inChunks chooses chunks in place of IMPORT. It returns an error if the user asked for IMPORT,
// and passes err on.
func (o *opening) inChunks(why string, err error) error {
	switch {
	case err != nil:
		return err
	case o.req.Method == Import:
		return &TableError{Reason: "--via import: " + why}
	}
	o.imported = nil
	o.tell("in chunks, not by IMPORT: " + why)
	return nil
}

// refuseImport returns why IMPORT cannot take the load.
func (o *opening) refuseImport(ctx context.Context) (string, error) {
	given := func(flag string) string {
		return fmt.Sprintf(dataset.NotByImport, flag)
	}
	asked := o.req.Method == Import
	if list := o.req.ofChunks(); len(list) > 0 {
		return given(list[0]), nil
	}
	if !asked && o.req.Workers != 0 {
		return given("--workers"), nil
	}
	m := o.dataset.Import()
	if m.Refused != "" {
		return m.Refused, nil
	}
	name := o.table.Display()
	switch {
	case !o.table.Empty && !asked:
		return fmt.Sprintf("%s has rows, and IMPORT takes a table offline (--via import uses it anyway)", name), nil
	case !o.table.Empty && m.IntoRows != "":
		return fmt.Sprintf("%s has rows, %s", name, m.IntoRows), nil
	}
	return importer.Refuses(ctx, o.pool, o.srv.Info, o.table)
}

// nameURLs records the URLs that the server reads. It returns why the server cannot read them.
func (o *opening) nameURLs(ctx context.Context, s *importer.State) (why string, err error) {
	for _, f := range o.req.ImportOptions.Files {
		if err := importer.CheckURL(f); err != nil {
			return "", &TableError{Reason: err.Error()}
		}
		s.Files = append(s.Files, importer.Redact(f))
		s.Once = s.Once || importer.Redact(f) != f
	}
	if asIs := o.dataset.Import().AsIs; asIs != nil {
		s.Format = virtual.CSV
		s.Skip, why, err = asIs(ctx, o.forDataset())
	}
	return why, err
}

// partBytes is the size of an uploaded file before compression, which halves it: the
// documentation advises against files much above 15 MB.
const partBytes = 32 << 20

// openImport starts the file server if the server reads from this process, and decides the
// files and batches of a new load.
func (o *opening) openImport(ctx context.Context) error {
	s := o.imported
	if s == nil {
		return nil
	}
	if s.Streams == 0 {
		s.Streams = 1
		if n, ok := importer.Nodes(ctx, o.pool); ok {
			s.Streams = n
		} else if s.Mode != importer.URLs { // for URLs it is the number of existing files
			s.Streams = importer.UncountedStreams
			o.tell(fmt.Sprintf("the number of nodes cannot be read, so the rows are split into %d streams; --streams N sets another number, best one per node", s.Streams))
		}
	}
	asked, mode := o.req.Method == Import, o.req.ImportOptions.Mode
	if s.Mode == importer.Serve {
		srv, why, err := importer.Listen(ctx, o.pool, s, o.req.ImportOptions, o.tell)
		o.serving = srv
		switch auto := mode == "" || mode == importer.Auto; {
		case err == nil && why != "" && auto && asked:
			o.tell(why + "; the rows are uploaded instead")
			s.Mode = importer.Upload
		case err != nil || why != "":
			return o.inChunks(why, err)
		}
	}
	m, positions := o.dataset.Import(), o.dataset.Size().Positions
	s.Batch = positions
	if s.Mode == importer.Upload {
		part, group := int64(partBytes), o.req.ImportOptions.BatchBytes
		if group == 0 {
			group = importer.DefaultBatchBytes
		}
		part, group = part/m.RowBytes, max(group/m.RowBytes, 1)
		// Several jobs are not atomic, and a later job must not collide with the rows of an
		// earlier one.
		if group < positions && m.OwnKeys {
			s.Batch = group
		}
		s.Streams = max(s.Streams, int((min(s.Batch, positions)+part-1)/part))
	}
	var err error
	if s.Valid, err = importer.Valid(ctx, o.pool, o.table.Name); err != nil {
		return err
	}
	o.record.spec.Import = s
	if !asked {
		o.tell(fmt.Sprintf("loading by IMPORT INTO: %d rows into an empty table, which is offline until the end (--via insert loads in chunks)", o.dataset.Size().Rows))
	}
	return nil
}

// attach finds the running job of a resumed load's earlier run, which keeps the table offline,
// and serves the files at the job's address.
func (o *opening) attach(ctx context.Context) error {
	s := o.record.spec.Import
	o.imported = s
	if s == nil || o.state == registry.Done {
		return nil
	}
	if s.Mode == importer.URLs && s.Once && len(o.req.ImportOptions.Files) == 0 {
		return fmt.Errorf("load %s: %w: the queries of its URLs may hold credentials and are not kept; name them again with --handoff", o.record.load, dataset.ErrOnce)
	}
	if s.Mode == importer.Serve && s.Addr != "" {
		// The running job reads from this very address.
		srv, err := serve.Listen(s.Addr, "", o.req.ImportOptions.CertFile, o.req.ImportOptions.KeyFile, s.Secret)
		if err != nil {
			// Another run may serve there. If none does, the job fails and a new one begins.
			o.tell(err.Error() + ": this run cannot serve files at the address of the earlier run")
		} else {
			o.serving = srv
		}
	}
	if s.Tag == "" {
		return nil
	}
	job, err := importer.Find(ctx, o.pool, s.Tag, s.Began, s.Known...)
	if errors.Is(err, importer.ErrNoJob) {
		return nil
	}
	o.attached = err == nil && !job.Status.Over()
	return err
}
