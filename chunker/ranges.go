package chunker

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Range is a half-open interval [First,End) of positions: row numbers or byte
// offsets.
type Range struct{ First, End int64 }

// Len returns the number of positions in r.
func (r Range) Len() int64 { return r.End - r.First }

// Ranges is a set of positions, stored as disjoint, ascending, non-empty ranges that do not
// touch. The zero value is the empty set. It is not safe for concurrent use.
//
// Checkpoints are Ranges, never a high-water mark: chunks finish out of order, and a resume
// with another chunk size must still know exactly which positions are committed.
type Ranges struct{ list []Range }

// Add puts r into the set. An empty range changes nothing.
func (s *Ranges) Add(r Range) {
	if r.End <= r.First {
		return
	}
	// Index i is the first range that touches r or lies after it, j the first that lies wholly
	// after it. All ranges between them merge into r.
	i, _ := slices.BinarySearchFunc(s.list, r.First, func(x Range, at int64) int { return cmp.Compare(x.End, at) })
	j := i
	for j < len(s.list) && s.list[j].First <= r.End {
		r.First = min(r.First, s.list[j].First)
		r.End = max(r.End, s.list[j].End)
		j++
	}
	s.list = slices.Replace(s.list, i, j, r)
}

// AddAll puts every range of t into s.
func (s *Ranges) AddAll(t Ranges) {
	for _, r := range t.list {
		s.Add(r)
	}
}

// All returns the ranges in ascending order. The slice belongs to the set and is valid until
// the next Add.
func (s *Ranges) All() []Range { return s.list }

// Len returns the number of positions in the set.
func (s *Ranges) Len() int64 {
	var n int64
	for _, r := range s.list {
		n += r.Len()
	}
	return n
}

// Covers reports whether every position of r is in the set.
func (s *Ranges) Covers(r Range) bool {
	if r.End <= r.First {
		return true
	}
	for _, x := range s.list {
		if x.First <= r.First && r.First < x.End {
			return r.End <= x.End
		}
	}
	return false
}

// Gaps returns the parts of r that are not in the set, in ascending order.
func (s *Ranges) Gaps(r Range) []Range {
	var gaps []Range
	at := r.First
	for _, x := range s.list {
		if x.End <= at {
			continue
		}
		if x.First >= r.End {
			break
		}
		if x.First > at {
			gaps = append(gaps, Range{at, x.First})
		}
		at = x.End
	}
	if at < r.End {
		gaps = append(gaps, Range{at, r.End})
	}
	return gaps
}

// String returns the set as "0-1000,3000-4000", with exclusive ends. Checkpoints are stored in
// this form, and ParseRanges reads it.
func (s *Ranges) String() string {
	var b strings.Builder
	for i, r := range s.list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatInt(r.First, 10))
		b.WriteByte('-')
		b.WriteString(strconv.FormatInt(r.End, 10))
	}
	return b.String()
}

// ParseRanges parses the result of Ranges.String. The error says that the text is malformed or
// has negative positions.
func ParseRanges(text string) (Ranges, error) {
	var s Ranges
	if text == "" {
		return s, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		first, end, ok := strings.Cut(part, "-")
		if !ok {
			return Ranges{}, fmt.Errorf("parse ranges: %q is not first-end", part)
		}
		a, errA := strconv.ParseInt(first, 10, 64)
		b, errB := strconv.ParseInt(end, 10, 64)
		if errA != nil || errB != nil || a < 0 || b < a {
			return Ranges{}, fmt.Errorf("parse ranges: %q is not first-end", part)
		}
		s.Add(Range{a, b})
	}
	return s, nil
}
