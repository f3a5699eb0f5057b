package load

import (
	"context"
	"errors"
	"fmt"

	"bulkload/loader"
)

// beforeRows says that a load was stopped before it had begun.
func beforeRows(err error) error {
	if errors.Is(err, loader.ErrStopped) {
		return fmt.Errorf("%w before the first row; nothing was loaded", err)
	}
	return err
}

// readUntil ends the reading of the load's files with ctx or stop, also where it waits
// for a pipe or a network, until done is called.
func (l *Load) readUntil(ctx context.Context, stop <-chan struct{}) (done func()) {
	if l.csv == nil {
		return func() {}
	}
	ctx, cancel := loader.WithStop(ctx, stop)
	still := context.AfterFunc(ctx, func() { l.csv.Interrupt(context.Cause(ctx)) })
	return func() { still(); cancel() }
}
