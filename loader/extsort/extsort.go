// Package extsort sorts more records than memory holds, in a temporary file. It gives the
// records no meaning.
package extsort

import (
	"bufio"
	"bytes"
	"container/heap"
	"fmt"
	"io"
	"os"
	"slices"
)

// A Record is an element to sort. Records are ordered by their bytes.
type Record [24]byte

// memory is the number of records that are sorted in memory: 24 MiB.
const memory = 1 << 20

// A Sorter sorts records. The zero value is ready for use, by one goroutine at a time. Close
// it after use.
type Sorter struct {
	// Memory is the number of records that are held in memory; zero is about 24 MiB.
	Memory int

	held []Record
	file *os.File // the runs, each sorted, one behind the other
	ends []int64
	out  *bufio.Writer
}

// Add adds a record.
func (s *Sorter) Add(r Record) error {
	limit := s.Memory
	if limit == 0 {
		limit = memory
	}
	s.held = append(s.held, r)
	if len(s.held) < limit {
		return nil
	}
	return s.spill()
}

// spill writes the records in memory to the file. The file's name is removed at once where the
// system allows that: nothing is left, however the process ends.
func (s *Sorter) spill() error {
	if s.file == nil {
		f, err := os.CreateTemp("", "loader-sort-*")
		if err != nil {
			return fmt.Errorf("sort on disk: %w", err)
		}
		_ = os.Remove(f.Name())
		s.file, s.out = f, bufio.NewWriterSize(f, 1<<20)
	}
	sortRecords(s.held)
	end := int64(0)
	if n := len(s.ends); n > 0 {
		end = s.ends[n-1]
	}
	for i := range s.held {
		if _, err := s.out.Write(s.held[i][:]); err != nil {
			return fmt.Errorf("sort on disk: %w", err)
		}
	}
	if err := s.out.Flush(); err != nil {
		return fmt.Errorf("sort on disk: %w", err)
	}
	s.ends = append(s.ends, end+int64(len(s.held)*len(Record{})))
	s.held = s.held[:0]
	return nil
}

func sortRecords(list []Record) {
	slices.SortFunc(list, func(a, b Record) int { return bytes.Compare(a[:], b[:]) })
}

// Close removes the files.
func (s *Sorter) Close() {
	if s.file != nil {
		s.file.Close()
		_ = os.Remove(s.file.Name()) // where it could not lose its name before
		s.file = nil
	}
}

// Sorted returns the records in ascending order. No more are added then.
func (s *Sorter) Sorted() (*Reader, error) {
	sortRecords(s.held)
	r := &Reader{}
	if len(s.held) > 0 {
		r.runs = append(r.runs, &run{held: s.held})
	}
	begin := int64(0)
	for _, end := range s.ends {
		r.runs = append(r.runs, &run{in: bufio.NewReaderSize(io.NewSectionReader(s.file, begin, end-begin), 1<<16)})
		begin = end
	}
	for i := 0; i < len(r.runs); {
		ok, err := r.runs[i].next()
		if err != nil {
			return nil, err
		}
		if ok {
			i++
		} else {
			r.runs = slices.Delete(r.runs, i, i+1)
		}
	}
	heap.Init(&r.runs)
	return r, nil
}

// A Reader gives sorted records.
type Reader struct{ runs runs }

// Peek returns what Next will return; false is the end.
func (r *Reader) Peek() (Record, bool) {
	if len(r.runs) == 0 {
		return Record{}, false
	}
	return r.runs[0].at, true
}

// Next returns the next record; io.EOF behind the last.
func (r *Reader) Next() (Record, error) {
	if len(r.runs) == 0 {
		return Record{}, io.EOF
	}
	top := r.runs[0]
	got := top.at
	ok, err := top.next()
	switch {
	case err != nil:
		return Record{}, err
	case ok:
		heap.Fix(&r.runs, 0)
	default:
		heap.Pop(&r.runs)
	}
	return got, nil
}

// A run gives sorted records, from memory or from disk.
type run struct {
	at   Record
	held []Record
	in   *bufio.Reader
}

// next moves on; false is the end.
func (r *run) next() (bool, error) {
	if r.in == nil {
		if len(r.held) == 0 {
			return false, nil
		}
		r.at, r.held = r.held[0], r.held[1:]
		return true, nil
	}
	_, err := io.ReadFull(r.in, r.at[:])
	if err == io.EOF {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("sort on disk: %w", err)
	}
	return true, nil
}

// runs is a heap by the record that comes next.
type runs []*run

func (h runs) Len() int           { return len(h) }
func (h runs) Less(i, j int) bool { return bytes.Compare(h[i].at[:], h[j].at[:]) < 0 }
func (h runs) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runs) Push(x any)        { *h = append(*h, x.(*run)) }
func (h *runs) Pop() any {
	list := *h
	last := list[len(list)-1]
	*h = list[:len(list)-1]
	return last
}
