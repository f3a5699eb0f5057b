package bank

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/jackc/pgx/v5"
)

// MaxSampled bounds the accounts from which a run draws its pairs. That number is small enough
// to keep in memory and to read at once even from a table of 10^9 accounts, and large enough
// that transfers seldom conflict.
const MaxSampled = 4096

// sample reads the ids from which pairs are drawn. For a small table these are all ids. For a
// larger one they are the ids that follow random places between the lowest and the highest id,
// so an id after a wide gap is chosen more often than others.
func (b *Bank) sample(ctx context.Context) error {
	var ids []int64
	err := b.retry(ctx, "read account ids", func(ctx context.Context) error {
		found, err := b.pool.Query(ctx, b.sql.first, MaxSampled+1)
		if err != nil {
			return err
		}
		ids, err = pgx.CollectRows(found, pgx.RowTo[int64])
		return err
	})
	if err != nil {
		return err
	}
	b.All = len(ids) <= MaxSampled
	if !b.All {
		err = b.retry(ctx, "sample account ids", func(ctx context.Context) (err error) {
			ids, err = b.probes(ctx)
			return err
		})
		if err != nil {
			return err
		}
	}
	b.ids, b.Sampled = ids, len(ids)
	switch name := b.Accounts.Display(); len(ids) {
	case 0:
		return fmt.Errorf("%w: %s is empty; loader accounts fills it", ErrFew, name)
	case 1:
		return fmt.Errorf("%w: %s has only one, id %d; loader accounts adds more", ErrFew, name, ids[0])
	}
	return nil
}

// probes returns the ids at MaxSampled random places, sorted, without duplicates.
func (b *Bank) probes(ctx context.Context) ([]int64, error) {
	var low, high int64
	if err := b.pool.QueryRow(ctx, b.sql.bounds).Scan(&low, &high); err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(b.Seed, ^uint64(0)))
	width := uint64(high) - uint64(low) // correct even if the signed difference overflows
	var batch pgx.Batch
	ids := make([]int64, 0, MaxSampled+2)
	for range MaxSampled {
		place := rng.Uint64()
		if width < ^uint64(0) {
			place = rng.Uint64N(width + 1)
		}
		batch.Queue(b.sql.probe, int64(uint64(low)+place)).QueryRow(func(row pgx.Row) error {
			var id int64
			err := row.Scan(&id)
			if errors.Is(err, pgx.ErrNoRows) {
				return nil // the highest account was deleted meanwhile
			}
			ids = append(ids, id)
			return err
		})
	}
	if err := b.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, err
	}
	// All places may lie in the same wide gap.
	ids = append(ids, low, high)
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// pairs draws candidate pairs of source and sink for one transfer until one is usable. The
// pairs depend only on the seed, the transfer's number and the sampled ids.
type pairs struct {
	ids []int64
	rng *rand.Rand
}

func (b *Bank) pairs(n int64) pairs {
	return pairs{b.ids, rand.New(rand.NewPCG(b.Seed, uint64(n)))}
}

func (p pairs) next() (source, sink int64) {
	i := p.rng.IntN(len(p.ids))
	j := p.rng.IntN(len(p.ids) - 1)
	if j >= i {
		j++
	}
	return p.ids[i], p.ids[j]
}
