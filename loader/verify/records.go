package verify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/extsort"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// A recordVerifier compares the records of a complete load with the table.
type recordVerifier struct {
	*Verifier
	how      dataset.Verification
	src      loader.Source
	observe  func(int64)
	passes   int64   // over the records
	rejected []int64 // positions, ascending
	keys     extsort.Sorter
	losers   extsort.Sorter // positions of records that lost against another one of their key
	clashes  extsort.Sorter // keys whose row is not the expected record
	next     *extsort.Reader

	mu       sync.Mutex // guards what follows, and the sorters while files are read
	total    Report
	compared int64
}

// allRecords reads the records once more and compares each with the row of its key. Columns
// computed by SQL are not compared: their inputs may be gone. Sorting the keys on disk finds
// repeated keys.
func (w *Verifier) allRecords(ctx context.Context, observe func(int64)) (Report, error) {
	v := &recordVerifier{Verifier: w, how: w.Dataset.Verification(), src: w.Dataset.Source(), observe: observe, passes: 1, total: Report{First: -1}}
	var err error
	if v.rejected, err = w.rejected(ctx); err != nil {
		return Report{}, err
	}
	defer dataset.ReadUntil(ctx, v.Dataset, v.Stop)()
	defer v.keys.Close()
	defer v.losers.Close()
	defer v.clashes.Close()
	v.Dataset.Reread(true)
	defer v.Dataset.Reread(false)
	switch {
	case v.how.Keyless:
		err = v.count(ctx)
	case v.Dataset.Options().Conflict != "":
		err = v.conflicts(ctx)
	default:
		err = v.unique(ctx)
	}
	if err != nil {
		return Report{}, err
	}
	v.unknown()
	return v.total, nil
}

// unknown adds the limits of the comparison to the report.
func (v *recordVerifier) unknown() {
	say := func(s string, args ...any) { v.total.Unknown = append(v.total.Unknown, fmt.Sprintf(s, args...)) }
	if !v.total.Counted {
		say("rows that others wrote under other keys, and rows that were deleted and inserted again")
	}
	if n := len(v.rejected); n > 0 {
		say("%d rejected records", n)
	}
	if set := v.how.Computed; len(set) > 0 && !v.total.Counted {
		say("columns computed by --set: %s", strings.Join(set, ", "))
	}
	if v.total.Others > 0 {
		say("%d rows that match no record of the input: they existed before the load or were changed since", v.total.Others)
	}
}

// each calls f with the accepted records: their rows and places, and the positions of losers
// among them. Several goroutines call f at once.
func (v *recordVerifier) each(ctx context.Context, f func(ctx context.Context, c *rows.Chunk, places []rows.Place, losers map[int64]bool) error) error {
	spans := loader.Cut(v.src, v.all())
	var dealing sync.Mutex // guards spans and v.next
	group, ctx := errgroup.WithContext(ctx)
	for range max(v.Workers, 1) {
		group.Go(func() error {
			c, part := rows.NewChunk(v.src.Columns()), rows.NewChunk(v.src.Columns())
			for {
				select {
				case <-v.Stop:
					return loader.ErrStopped
				default:
				}
				dealing.Lock()
				span, err := spans.Next(spanRows)
				var losers map[int64]bool
				if err == nil {
					losers, err = v.losersUntil(span.End())
				}
				dealing.Unlock()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err == nil {
					err = v.src.Fill(c, span)
				}
				var kept []int
				var places []rows.Place
				if err == nil {
					for i := range c.Len() {
						at := c.Origin.Place(i)
						if _, bad := slices.BinarySearch(v.rejected, at.Position); !bad {
							kept, places = append(kept, i), append(places, at)
						}
					}
					c.CopyList(part, kept)
					err = f(ctx, part, places, losers)
				}
				if err != nil {
					return fmt.Errorf("verify %s: %w", loader.Place(v.src, span), err)
				}
				release(v.src, span)
				v.mu.Lock()
				v.compared += span.Count
				if v.observe != nil {
					v.observe(v.compared / v.passes)
				}
				v.mu.Unlock()
			}
		})
	}
	return group.Wait()
}

