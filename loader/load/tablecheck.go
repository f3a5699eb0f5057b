package load

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/failure"
	"bulkload/loader/registry"
	"bulkload/loader/server"
	"bulkload/loader/verify"
)

// ErrTable: the table does not have the recorded rows. It is another table of the same name, or
// rows are gone. With loader.ErrUnconfirmed in the same error, the end of a run found this;
// otherwise the load was not resumed.
var ErrTable = failure.New(failure.Refused, "the table is not as it was loaded")

// A tableCheck verifies that the table is the one with the load's rows, and still has them:
// when a load is resumed, before its run, and at the end.
type tableCheck struct {
	record *record
	table  *server.Table
	// storage is the table's storage at this run's beginning, or when the rows were last found.
	storage string
	doubt   string // why recorded rows may be gone; empty is no doubt
	// timeline is that of the server when a new load began; see server.Timeline.
	timeline string
	// seen is the identity of the table after the last row, for the first attempt of atEnd; nil
	// if it was not read.
	seen *server.Identity

	// Only for a run:
	info     server.Info
	config   *server.Config
	pool     *pgxpool.Pool
	verifier *verify.Verifier
	looksUp  bool            // an uncertain outcome is looked up in the table
	queue    *registry.Queue // nil without a record
	marks    bool            // a run without a ledger marks its leases
	note     func(string)
}

// atStart records the identity of the table. It returns a note for the user; empty is none.
func (t *tableCheck) atStart() (note string) {
	t.storage = t.table.Storage
	t.record.spec.Identity = &identity{OID: t.table.OID, Storage: t.table.Storage, Version: t.table.Version}
	if !t.table.Unlogged {
		return ""
	}
	if t.record.exists() {
		t.record.spec.Identity.Marker = registry.NewID()
	}
	return fmt.Sprintf("%s is UNLOGGED: a crash of the server would empty it, and then the load is not confirmed (ALTER TABLE … SET LOGGED before the load prevents that)", t.table.Display())
}

// mark stores the load's marker in an UNLOGGED table. A crash removes it with the rows.
func (t *tableCheck) mark(ctx context.Context) error {
	r := t.record
	marker := r.spec.Identity.marker()
	if marker == "" {
		return nil
	}
	if err := r.registry.MakeMarkers(ctx); err != nil {
		return err
	}
	if err := r.registry.Mark(ctx, r.load, marker); err != nil {
		return server.Failed("mark the load into an UNLOGGED table", err)
	}
	return nil
}

// atResume refuses another table of the recorded name, and a table emptied by a crash.
// beforeRun checks facts outside the catalogue.
func (t *tableCheck) atResume(ctx context.Context) error {
	r := t.record
	was := r.spec.Identity
	t.storage = t.table.Storage
	if was == nil {
		t.doubt = "an older version of loader did not record which table it loaded"
		return nil
	}
	if was.OID != t.table.OID {
		return t.refused(fmt.Sprintf("%s is not the table that the load began with (OID %d, not %d): that one was dropped, renamed or restored from a backup", t.table.Display(), t.table.OID, was.OID))
	}
	if was.Marker != "" {
		err := r.registry.CheckMarker(ctx, r.load, was.Marker)
		if errors.Is(err, registry.ErrEmptied) {
			return t.refused(fmt.Sprintf("%s was UNLOGGED, and a crash of the server emptied it: its loaded rows are gone; ALTER TABLE … SET LOGGED prevents that", t.table.Display()))
		}
		if err != nil {
			return err
		}
	}
	switch {
	case t.storage == "":
		t.doubt = "the server does not show whether the table was truncated"
	case t.storage != was.Storage:
		t.doubt = "the table was truncated or rewritten since"
	}
	return nil
}

// refused returns the error of a load that cannot be resumed, with the user's options.
func (t *tableCheck) refused(why string) error {
	id := t.record.load
	return fmt.Errorf("%w: load %s: %s; loader loads forget %s removes the record (loads cancel %s first, if indexes are deferred), then load again", ErrTable, id, why, id, id)
}

