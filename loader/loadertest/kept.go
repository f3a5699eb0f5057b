package loadertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/jackc/pgx/v5"
)

// kept are the kit's own connections to databases that are there for longer, by URL, each
// while nobody uses it: PostgreSQL makes a process for each new one.
var kept struct {
	sync.Mutex
	idle map[string]*pgx.Conn // of a URL that is not kept there is no entry
}

// keep has withConn keep its connection to the URL until forget.
func keep(url string) {
	kept.Lock()
	defer kept.Unlock()
	if kept.idle == nil {
		kept.idle = map[string]*pgx.Conn{}
	}
	kept.idle[url] = nil
}

// forget ends what keep began.
func forget(ctx context.Context, url string) error {
	c := takeKept(url)
	kept.Lock()
	delete(kept.idle, url)
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

// keptFiles are the sockets of the idle connections, as openFiles calls them.
func keptFiles() map[string]bool {
	kept.Lock()
	defer kept.Unlock()
	files := map[string]bool{}
	for _, c := range kept.idle {
		if c == nil {
			continue
		}
		s, ok := c.PgConn().Conn().(*net.TCPConn)
		if !ok {
			continue
		}
		if raw, err := s.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) {
				if target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil {
					files[target] = true
				}
			})
		}
	}
	return files
}
