package load

import (
	"context"

	"bulkload/loader/dataset"
)

// findUnfinished refuses a new load of an input if an unfinished load of it has rows in the
// table: its rows would be duplicated, or collide.
func (o *opening) findUnfinished(ctx context.Context) error {
	if !o.looksForUnfinished() || !o.record.exists() {
		return nil
	}
	r := o.dataset.(dataset.Reader)
	list, err := o.record.registry.Unfinished(ctx, o.table.Display())
	if err != nil {
		return err
	}
	for _, l := range list {
		if name, yes := r.Reads(l.Spec); yes {
			return dataset.Contradict("load %s of %s into %s is unfinished and has loaded rows; resume it with: loader loads resume %s; or remove it with its rows: loader loads cancel %s --remove-rows; or load the file again with --again",
				l.ID, name, o.table.Display(), l.ID, l.ID)
		}
	}
	return nil
}

// looksForUnfinished reports whether an unfinished load of the same input stands in the way.
func (o *opening) looksForUnfinished() bool {
	_, reads := o.dataset.(dataset.Reader)
	return reads && o.req.Once && o.purpose == toCreate
}
