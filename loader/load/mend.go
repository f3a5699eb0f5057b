package load

import (
	"context"
	"errors"
	"fmt"

	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/files"
	"bulkload/loader/registry"
)

// reopen checks that the input of a recorded load is unchanged. Flags of this run that differ
// from the record are recorded: the same rejects apply to all runs.
func (o *opening) reopen(ctx context.Context) error {
	err := o.dataset.Reopen(ctx, o.forDataset())
	if err != nil {
		return o.mend(ctx, err)
	}
	if in := o.req.Input; in == nil || in.MaxErrors == nil && in.MaxRecordBytes == 0 {
		return nil
	}
	if err := o.record.replace(ctx); err != nil {
		return err
	}
	o.record.text, err = o.record.encode()
	return err
}

// mend resumes the load with a changed file, if the file still has all committed chunks
// unchanged; why is the detected change. The record then has their new positions.
func (o *opening) mend(ctx context.Context, why error) error {
	r := o.record
	m, ok := o.dataset.(dataset.Mender)
	if !ok || !o.req.Mend || !errors.Is(why, files.ErrChanged) || o.state != registry.Loading || r.spec.Import != nil {
		return why
	}
	was, err := r.registry.Standing(ctx, r.load, r.run, r.spec.CommitMode != commit.Statement)
	if err != nil {
		return fmt.Errorf("%w; %w", why, err)
	}
	in := make([]dataset.Committed, len(was.Parts))
	for i, p := range was.Parts {
		in[i] = dataset.Committed{Range: p.Range, Hash: p.Hash, Records: p.HashedRange.Records, Open: p.Open}
	}
	moved, err := m.Mend(ctx, o.forDataset(), in)
	if err != nil {
		return err
	}
	text, err := r.encode()
	if err != nil {
		return err
	}
	move := registry.Moving{Load: r.was, Spec: text, Positions: o.dataset.Size().Positions, Was: was}
	for _, c := range moved {
		move.To, move.Shift = append(move.To, c.Range), append(move.Shift, c.Shift)
	}
	if err := r.registry.Move(ctx, move); err != nil {
		return err
	}
	r.text = text
	r.was.Generation++
	o.tell(fmt.Sprintf("the input has changed since the load began; its %d loaded records are unchanged, and the rest is loaded now", was.Records()))
	return nil
}
