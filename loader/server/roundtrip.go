package server

import (
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// A trip is the shortest time from a question to its answer on the connections of a server.
type trip struct{ shortest atomic.Int64 }

// tripKey is the CustomData key of a connection's trip.
const tripKey = "loader trip"

// noteTrip records the time of a round trip of conn, including the server's work for a short query.
func noteTrip(conn *pgx.Conn, took time.Duration) {
	t, ok := conn.PgConn().CustomData()[tripKey].(*trip)
	if !ok {
		return
	}
	for {
		was := t.shortest.Load()
		if was > 0 && was <= int64(took) || t.shortest.CompareAndSwap(was, int64(took)) {
			return
		}
	}
}

// RoundTrip returns the shortest time that an answer of the server took so far, with its work
// for a short query. It gets closer to the network's round trip with each question.
func (s *Server) RoundTrip() time.Duration {
	if s.trip == nil {
		return 0
	}
	return time.Duration(s.trip.shortest.Load())
}
