package server_test

import (
	"errors"
	"strings"
	"testing"

	"bulkload/loader/server"
)

// TestMalformedStringsAreNotQuoted mistypes connection strings such that a part of the password
// stands in the place of something that is printed: each is refused, without a word of it.
func TestMalformedStringsAreNotQuoted(t *testing.T) {
	const help = "write @ as %40"
	for _, text := range []string{
		"postgres://u:p@SECRET@localhost/db", "postgres://u:12/SECRET@localhost/db", "postgres://u:12?SECRET@localhost/db", "postgres://u:12#SECRET@localhost/db",
		"postgres://u:a@SECRET?b@localhost/db", "postgres://u:a@SECRET/b@localhost/db", "postgres://u:a@SECRET#b@localhost/db", "postgres://u:a@localhost?SECRET=1@localhost/db",
		"postgres://u@localhost;password=SECRET/db", "postgres://u@localhost/db;password=SECRET", "postgres://u@localhost/db&password=SECRET",
		"postgres://u@localhost/db?sslmode=disable;password=SECRET", "postgres://u@localhost/db?sslmode=disable?password=SECRET", "postgres://u;password=SECRET@localhost/db",
		"postgres://u@localhost/db?sslmode=disable&SECRET", "postgres://u@localhost/db?:SECRET=disable", "postgres://u@localhost/db?sslrootcert=ca,password=SECRET",
		"postgres://u@localhost,password=SECRET/db", "postgres://u@localhost,SE%43RET%3Dx/db", "cockroachdb://u:p@SECRET@localhost/db",
		"postgres:/u:SECRET@localhost/db?sslmode=disable", "postgres//u:SECRET@localhost/db?sslmode=disable",
		"host=localhost;password=SECRET;port=1", "host=localhost,password=SECRET", "host=localhost&password=SECRET", "host=/tmp;password=SECRET", "host=SECRET=x",
		"user=u;password=SECRET host=localhost", "dbname=d;password=SECRET host=localhost", "host=localhost sslrootcert=ca.crt;password=SECRET", "host=localhost password=a SECRET",
		"host=localhost port=1;password=SECRET", "host=localhost 'password=SECRET'", "u:SECRET@localhost=x",
	} {
		cfg, err := server.Parse(text)
		if err == nil {
			t.Errorf("%q: taken, as %s, %s, %s", text, cfg.User(), cfg.Host(), cfg.Database())
			continue
		}
		if !errors.Is(err, server.ErrURL) || strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", text, err)
		}
		if strings.Contains(text, "://") && !strings.Contains(err.Error(), help) {
			t.Errorf("%q: it does not say what to escape: %v", text, err)
		}
	}
	for _, name := range []string{"PGHOST", "PGUSER", "PGDATABASE", "PGSSLROOTCERT", "PGPORT"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PGHOST", "localhost")
			t.Setenv(name, "h;PGPASSWORD=SECRET")
			if _, err := server.Parse("env"); !errors.Is(err, server.ErrURL) || strings.Contains(err.Error(), "SECRET") || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestStringsThatAreNoOthers is the control: strings that look like the malformed ones, and are
// as they should be.
func TestStringsThatAreNoOthers(t *testing.T) {
	for text, want := range map[string]string{
		"postgres://u:p%40SECRET@localhost/db":                                     "u localhost:5432 db",
		"postgres://u:p;a=b&c@localhost:7/db?sslmode=disable":                      "u localhost:7 db",
		"postgres://u:p:q,r@[::1]:7/my-db":                                         "u [::1]:7 my-db",
		"postgres://u@/db?host=/tmp&port=7":                                        "u /tmp db",
		"postgres://u@localhost,127.0.0.1:7/db?application_name=a%20b%3Dc%3Bd%3De": "u localhost:5432 db",
		"host=localhost user=u password='a;host=b c' dbname=db":                    "u localhost:5432 db",
		"host = localhost user = u password=a=b;c=d dbname='d b'":                  "u localhost:5432 d b",
		"host=b%C3%BCcher.localhost user=u dbname=db sslmode=disable":              "u b%C3%BCcher.localhost:5432 db",
		"host=bücher.localhost user=u dbname=db sslmode=disable":                   "u bücher.localhost:5432 db",
		"host=localhost user=u dbname=db options='-c a=1 -c b=2'":                  "u localhost:5432 db",
	} {
		cfg, err := server.Parse(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := cfg.User() + " " + cfg.Host() + " " + cfg.Database(); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}
