package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// loaded implements dataset.Opening.Loaded. A user who may not read the registry has no records.
func (o *opening) loaded(ctx context.Context, table pgx.Identifier) ([]json.RawMessage, error) {
	if o.req.NoRegistry {
		return nil, nil
	}
	r, err := o.ahead.Open(ctx, o.pool, o.srv.Info)
	if errors.Is(err, registry.ErrNoRegistry) || err != nil && server.Classify(err) == server.Refused {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := r.Finished(ctx, o.dataset.Facts().Kind, server.Display(table))
	if err != nil || len(list) == 0 {
		return nil, err
	}
	now, err := server.Identify(ctx, o.pool, o.srv.Info, table)
	if err != nil {
		return nil, fmt.Errorf("identify %s: %w", server.Display(table), err)
	}
	var specs []json.RawMessage
	for _, l := range list {
		var s spec
		if json.Unmarshal(l.Spec, &s) == nil && s.Identity != nil && s.Identity.OID == now.OID && s.Identity.Storage == now.Storage {
			specs = append(specs, l.Spec)
		}
	}
	return specs, nil
}
