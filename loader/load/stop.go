package load

import (
	"context"

	"bulkload/loader"
)

// readUntil ends the reading of what is loaded with ctx or stop, also where it waits for a
// pipe or a network, until done is called.
func (l *Load) readUntil(ctx context.Context, stop <-chan struct{}) (done func()) {
	ctx, cancel := loader.WithStop(ctx, stop)
	still := context.AfterFunc(ctx, func() { l.Dataset.Interrupt(context.Cause(ctx)) })
	return func() { still(); cancel() }
}
