package loadertest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// ServersVar is the environment variable that chooses the servers of the tests: at most one
// of each product, separated by commas.
//
//	LOADER_TEST_SERVERS=cockroach-26.1,postgres-18 go test ./loader/commit
//
// "postgres-18" is that major version of PostgreSQL, installed or fetched; "postgres" is
// the one that is found without the variable. "cockroach" and names that begin with it are
// binaries on PATH. Tests on a product that is not named, or whose version is not there,
// are skipped with the reason. Without the variable the tests run on PostgreSQL and on
// cockroach, as package localdb finds them. Commands that the tests start, and servers that
// a test starts for itself, are of the same version.
const ServersVar = "LOADER_TEST_SERVERS"

// chosen is what ServersVar says.
var chosen = sync.OnceValues(func() (map[server.Product]choice, error) {
	text, ok := os.LookupEnv(ServersVar)
	if !ok || text == "" {
		return nil, nil
	}
	list, err := parseServers(text)
	if err != nil {
		return nil, err
	}
	return list, pin(list)
})

// A choice is one server of ServersVar.
type choice struct {
	name   string
	major  int   // of PostgreSQL; 0 is any
	absent error // why it cannot be started; wraps localdb.ErrNotFound
}

// parseServers reads the value of ServersVar.
func parseServers(text string) (map[server.Product]choice, error) {
	list := map[server.Product]choice{}
	for name := range strings.SplitSeq(text, ",") {
		name = strings.TrimSpace(name)
		c, p := choice{name: name}, server.PostgreSQL
		major, isPostgres := strings.CutPrefix(name, "postgres")
		switch {
		case isPostgres && major == "":
		case isPostgres && strings.HasPrefix(major, "-"):
			n, err := strconv.Atoi(major[1:])
			if err != nil || n <= 0 {
				return nil, fmt.Errorf("%s: %q: write postgres-MAJOR, such as postgres-18", ServersVar, name)
			}
			c.major = n
		case strings.HasPrefix(name, "cockroach"):
			p = server.CockroachDB
		default:
			return nil, fmt.Errorf("%s: %q is neither postgres, postgres-MAJOR nor a cockroach binary on PATH", ServersVar, name)
		}
		if earlier, twice := list[p]; twice {
			return nil, fmt.Errorf("%s: %s and %s are one product; a test process takes one version of each", ServersVar, earlier.name, name)
		}
		list[p] = c
	}
	return list, nil
}

// pin sets the variables by which package localdb, and the commands of the tests, find the
// chosen servers.
func pin(list map[server.Product]choice) error {
	if c, ok := list[server.CockroachDB]; ok {
		path, err := exec.LookPath(c.name)
		if err != nil {
			c.absent = fmt.Errorf("%w: no %s on PATH, which %s names", localdb.ErrNotFound, c.name, ServersVar)
			list[server.CockroachDB] = c
		} else if err := os.Setenv("COCKROACH_BINARY", path); err != nil {
			return err
		}
	}
	if c, ok := list[server.PostgreSQL]; ok && c.major != 0 {
		say := func(text string) { fmt.Fprintln(os.Stderr, "loadertest:", text) }
		b, err := localdb.Provide(context.Background(), server.PostgreSQL, c.major, localdb.Reporter{Line: say})
		if err != nil {
			c.absent = err
			list[server.PostgreSQL] = c
		} else if err := os.Setenv("LOADER_PG_BIN", b.Path); err != nil {
			return err
		}
	}
	return nil
}

// Find returns the binary of a product that the tests use. Its error wraps
// localdb.ErrNotFound where there is none, or where ServersVar names none.
func Find(p server.Product) (localdb.Binary, error) {
	if err := unchosen(p); err != nil {
		return localdb.Binary{}, err
	}
	return localdb.FindProduct(p)
}

// unchosen says why ServersVar leaves no server of the product.
func unchosen(p server.Product) error {
	list, err := chosen()
	if err != nil || list == nil {
		return err
	}
	c, ok := list[p]
	if !ok {
		return fmt.Errorf("%w: %s=%s names no %s", localdb.ErrNotFound, ServersVar, os.Getenv(ServersVar), p)
	}
	return c.absent
}

// SettingsVar is the environment variable with settings that the sessions of the tests on
// CockroachDB begin with, but not those of the kit's own: NAME=VALUE, separated by
// semicolons. A suite is run so once more as
//
//	LOADER_TEST_SETTINGS='default_transaction_isolation=read committed'
//	LOADER_TEST_SETTINGS='allow_unsafe_internals=off'
const SettingsVar = "LOADER_TEST_SETTINGS"

// startOptions is the parameter "options" of the settings of SettingsVar; empty without any.
var startOptions = sync.OnceValue(func() string {
	var words []string
	for pair := range strings.SplitSeq(os.Getenv(SettingsVar), ";") {
		if pair = strings.TrimSpace(pair); pair != "" {
			words = append(words, "-c "+strings.ReplaceAll(pair, " ", `\ `))
		}
	}
	return strings.Join(words, " ")
})

// withSettings adds the settings of SettingsVar to a URL.
func (s Server) withSettings(serverURL string) string {
	if startOptions() == "" || !s.Cockroach {
		return serverURL
	}
	u, err := url.Parse(serverURL)
	if err != nil {
		panic(err) // it comes from a server that we started and reached
	}
	q := u.Query()
	q.Set("options", startOptions())
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	return u.String()
}