// losersUntil returns the positions of losers below end. It is called with ascending ends.
func (v *recordVerifier) losersUntil(end int64) (map[int64]bool, error) {
	if v.next == nil {
		return nil, nil
	}
	list := map[int64]bool{}
	for {
		r, ok := v.next.Peek()
		position := int64(binary.BigEndian.Uint64(r[:8]))
		if !ok || position >= end {
			return list, nil
		}
		list[position] = true
		if _, err := v.next.Next(); err != nil {
			return nil, err
		}
	}
}

// record encodes a key and a number.
func record(key commit.KeyHash, n int64) (r extsort.Record) {
	copy(r[:], key[:])
	binary.BigEndian.PutUint64(r[len(key):], uint64(n))
	return r
}

// addKeys adds the keys of rows to the sorter.
func (v *recordVerifier) addKeys(ctx context.Context, c *rows.Chunk, places []rows.Place) error {
	keys, err := v.Committer.KeyHashes(ctx, c)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, key := range keys {
		if err := v.keys.Add(record(key, places[i].Position)); err != nil {
			return err
		}
	}
	return nil
}

// groups calls f for each key of s, with the key's numbers, ascending.
func groups(s *extsort.Sorter, f func(numbers []int64) error) error {
	sorted, err := s.Sorted()
	if err != nil {
		return err
	}
	var key commit.KeyHash
	var numbers []int64
	for {
		r, err := sorted.Next()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(numbers) > 0 && (err != nil || commit.KeyHash(r[:len(key)]) != key) {
			if err := f(numbers); err != nil {
				return err
			}
			numbers = numbers[:0]
		}
		if err != nil {
			return nil
		}
		key = commit.KeyHash(r[:len(key)])
		numbers = append(numbers, int64(binary.BigEndian.Uint64(r[len(key):])))
	}
}

