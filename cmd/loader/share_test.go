package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// TestShareOfBadRecords: a share of bad records means the same for a plain file, a compressed one
// and standard input, and goes on at resume.
func TestShareOfBadRecords(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	url, dir := s.NewDatabase(t), t.TempDir()
	file := func(every int) (plain, compressed string) {
		var text, packed bytes.Buffer
		for i := 1; i <= 6000; i++ {
			bad := ""
			if i%every == 0 {
				bad = "x"
			}
			fmt.Fprintf(&text, "%s%d,text\n", bad, i)
		}
		w := gzip.NewWriter(&packed)
		w.Write(text.Bytes())
		w.Close()
		plain, compressed = filepath.Join(dir, fmt.Sprintf("%d.csv", every)), filepath.Join(dir, fmt.Sprintf("%d.csv.gz", every))
		for name, b := range map[string][]byte{plain: text.Bytes(), compressed: packed.Bytes()} {
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return plain, compressed
	}
	for _, test := range []struct{ every, code int }{{200, exitRejected}, {50, exitData}} { // 0.5 % and 2 %
		plain, compressed := file(test.every)
		for _, name := range []string{plain, compressed, "-"} {
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS t", "CREATE TABLE t (id INT8, v TEXT)")
			cmd := command(url, "csv", name, "--table", "t", "--header", "no", "--max-errors", "1%", "--rejects", filepath.Join(dir, "out"))
			if name == "-" {
				in, err := os.Open(plain)
				if err != nil {
					t.Fatal(err)
				}
				defer in.Close()
				cmd.Stdin = in
			}
			said := runTo(t, test.code, cmd)
			if test.code == exitData && !regexp.MustCompile(`bad records of \d+ are more than --max-errors 1% allows`).MatchString(said) {
				t.Errorf("%s: it says %s", name, said)
			}
			if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM t"); test.code == exitRejected && n != 6000-30 {
				t.Errorf("%s: %d rows are in", name, n)
			}
		}
	}
	// A load that stopped knows how many records it has read: 20 of the next 1000 are too many of
	// these, and few of all.
	var text strings.Builder
	for i := 1; i <= 6001; i++ {
		bad := ""
		if i > 5000 && i <= 5020 {
			bad = "x"
		}
		if i == 6001 {
			fmt.Fprintf(&text, "1,text\n") // a key that is taken, in a table that has one
			continue
		}
		fmt.Fprintf(&text, "%s%d,text\n", bad, i)
	}
	in := filepath.Join(dir, "late.csv")
	if err := os.WriteFile(in, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	loadertest.Exec(t, url, "DROP TABLE t", "CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT)")
	said := runTo(t, exitData, command(url, "csv", in, "--table", "t", "--header", "no", "--chunk", "500", "--workers", "1", "--order", "file"))
	id := regexp.MustCompile(`loads resume (\w+)`).FindStringSubmatch(said)
	if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM t"); id == nil || n != 5000 {
		t.Fatalf("%d rows are in: %s", n, said)
	}
	runTo(t, exitRejected, command(url, "loads", "resume", id[1], "--max-errors", "0.5%", "--chunk", "500", "--workers", "1", "--rejects", filepath.Join(dir, "late")))
}

// TestHostThatIsConnected: of a URL with several hosts the one that is connected to is named.
func TestHostThatIsConnected(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		u, err := url.Parse(s.NewDatabase(t))
		if err != nil {
			t.Fatal(err)
		}
		right := u.Host
		u.Host = "127.0.0.1:1," + right
		for _, args := range [][]string{{"points", "--n", "1"}, {"points", "--n", "1", "--format", "json"}} {
			cmd := command(u.String(), args...)
			cmd.Args = cmd.Args[:len(cmd.Args)-1] // not --quiet
			out := runTo(t, exitOK, cmd)
			if !strings.Contains(out, " at "+right+", ") || strings.Contains(out, "127.0.0.1:1,") || len(args) > 3 && !strings.Contains(out, `"host":"`+right+`"`) {
				t.Errorf("%q says %s, want the host %s", args, out, right)
			}
		}
		u.Host = "127.0.0.1:1,127.0.0.1:2"
		if out := runTo(t, exitTarget, command(u.String(), "points", "--n", "1")); !strings.Contains(out, "connect to 127.0.0.1:1, 127.0.0.1:2 as ") {
			t.Errorf("without a server it says %s", out)
		}
	})
}
