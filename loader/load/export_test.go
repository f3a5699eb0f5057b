package load

import (
	"context"

	"bulkload/loader"
	"bulkload/loader/registry"
)

// FirstRepeat says which record of a load is the first whose key an earlier one has.
func (l *Load) FirstRepeat(ctx context.Context) (string, error) { return l.verifier.FirstRepeat(ctx) }

// RunOf returns the name of a load's run in the registry.
func RunOf(l *Load) string { return l.record.run }

// QueueOf returns the queue of a load in chunks.
func QueueOf(l *Load) *registry.Queue { return l.check.queue }

// MaxRowsOf returns the rows that the chunks of a load may grow to by themselves.
func MaxRowsOf(l *Load) int64 { return l.runner.(*loader.Job).MaxRows }
