package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// CancelUnused cancels a load that has committed no row and has no run at work, if unused
// returns true. unused runs in the transaction, so its changes commit together with the
// cancellation or not at all. Nothing happens if another load of the table is unfinished; a load
// of a former table of that name, with another OID, is none of these.
// ended reports whether the load was cancelled.
func (r *Registry) CancelUnused(ctx context.Context, load string, table uint32, unused func(context.Context, pgx.Tx) (bool, error)) (ended bool, err error) {
	err = r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		ended = false
		b, err := r.stateForUpdate(ctx, tx, load, nil)
		if err != nil {
			return err
		}
		if b.state == Done || b.state == Cancelled || len(b.leases) > 0 || b.done.Len() > 0 || b.open.Len() > 0 {
			return nil
		}
		found, err := tx.Query(ctx, `SELECT spec FROM loader.loads WHERE id <> $1 AND state NOT IN ($2, $3)
			AND target = (SELECT target FROM loader.loads WHERE id = $1)`, load, string(Done), string(Cancelled))
		if err != nil {
			return err
		}
		others, err := pgx.CollectRows(found, pgx.RowTo[string])
		if err != nil || slices.ContainsFunc(others, func(spec string) bool { return mayUse(spec, table) }) {
			return err
		}
		ok, err := unused(ctx, tx)
		if err != nil || !ok {
			return err
		}
		ended = true
		_, err = tx.Exec(ctx, `UPDATE loader.loads SET state = $2 WHERE id = $1`, load, string(Cancelled))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("cancel load %s: %w", load, err)
	}
	return ended, nil
}

// mayUse reports whether the load of a specification may be of the table with that OID. A
// specification of an older version has no OID.
func mayUse(spec string, table uint32) bool {
	var s struct {
		Identity *struct {
			OID uint32 `json:"oid"`
		} `json:"identity"`
	}
	return json.Unmarshal([]byte(spec), &s) != nil || s.Identity == nil || s.Identity.OID == table
}