// beforeRun prepares the queue's markers. If recorded rows may be gone, it compares them with
// the table before anything is sent.
func (t *tableCheck) beforeRun(ctx context.Context) error {
	r := t.record
	if t.queue != nil && t.marks {
		// Without the privilege to create markers, the queue relies on the server's
		// confirmations.
		err := r.registry.MakeMarkers(ctx)
		var create *server.CreateError
		if err != nil && !errors.As(err, &create) {
			return err
		}
		t.queue.Markers = err == nil
	}
	if t.doubt == "" {
		return nil
	}
	in, err := r.registry.In(ctx, r.load)
	if err != nil {
		return err
	}
	if in.Len() > 0 {
		t.note(fmt.Sprintf("%s: looking up the recorded rows", t.doubt))
	}
	gone, err := t.verifier.Gone(ctx, in.All(), -1)
	if err != nil {
		return err
	}
	if gone != "" {
		return t.refused(fmt.Sprintf("%s, and %s", t.doubt, gone))
	}
	t.doubt = ""
	return t.recognise(ctx, t.table.Identity)
}

// recognise records the identity of a table that has the recorded rows.
func (t *tableCheck) recognise(ctx context.Context, now server.Identity) error {
	spec := &t.record.spec
	was := spec.Identity
	t.storage = now.Storage
	spec.Identity = &identity{OID: now.OID, Storage: now.Storage, Version: was.version()}
	if now.Unlogged {
		if spec.Identity.Marker = was.marker(); spec.Identity.Marker == "" {
			spec.Identity.Marker = registry.NewID()
		}
		if err := t.mark(ctx); err != nil {
			return err
		}
	}
	if t.queue != nil {
		t.queue.Marker = spec.Identity.Marker
	}
	return t.record.replace(ctx)
}

// atEnd checks the table at the end of a successful run: it must be the loaded one and still
// have the rows. was is the recorded identity.
func (t *tableCheck) atEnd(ctx context.Context, was *identity, res loader.Result) error {
	err := server.RetryOpening(ctx, func() error { return t.verifyNow(ctx, was, res) })
	if err != nil && ctx.Err() == nil && !errors.Is(err, loader.ErrUnconfirmed) {
		err = fmt.Errorf("%w: %w", loader.ErrUnconfirmed, err)
	}
	return err
}

// verifyNow makes one attempt of atEnd. It compares the rows with the table only if they may be gone
// or changed.
func (t *tableCheck) verifyNow(ctx context.Context, was *identity, res loader.Result) error {
	r, name := t.record, t.table.Display()
	now, err := t.identify(ctx)
	switch {
	case errors.Is(err, server.ErrNoTable):
		return t.differs(name + " was dropped or renamed meanwhile")
	case err != nil:
		return err
	case was != nil && now.OID != was.OID:
		return t.differs(fmt.Sprintf("%s is another table now (OID %d, not %d), and some rows were loaded into the earlier one", name, now.OID, was.OID))
	}
	if marker := r.spec.Identity.marker(); marker != "" && r.exists() {
		if err := r.registry.CheckMarker(ctx, r.load, marker); err != nil {
			return t.emptied(err)
		}
	}
	rows := int64(-1)
	positions := r.dataset.Size().Positions
	if res.Positions == positions {
		rows = res.Rows - res.Conflicts
	}
	gone := ""
	promoted := !r.exists() && t.promoted(ctx)
	switch same := t.storage == "" || now.Storage == t.storage; {
	case now.Unlogged && !r.exists():
		gone, err = t.verifier.Fewer(ctx, res.Rows-res.Conflicts)
	case same && (was == nil || was.Storage == now.Storage) && !promoted:
	default:
		why := "the table was truncated or rewritten during the load"
		if promoted {
			why = "a standby of the server was promoted during the load, and without a record nothing tells what it lacks"
		}
		t.note(why + ": looking up its rows")
		if how := r.dataset.Verification(); promoted && !r.spec.Empty && (!how.Records || how.Keyless || r.dataset.Size().Once) {
			return t.differs("a standby of the server was promoted during the load, and whether that has all rows cannot be told: other rows were there before")
		}
		gone, err = t.verifier.Gone(ctx, []chunker.Range{{End: positions}}, rows)
		if err == nil && gone == "" && r.exists() {
			err = t.recognise(ctx, now)
		}
	}
	if err == nil && gone == "" && was.version() != 0 && t.looksUp && (res.LookUps > 0 || r.was.ID != "") {
		gone, err = t.alike(ctx, was.version())
	}
	if err == nil && gone != "" {
		err = t.differs(gone)
	}
	return err
}

