package loadertest

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// NewUser makes a user who may connect to a database, and returns its name and the URL with
// which it comes. The user stays until the server stops. It is made before the database is
// used: CockroachDB 21.1 takes minutes to grant rights on one that sessions know, or on
// such a schema.
func (s Server) NewUser(t testing.TB, databaseURL string) (name, as string) {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	name = "u" + strings.ToLower(rand.Text()[:12])
	create := "CREATE USER " + name
	u.User = url.User(name)
	if !s.Cockroach { // which takes no password while it is insecure
		create += " PASSWORD 'p'"
		u.User = url.UserPassword(name, "p")
	}
	Exec(t, s.URL(), create, fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s", strings.TrimPrefix(u.Path, "/"), name))
	return name, u.String()
}
