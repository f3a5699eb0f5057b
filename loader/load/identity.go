package load

import (
	"context"
	"errors"
	"fmt"
	"io"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/failure"
	"bulkload/loader/files"
	"bulkload/loader/importer"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

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

// ErrTable: the table does not hold what the record says: it is another table of the same
// name, or its rows are gone. Beside loader.ErrUnconfirmed a run found that at its end,
// else the load was not resumed.
var ErrTable = failure.New(failure.Refused, "the table is not as it was loaded")

// recognise notes what the table is, for the record and for the end of the run.
func (l *Load) recognise() {
	l.storage = l.Table.Storage
	l.spec.Identity = &identity{OID: l.Table.OID, Storage: l.Table.Storage}
	if !l.Table.Unlogged {
		return
	}
	l.Notes = append(l.Notes, fmt.Sprintf("%s is UNLOGGED: a crash of the server empties it, and the load with it is not confirmed (ALTER TABLE … SET LOGGED before the load)", l.Table.Display()))
	if l.registry != nil {
		l.spec.Identity.Marker = registry.NewID()
	}
}

// markTable sets the marker of a load into an UNLOGGED table, which goes with a crash as
// the rows do.
func (l *Load) markTable(ctx context.Context) error {
	marker := l.spec.Identity.marker()
	if marker == "" {
		return nil
	}
	if err := l.registry.MakeMarkers(ctx); err != nil {
		return err
	}
	if err := l.registry.Mark(ctx, l.ID, marker); err != nil {
		return server.Failed("mark the load into an UNLOGGED table", err)
	}
	return nil
}

// checkIdentity refuses another table of the recorded load's table's name, and one that a
// crash has emptied. What cannot be told from the catalogue is left for checkRecorded.
func (l *Load) checkIdentity(ctx context.Context) error {
	was := l.spec.Identity
	l.storage = l.Table.Storage
	if was == nil {
		l.doubt = "an older version of loader kept no identity of the table, and may have drawn other rows"
		return nil
	}
	if was.OID != l.Table.OID {
		return l.refused(fmt.Sprintf("%s is another table than the load began with, number %d instead of %d: that one was dropped, renamed or replaced by a restored one", l.Table.Display(), l.Table.OID, was.OID))
	}
	if was.Marker != "" {
		err := l.registry.CheckMarker(ctx, l.ID, was.Marker)
		if errors.Is(err, registry.ErrEmptied) {
			return l.refused(fmt.Sprintf("%s was UNLOGGED, and a crash of the server has emptied it: the rows that were in are gone; ALTER TABLE … SET LOGGED keeps the next ones", l.Table.Display()))
		}
		if err != nil {
			return err
		}
	}
	switch {
	case l.storage == "":
		l.doubt = "the server does not show whether the table was truncated"
	case l.storage != was.Storage:
		l.doubt = "the table was truncated or written anew since"
	}
	return nil
}

// refused is why a load does not go on, with the way on.
func (l *Load) refused(why string) error {
	return fmt.Errorf("%w: load %s: %s; loader loads forget %s removes the record (loads cancel %s first, if indexes are deferred), then load again", ErrTable, l.ID, why, l.ID, l.ID)
}

// checkRecorded looks the recorded ranges up where they may be gone, before anything is
// sent, and prepares the queue's markers.
func (l *Load) checkRecorded(ctx context.Context) error {
	if l.queue != nil && l.CommitMode == commit.Statement && l.srv.Product == server.PostgreSQL {
		// Without the right to make them the queue believes what the server confirmed.
		err := l.registry.MakeMarkers(ctx)
		var create *server.CreateError
		if err != nil && !errors.As(err, &create) {
			return err
		}
		l.queue.Markers = err == nil
	}
	if l.doubt == "" {
		return nil
	}
	in, err := l.registry.In(ctx, l.ID)
	if err != nil {
		return err
	}
	if in.Len() > 0 {
		l.note(fmt.Sprintf("%s: the rows on record are looked up", l.doubt))
	}
	gone, err := l.lookUp(ctx, in.All(), -1)
	if err != nil {
		return err
	}
	if gone != "" {
		return l.refused(fmt.Sprintf("%s, and %s", l.doubt, gone))
	}
	l.doubt = ""
	return l.recognised(ctx, l.Table.Identity)
}

// recognised records the identity of a table that has the rows on record.
func (l *Load) recognised(ctx context.Context, now server.Identity) error {
	was := l.spec.Identity
	l.storage = now.Storage
	l.spec.Identity = &identity{OID: now.OID, Storage: now.Storage}
	if now.Unlogged {
		if l.spec.Identity.Marker = was.marker(); l.spec.Identity.Marker == "" {
			l.spec.Identity.Marker = registry.NewID()
		}
		if err := l.markTable(ctx); err != nil {
			return err
		}
	}
	if l.queue != nil {
		l.queue.Marker = l.spec.Identity.Marker
	}
	text, err := l.specText()
	if err != nil {
		return err
	}
	return l.registry.ReplaceSpec(ctx, l.ID, l.recorded, text)
}

// lookUp compares the rows of ranges with the table, by key and content where they bring
// keys; else it counts. gone says what is missing; empty is nothing. atLeast is the number of
// rows, where it is known; -1 is unknown.
func (l *Load) lookUp(ctx context.Context, ranges []chunker.Range, atLeast int64) (gone string, err error) {
	if len(ranges) == 0 {
		return "", nil
	}
	var found Report
	f, read := l.Dataset.(*files.Dataset)
	switch {
	case l.committer == nil, l.Method == Import && l.spec.Import.Mode == importer.URLs, l.committer.Redraw != nil && l.registry == nil:
		return l.countRows(ctx, max(atLeast, 1))
	case read && (f.KeyColumns() == nil || l.Dataset.Size().Once):
		if atLeast < 0 {
			if atLeast, err = l.countRanges(ctx, f.CSV(), ranges); err != nil {
				return "", err
			}
		}
		return l.countRows(ctx, atLeast)
	case read:
		if found, err = l.verifyFileRanges(ctx, f.CSV(), ranges, nil); err == nil && f.Conflicts() != "" {
			found.Same, found.Changed = found.Same+found.Changed, 0 // whose content wins is another question
		}
	default:
		found, err = l.verifyRanges(ctx, ranges, nil)
	}
	if err != nil {
		return "", fmt.Errorf("look the rows on record up: %w", err)
	}
	if found.Same == found.Rows {
		return "", nil
	}
	return fmt.Sprintf("of %d rows that were in, %d are gone and %d have other content", found.Rows, found.Missing, found.Changed), nil
}

// countRanges counts the rows of ranges of files, without those that were rejected.
func (l *Load) countRanges(ctx context.Context, src *files.CSV, ranges []chunker.Range) (n int64, err error) {
	rejected, err := l.rejected(ctx)
	if err != nil {
		return 0, err
	}
	next := cutRanges(src, ranges)
	for {
		span, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		n += span.Rows
		src.Done(span)
	}
	for _, at := range rejected {
		for _, r := range ranges {
			if r.First <= at && at < r.End {
				n--
			}
		}
	}
	return n, nil
}

// countRows says what is gone if the table has fewer rows than that. Rows of others may
// hide it.
func (l *Load) countRows(ctx context.Context, atLeast int64) (gone string, err error) {
	n, err := server.Count(ctx, l.srv, l.Table.Name)
	if err != nil {
		return "", fmt.Errorf("count the rows of %s: %w", l.Table.Display(), err)
	}
	if n < atLeast {
		gone = fmt.Sprintf("it has %d rows, fewer than the %d that were in", n, atLeast)
	}
	return gone, nil
}

// checkEnd is the last look at the table of a run that ends well: whether it is the one
// that was loaded, and still has the rows. was is its identity on record.
func (l *Load) checkEnd(ctx context.Context, was *identity, res loader.Result) error {
	err := server.Again(ctx, func() error { return l.checkNow(ctx, was, res) })
	if err != nil && ctx.Err() == nil && !errors.Is(err, loader.ErrUnconfirmed) {
		err = fmt.Errorf("%w: %w", loader.ErrUnconfirmed, err)
	}
	return err
}

func (l *Load) checkNow(ctx context.Context, was *identity, res loader.Result) error {
	name := l.Table.Display()
	now, err := server.Identify(ctx, l.pool, l.srv.Info, l.Table.Name)
	switch {
	case errors.Is(err, server.ErrNoTable):
		return l.unconfirmed(name + " was dropped or renamed meanwhile")
	case err != nil:
		return err
	case was != nil && now.OID != was.OID:
		return l.unconfirmed(fmt.Sprintf("%s is another table now, number %d instead of %d: a part of the rows went into that one", name, now.OID, was.OID))
	}
	if marker := l.spec.Identity.marker(); marker != "" && l.registry != nil {
		if err := l.registry.CheckMarker(ctx, l.ID, marker); err != nil {
			return l.emptied(err)
		}
	}
	rows := int64(-1)
	if res.Positions == l.Dataset.Size().Positions {
		rows = res.Rows - res.Conflicts
	}
	gone := ""
	switch same := l.storage == "" || now.Storage == l.storage; {
	case now.Unlogged && l.registry == nil:
		gone, err = l.countRows(ctx, res.Rows-res.Conflicts)
	case same && (was == nil || was.Storage == now.Storage):
	default:
		l.note("the table was truncated or written anew during the load: its rows are looked up")
		gone, err = l.lookUp(ctx, []chunker.Range{{End: l.Dataset.Size().Positions}}, rows)
		if err == nil && gone == "" && l.registry != nil {
			err = l.recognised(ctx, now)
		}
	}
	if err == nil && gone != "" {
		err = l.unconfirmed(gone)
	}
	return err
}

func (l *Load) unconfirmed(why string) error {
	return failure.With(failure.Unconfirmed, fmt.Errorf("%w: %w: %s", loader.ErrUnconfirmed, ErrTable, why))
}

// emptied names the table in the error of its marker.
func (l *Load) emptied(err error) error {
	if !errors.Is(err, registry.ErrEmptied) || errors.Is(err, ErrTable) {
		return err
	}
	return fmt.Errorf("%w: %s: %w; ALTER TABLE … SET LOGGED, then load again", ErrTable, l.Table.Display(), err)
}

// lost says of an error of the run what the loss of confirmed rows makes of it.
func (l *Load) lost(res loader.Result, err error) error {
	if errors.Is(err, registry.ErrGaps) {
		if res.Gone == 0 {
			return l.outOfOrder()
		}
		return failure.With(failure.Unconfirmed, fmt.Errorf("%w: %w: a crash of the server has taken rows that it had confirmed, and kept later ones: %v; %s; remove the rows and load again",
			loader.ErrUnconfirmed, ErrTable, registry.ErrGaps, l.Dataset.Ordered()))
	}
	if res.Gone > 0 && l.Dataset.Size().Once && (errors.Is(err, files.ErrOnce) || errors.Is(err, files.ErrChanged)) {
		return fmt.Errorf("%w: a crash of the server has taken rows that it had confirmed, and its input cannot be read a second time", loader.ErrUnconfirmed)
	}
	return l.emptied(err)
}
