package server_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/server"
)

// FuzzParse holds that no text makes Parse panic, and that no error shows a password: every
// PASSWORD in the text is one.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"postgres://u:PASSWORD@localhost/d", "postgresql://u:PASSWORD@h:5432/d?sslmode=disable", "cockroachdb://u:PASSWORD@h",
		"host=h password=PASSWORD", "host=h password = 'PASSWORD' port=x", "password='PASSWORD", "postgres://u:PASSWORD@h:port/",
		"postgres://u:a@PASSWORD@h/", "postgres://u:%PASSWORD@h/", "postgres://h/?password=PASSWORD&sslmode=q", "mysql://u:PASSWORD@h", "PASSWORD",
		"postgres://h/?sslkey=k&sslcert=c&sslpassword=PASSWORD", "service=s password=PASSWORD", "host=a,b port=1,2 password=PASSWORD", "postgres://[::1]:5/?passfile=x",
	} {
		f.Add(text)
	}
	const secret = "c4n4ryc4n4ry"
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ReplaceAll(text, "PASSWORD", secret)
		if text == "env" {
			t.Skip()
		}
		cfg, err := server.Parse(text)
		if err == nil {
			if cfg.HasPassword() && strings.Contains(cfg.URLOf(cfg.User(), cfg.Database()), secret) && !strings.Contains(cfg.User()+cfg.Database()+cfg.Host(), secret) {
				t.Errorf("the URL without a password has one, of %q", text)
			}
			return
		}
		var key *server.KeyError
		if !errors.Is(err, server.ErrURL) && !errors.As(err, &key) {
			t.Errorf("%q: %v is no error of a URL", text, err)
		}
		if strings.Contains(err.Error(), "\n") || strings.IndexFunc(err.Error(), unicode.IsControl) >= 0 {
			t.Errorf("%q: more than a line of text: %q", text, err)
		}
		if !strings.Contains(err.Error(), "c4n4ry") {
			return
		}
		// A text in which the secret stands elsewhere than in a password's place has none.
		if c, perr := pgx.ParseConfig(strings.Replace(text, "cockroachdb://", "postgresql://", 1)); perr == nil && !strings.Contains(c.Password, "c4n4ry") {
			t.Skip()
		}
		if scheme, _, ok := strings.Cut(text, "://"); ok && strings.Contains(scheme, "c4n4ry") || errors.As(err, &key) {
			t.Skip()
		}
		t.Errorf("%q: the error shows the password: %v", text, err)
	})
}

// FuzzParseTable holds that a name that parses is the same when it is quoted, which is what
// reaches the server.
func FuzzParseTable(f *testing.F) {
	for _, name := range []string{"t", "S.T", `"ev""il; drop table p; --"`, `a."b.c".d`, `"`, `a"b`, "точка", `""`, "a..b", "a\x00b", "\xff"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := server.ParseTable(text)
		if err != nil {
			return
		}
		again, err := server.ParseTable(id.Sanitize())
		if err != nil || !reflect.DeepEqual(id, again) {
			t.Errorf("%q is %q, and quoted %q, %v", text, id, again, err)
		}
		shown, err := server.ParseTable(server.Display(id))
		if err != nil || !reflect.DeepEqual(id, shown) {
			t.Errorf("%q is %q, and displayed %q, %v", text, id, shown, err)
		}
	})
}
