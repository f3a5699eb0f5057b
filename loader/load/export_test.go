package load

import "context"

// FirstRepeat is firstRepeat.
func (l *Load) FirstRepeat(ctx context.Context) (string, error) { return l.firstRepeat(ctx) }