// unique compares records without --on-conflict: each of them is a row.
func (v *recordVerifier) unique(ctx context.Context) error {
	sorts := true
	if err := v.Committer.CheckKeys(ctx); err != nil {
		if server.Classify(err) != server.Permanent {
			return err
		}
		sorts = false
		v.total.Unknown = append(v.total.Unknown, "whether records repeat a key: "+server.Reason(err))
	}
	err := v.each(ctx, func(ctx context.Context, c *rows.Chunk, places []rows.Place, _ map[int64]bool) error {
		states, err := v.Committer.States(ctx, c)
		if err == nil && sorts && c.Len() > 0 {
			err = v.addKeys(ctx, c, places)
		}
		if err != nil {
			return err
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		for i, s := range states {
			v.add(s, places[i])
		}
		return nil
	})
	if err != nil {
		return err
	}
	first := int64(-1)
	err = groups(&v.keys, func(numbers []int64) error {
		if len(numbers) > 1 {
			v.total.Repeated += int64(len(numbers) - 1)
			if first < 0 || numbers[1] < first {
				first = numbers[1]
			}
		}
		return nil
	})
	if err == nil && first >= 0 && (v.total.First < 0 || first < v.total.First) {
		err = v.placeOf(ctx, first)
	}
	return err
}

// add counts a record. The verifier is locked.
func (v *recordVerifier) add(s commit.RowState, at rows.Place) {
	v.total.Rows++
	switch s {
	case commit.SameRow:
		v.total.Same++
		return
	case commit.OtherRow:
		v.total.Changed++
	default:
		v.total.Missing++
	}
	if v.total.First < 0 || at.Position < v.total.First {
		v.total.First, v.total.Place = at.Position, at.String()
	}
}

// placeOf records the record at a position as the first that differs.
func (v *recordVerifier) placeOf(ctx context.Context, position int64) error {
	v.total.First = position
	err := v.eachRow(ctx, []chunker.Range{v.all()}, func(_ *rows.Chunk, places []rows.Place) error {
		for _, at := range places {
			if at.Position == position {
				v.total.Place = at.String()
				return io.EOF
			}
		}
		return nil
	})
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return err
}

// conflicts compares records loaded with --on-conflict: the last record of a key, or the first,
// is its row.
func (v *recordVerifier) conflicts(ctx context.Context) error {
	v.passes = 2
	update := v.Dataset.Options().Conflict == commit.UpdateRow
	// 1. The losers: records that another record of their key replaced or prevented.
	err := v.each(ctx, func(ctx context.Context, c *rows.Chunk, places []rows.Place, _ map[int64]bool) error {
		if c.Len() == 0 {
			return nil
		}
		return v.addKeys(ctx, c, places)
	})
	if err == nil {
		err = groups(&v.keys, func(numbers []int64) error {
			gave := numbers[1:]
			if update {
				gave = numbers[:len(numbers)-1]
			}
			for _, n := range gave {
				var r extsort.Record
				binary.BigEndian.PutUint64(r[:], uint64(n))
				if err := v.losers.Add(r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err == nil {
		v.next, err = v.losers.Sorted()
	}
	if err != nil {
		return err
	}
	// 2. The rows: 0 marks a key whose row is not the expected record, 1 a key whose row is
	// a loser.
	err = v.each(ctx, func(ctx context.Context, c *rows.Chunk, places []rows.Place, losers map[int64]bool) error {
		states, err := v.Committer.States(ctx, c)
		if err != nil {
			return err
		}
		clash := func(i int) bool {
			return losers[places[i].Position] && states[i] == commit.SameRow || !losers[places[i].Position] && states[i] == commit.OtherRow
		}
		var keys []commit.KeyHash
		for i := range states {
			if clash(i) {
				if keys, err = v.Committer.KeyHashes(ctx, c); err != nil {
					return err
				}
				break
			}
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		for i, s := range states {
			lost := losers[places[i].Position]
			if !lost {
				v.add(s, places[i])
			}
			if clash(i) {
				n := int64(0)
				if lost {
					n = 1
				}
				if err := v.clashes.Add(record(keys[i], n)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	// 3. A row equal to a loser is a wrong record of the input; any other row is from
	// elsewhere.
	err = groups(&v.clashes, func(numbers []int64) error {
		if numbers[0] == 0 && numbers[len(numbers)-1] == 1 {
			v.total.Order++
		}
		return nil
	})
	v.total.Changed -= v.total.Order
	if !update {
		v.total.Others, v.total.Changed = v.total.Changed, 0
	}
	return err
}

// count compares only the number of rows: without keys, rows cannot be compared.
func (v *recordVerifier) count(ctx context.Context) error {
	err := v.each(ctx, func(_ context.Context, c *rows.Chunk, _ []rows.Place, _ map[int64]bool) error {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.total.Rows += int64(c.Len())
		return nil
	})
	if err != nil {
		return err
	}
	if v.total.There, err = v.countTable(ctx); err != nil {
		return err
	}
	loads, err := v.Registry.List(ctx)
	if err != nil {
		return err
	}
	v.total.Counted, v.total.Alone = true, v.WasEmpty
	for _, x := range loads {
		if x.ID != v.ID && x.Target == v.Table.Display() {
			v.total.Alone = false
		}
	}
	v.total.Unknown = append(v.total.Unknown,
		"the content of the rows: the input does not hold the whole primary key, so rows are only counted")
	if more := v.total.There - v.total.Rows; more > 0 && !v.total.Alone {
		v.total.Unknown = append(v.total.Unknown, fmt.Sprintf("whether %d additional rows are duplicates: the table had rows before, or other loads wrote into it", more))
	}
	return nil
}
