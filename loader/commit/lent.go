package commit

import (
	"io"
	"sync"
)

// A lentReader reads data until its owner takes it back. CopyFrom of pgx 5.12 returns while its
// goroutine still reads, if the server ends the session; the data is in use again by then.
type lentReader struct {
	mu   sync.Mutex
	data []byte // what is left
	back bool
}

func (r *lentReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.back:
		return 0, io.ErrClosedPipe
	case len(r.data) == 0:
		return 0, io.EOF
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	return n, nil
}

// takeBack returns when no Read uses the data, nor will.
func (r *lentReader) takeBack() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.data, r.back = nil, true
}