// identify returns the identity of the table now.
func (t *tableCheck) identify(ctx context.Context) (server.Identity, error) {
	if seen := t.seen; seen != nil {
		t.seen = nil
		return *seen, nil
	}
	return server.Identify(ctx, t.pool, t.info, t.table.Name)
}

// alike compares all rows with the table, if the table's definition has changed since the given
// version. A trigger that was there for a while may have changed the rows of a statement whose
// reply was lost: the lookup did not find them, and they were sent again.
func (t *tableCheck) alike(ctx context.Context, version int64) (differs string, err error) {
	now, err := server.Version(ctx, t.pool, t.table)
	if err != nil || now == version {
		return "", err
	}
	t.note("the definition of the table was changed during the load: its rows are looked up")
	return t.verifier.Exactly(ctx)
}

// redefined explains the error of a row that was taken for another's, if the table's definition
// has changed since the load began: it may be the load's own, as a trigger has changed it.
func (t *tableCheck) redefined(ctx context.Context, err error) error {
	var dup *commit.DuplicateError
	version := t.record.spec.Identity.version()
	// A key that the trigger has changed is in the server's refusal alone.
	if !errors.As(err, &dup) && server.Classify(err) != server.Duplicate || version == 0 || !t.looksUp {
		return err
	}
	if now, verr := server.Version(ctx, t.pool, t.table); verr != nil || now == version {
		return err
	}
	return failure.With(failure.Unconfirmed, fmt.Errorf("%w: %w; the row may also be from this load: the definition of the table was changed during the load, so a look-up cannot decide", loader.ErrUnconfirmed, err))
}

// differs returns the error of a run whose table lacks recorded rows.
func (t *tableCheck) differs(why string) error {
	return failure.With(failure.Unconfirmed, fmt.Errorf("%w: %w: %s", loader.ErrUnconfirmed, ErrTable, why))
}

// emptied adds the table's name to registry.ErrEmptied.
func (t *tableCheck) emptied(err error) error {
	if !errors.Is(err, registry.ErrEmptied) || errors.Is(err, ErrTable) {
		return err
	}
	return fmt.Errorf("%w: %s: %w; ALTER TABLE … SET LOGGED, then load again", ErrTable, t.table.Display(), err)
}

// promoted reports whether a standby of the server was promoted since the load began. Without
// synchronous replication it may lack what the old server has confirmed.
func (t *tableCheck) promoted(ctx context.Context) bool {
	if t.timeline == "" {
		return false
	}
	var now string
	// The pool's new sessions are refused if the record is gone.
	err := server.With(ctx, t.config, func(conn *pgx.Conn) error {
		now = server.Timeline(ctx, conn)
		return nil
	})
	return err == nil && now != "" && now != t.timeline
}

// lost explains an error of the run by a loss of confirmed rows, if that is its cause.
func (t *tableCheck) lost(ctx context.Context, res loader.Result, err error) error {
	if errors.Is(err, loader.ErrLost) && t.promoted(ctx) {
		return failure.With(failure.Unconfirmed, fmt.Errorf("%w: a standby of the server was promoted during the load, and lacks a part of what was confirmed before: %v", loader.ErrUnconfirmed, err))
	}
	ordered := t.record.dataset.Ordered()
	if errors.Is(err, registry.ErrGaps) {
		if res.Gone == 0 {
			return t.outOfOrder(ordered)
		}
		return failure.With(failure.Unconfirmed, fmt.Errorf("%w: %w: a crash of the server lost confirmed rows but kept later ones: %v; %s; remove the rows and load again",
			loader.ErrUnconfirmed, ErrTable, registry.ErrGaps, ordered))
	}
	if res.Gone > 0 && t.record.dataset.Size().Once && (errors.Is(err, dataset.ErrOnce) || errors.Is(err, dataset.ErrChanged)) {
		return fmt.Errorf("%w: a crash of the server lost confirmed rows, and the input cannot be read again", loader.ErrUnconfirmed)
	}
	return t.emptied(err)
}

// outOfOrder returns why a load cannot be resumed if its rows were not committed in order.
func (t *tableCheck) outOfOrder(ordered string) error {
	id := t.record.load
	return &dataset.ResumeError{Reason: fmt.Sprintf("an older version of loader began load %s without keeping the order of the input: %v, but %s; loads cancel %s, remove its rows and load the file again",
		id, registry.ErrGaps, ordered, id)}
}
