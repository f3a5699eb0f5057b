package loadertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader/server"
)

// drops are the databases of CockroachDB that are being dropped, one at a time on each server. It
// takes longer than many a test, and so nobody waits for it but the next drop, and Main.
var drops struct {
	sync.Mutex
	byURL map[string]*drop // by the server's URL
}

// A drop is under way on its connection until wait.
type drop struct {
	conn     *pgx.Conn
	database string
	answer   *pgconn.MultiResultReader // nil: none is under way
}

// dropLater begins to drop a database, and returns the error of the drop before.
func (s Server) dropLater(ctx context.Context, name string) error {
	drops.Lock()
	defer drops.Unlock()
	if drops.byURL == nil {
		drops.byURL = map[string]*drop{}
	}
	d := drops.byURL[s.url]
	if d == nil || d.conn.IsClosed() {
		conn, err := connectKit(ctx, s.url)
		if err != nil {
			return err
		}
		d = &drop{conn: conn}
		drops.byURL[s.url] = d
	}
	err := d.wait()
	d.database = name
	d.answer = d.begin()
	return err
}

// wait waits until no drop is under way, and returns its error. A database with a table that an
// IMPORT leaves is dropped once its job has gone: that goes on behind the load that cancelled it.
func (d *drop) wait() error {
	if d.answer == nil {
		return nil
	}
	answer := d.answer
	d.answer = nil
	socket := d.conn.PgConn().Conn()
	deadline := time.Now().Add(startTimeout)
	if err := socket.SetReadDeadline(deadline); err != nil {
		return err
	}
	err := answer.Close()
	for server.Code(err) == pgerrcode.ObjectNotInPrerequisiteState && time.Now().Before(deadline) {
		time.Sleep(100 * time.Millisecond)
		err = d.begin().Close()
	}
	if err == nil {
		err = socket.SetReadDeadline(time.Time{})
	}
	switch {
	case server.Code(err) == pgerrcode.InvalidCatalogName: // the test may have dropped it
		return nil
	case err == nil, server.Code(err) == "" && !errors.Is(err, os.ErrDeadlineExceeded): // the server may have gone
		return nil
	}
	return fmt.Errorf("drop database %s: %w", d.database, err)
}

// begin sends the statement. A context that cannot end needs no goroutine, which would be taken
// for one that is left.
func (d *drop) begin() *pgconn.MultiResultReader {
	return d.conn.PgConn().Exec(context.Background(), "DROP DATABASE "+d.database+" CASCADE")
}

// endDrop waits for the drop on a server, and closes its connection.
func endDrop(ctx context.Context, url string) error {
	drops.Lock()
	defer drops.Unlock()
	d := drops.byURL[url]
	if d == nil {
		return nil
	}
	delete(drops.byURL, url)
	err := d.wait()
	d.conn.Close(ctx) // fails where the server has gone
	return err
}

// endDrops is endDrop of all servers.
func endDrops(ctx context.Context) error {
	drops.Lock()
	urls := slices.Collect(maps.Keys(drops.byURL))
	drops.Unlock()
	var errs []error
	for _, url := range urls {
		errs = append(errs, endDrop(ctx, url))
	}
	return errors.Join(errs...)
}
