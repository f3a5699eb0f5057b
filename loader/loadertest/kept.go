package loadertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/server"
)

// kept are the kit's own connections to databases that are there for longer, by URL, each
// while nobody uses it: PostgreSQL makes a process for each new one.
var kept struct {
	sync.Mutex
	idle map[string]*pgx.Conn // of a URL that is not kept there is no entry
	told map[string]*server.Server
}

// keep has withConn keep its connection to the URL until forget.
func keep(url string) {
	kept.Lock()
	defer kept.Unlock()
	if kept.idle == nil {
		kept.idle, kept.told = map[string]*pgx.Conn{}, map[string]*server.Server{}
	}
	kept.idle[url] = nil
}

// forget ends what keep began.
func forget(ctx context.Context, url string) error {
	c := takeKept(url)
	kept.Lock()
	delete(kept.idle, url)
	delete(kept.told, url)
	kept.Unlock()
	if c == nil {
		return nil
	}
	return c.Close(ctx)
}

// forgetAll is forget of all.
func forgetAll(ctx context.Context) error {
	kept.Lock()
	var urls []string
	for url := range kept.idle {
		urls = append(urls, url)
	}
	kept.Unlock()
	var errs []error
	for _, url := range urls {
		errs = append(errs, forget(ctx, url))
	}
	return errors.Join(errs...)
}

// takeKept returns the idle connection to a URL, or nil.
func takeKept(url string) *pgx.Conn {
	kept.Lock()
	defer kept.Unlock()
	c := kept.idle[url]
	if c != nil {
		kept.idle[url] = nil
	}
	return c
}

// giveBack makes c the idle connection of its URL, or closes it.
func giveBack(ctx context.Context, url string, c *pgx.Conn) error {
	kept.Lock()
	defer kept.Unlock()
	if idle, ok := kept.idle[url]; ok && idle == nil && !c.IsClosed() && c.PgConn().TxStatus() == 'I' {
		kept.idle[url] = c
		return nil
	}
	return c.Close(ctx)
}

// Connect returns a connection of its own to a URL, which the end of the test closes.
func Connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// Open reaches the server at a URL, or fails the test. A database of NewDatabase is asked
// once what it is; through a proxy each call connects.
func Open(t testing.TB, url string) *server.Server {
	t.Helper()
	kept.Lock()
	srv := kept.told[url]
	kept.Unlock()
	if srv != nil {
		return srv
	}
	config, err := server.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	if srv, err = server.Open(context.Background(), config, ""); err != nil {
		t.Fatal(err)
	}
	kept.Lock()
	defer kept.Unlock()
	if _, ok := kept.idle[url]; ok {
		kept.told[url] = srv
	}
	return srv
}

// keptFiles are the sockets of the kit's own connections that wait, as openFiles calls them.
func keptFiles() map[string]bool {
	files := map[string]bool{}
	kept.Lock()
	for _, c := range kept.idle {
		addSocket(files, c)
	}
	kept.Unlock()
	drops.Lock()
	for _, d := range drops.byURL {
		addSocket(files, d.conn)
	}
	drops.Unlock()
	return files
}

// addSocket adds the socket of a connection, if it is one of TCP.
func addSocket(files map[string]bool, c *pgx.Conn) {
	if c == nil {
		return
	}
	s, ok := c.PgConn().Conn().(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		if target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil {
			files[target] = true
		}
	})
}
