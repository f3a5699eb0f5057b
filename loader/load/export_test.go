package load

import "context"

// FirstRepeat is firstRepeat.
func (l *Load) FirstRepeat(ctx context.Context) (string, error) { return l.firstRepeat(ctx) }

// RunOf returns the name of a load's run in the registry.
func RunOf(l *Load) string { return l.run }
