package loader

import "context"

// WithStop returns a context that ends with cause ErrStopped when stop is closed, and a
// function that releases its resources.
func WithStop(ctx context.Context, stop <-chan struct{}) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-stop:
			cancel(ErrStopped)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}
