package loadertest

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// NewUser makes a user with the rights of the given statements, in which %s stands for its
// name, and returns the URL with which it comes to a database. The user stays until the
// server stops.
func (s Server) NewUser(t testing.TB, databaseURL string, grants ...string) string {
	t.Helper()
	name, password := "u"+strings.ToLower(rand.Text()[:12]), "p"
	create := "CREATE USER " + name
	if !s.Cockroach { // which takes none while it is insecure
		create += " PASSWORD '" + password + "'"
	}
	Exec(t, databaseURL, create)
	for _, grant := range grants {
		Exec(t, databaseURL, fmt.Sprintf(grant, name))
	}
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(name, password)
	if s.Cockroach {
		u.User = url.User(name)
	}
	return u.String()
}
