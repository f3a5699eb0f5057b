//go:build unix

package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bulkload/loader/loadertest"
)

// An attempt is one run of the command and what must come of it.
type attempt struct {
	name string
	url  string
	args []string // behind the URL
	env  []string
	code int
	want string // regular expression that the whole error must match; of stdout for code 0
}

// try runs loader count with the environment of the test, but for what names a server.
func (a attempt) try(t *testing.T) {
	t.Helper()
	cmd := exec.Command(mustLookPath("loader"), append([]string{"count", "--quiet", "--url", a.url}, a.args...)...)
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = append(plainEnv(), a.env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != a.code {
		t.Errorf("%s: exit code %d (%v), want %d: %s%s", a.name, code, err, a.code, stdout.String(), stderr.String())
		return
	}
	got := stdout.String()
	if a.code != exitOK {
		got = stderr.String()
		if stdout.Len() > 0 {
			t.Errorf("%s: stdout has %q", a.name, stdout.String())
		}
	}
	if testing.Verbose() && a.code != exitOK {
		t.Logf("%s: %s", a.name, strings.TrimSpace(got))
	}
	if !regexp.MustCompile("^(?:" + a.want + ")\n$").MatchString(got) {
		t.Errorf("%s: got %q, want %q", a.name, got, a.want)
	}
}

// plainEnv is the environment without what names a server or a user's files.
func plainEnv() []string {
	env := []string{"HOME=/nonexistent"}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "PG") && name != "LOADER_URL" && name != "DATABASE_URL" && name != "HOME" {
			env = append(env, kv)
		}
	}
	return env
}

// TestCertificates logs in to secure servers with what is right, and with everything
// that is wrong in one place.
func TestCertificates(t *testing.T) {
	loadertest.EachSecureServer(t, func(t *testing.T, s *loadertest.SecureServer) {
		loadertest.Exec(t, s.URL(), "CREATE DATABASE bank")
		s.NewUser("certmax", "", "bank")
		admin := strings.Replace(s.URL(), "/?", "/bank?", 1)
		admin = strings.Replace(admin, "/postgres?", "/bank?", 1)
		loadertest.Exec(t, admin, "CREATE TABLE accounts (id INT8 PRIMARY KEY, balance INT8)", "INSERT INTO accounts VALUES (1, 1), (2, 2), (3, 3)", "GRANT SELECT ON accounts TO certmax")

		dir := t.TempDir()
		other := loadertest.NewAuthority(t, "Another CA")
		otherCA := filepath.Join(dir, "other.crt")
		other.WriteCert(otherCA)
		ca := filepath.Join(s.CertsDir, "ca.crt")
		client := func(a *loadertest.Authority, base string, l loadertest.Leaf) map[string]string {
			cert, key := a.Write(dir, base, l)
			return map[string]string{"sslmode": "verify-full", "sslrootcert": ca, "sslcert": cert, "sslkey": key}
		}
		with := func(m map[string]string, kv ...string) map[string]string {
			c := map[string]string{}
			for k, v := range m {
				c[k] = v
			}
			for i := 0; i < len(kv); i += 2 {
				if c[kv[i]] = kv[i+1]; kv[i+1] == "" {
					delete(c, kv[i])
				}
			}
			return c
		}
		right := client(s.Authority, "right", loadertest.Leaf{Name: "certmax", Key: loadertest.PKCS8})
		pkcs1 := client(s.Authority, "pkcs1", loadertest.Leaf{Name: "certmax", Key: loadertest.PKCS1})
		sec1 := client(s.Authority, "sec1", loadertest.Leaf{Name: "certmax", Key: loadertest.SEC1})
		stranger := client(other, "stranger", loadertest.Leaf{Name: "certmax"})
		expired := client(s.Authority, "expired", loadertest.Leaf{Name: "certmax", Expired: true})
		someone := client(s.Authority, "someone", loadertest.Leaf{Name: "someone"})
		open := client(s.Authority, "open", loadertest.Leaf{Name: "certmax"})
		if err := os.Chmod(open["sslkey"], 0o644); err != nil {
			t.Fatal(err)
		}
		at := func(m map[string]string) string { return s.URLOf("certmax", "bank", m) }
		connect := func(reason string) string {
			return fmt.Sprintf(`loader: connect to (localhost|127\.0\.0\.1):%d as certmax, database "bank": (?:%s)`, s.Port, reason)
		}
		for _, a := range []attempt{
			{name: "right, PKCS#8", url: at(right), want: "3"},
			{name: "right, PKCS#1", url: at(pkcs1), want: "3"},
			{name: "right, SEC 1", url: at(sec1), want: "3"},
			{name: "cockroachdb scheme", url: "cockroachdb" + strings.TrimPrefix(at(with(right, "sslmode", "require")), "postgres"), want: "3"},
			{name: "key=value", url: fmt.Sprintf("host=localhost port=%d user=certmax dbname=bank sslmode=verify-full sslrootcert='%s' sslcert='%s' sslkey='%s'", s.Port, ca, right["sslcert"], right["sslkey"]), want: "3"},
			{name: "environment", url: "env", env: []string{"PGHOST=localhost", fmt.Sprint("PGPORT=", s.Port), "PGUSER=certmax", "PGDATABASE=bank", "PGSSLMODE=verify-full", "PGSSLROOTCERT=" + ca, "PGSSLCERT=" + right["sslcert"], "PGSSLKEY=" + right["sslkey"]}, want: "3"},

			{name: "wrong CA", url: at(with(right, "sslrootcert", otherCA)), code: exitTarget, want: connect("the server's certificate is signed by an authority that is not in sslrootcert")},
			{name: "wrong CA, require", url: at(with(right, "sslmode", "require", "sslrootcert", otherCA)), code: exitTarget, want: connect("the server's certificate is signed by an authority that is not in sslrootcert")},
			{name: "wrong host name", url: strings.Replace(at(right), "@localhost", "@127.0.0.1", 1), code: exitTarget, want: connect("the server's certificate is not for this host name")},
			{name: "wrong host name, verify-ca", url: strings.Replace(at(with(right, "sslmode", "verify-ca")), "@localhost", "@127.0.0.1", 1), want: "3"},
			{name: "no CA file", url: at(with(right, "sslrootcert", filepath.Join(dir, "none.crt"))), code: exitTarget, want: "loader: .*/none.crt does not exist; sslrootcert names the certificate of the server's authority"},
			{name: "client of another CA", url: at(stranger), code: exitTarget, want: connect(".*; it may not trust the authority of the client's certificate")},
			{name: "client expired", url: at(expired), code: exitTarget, want: connect("the server does not accept the client's certificate or TLS: (expired|bad) certificate")},
			{name: "client of another name", url: at(someone), code: exitTarget, want: connect(`certificate authentication failed for user "certmax"( \(DN: .*\))? \(SQLSTATE 28000\)|requested user is certmax, but certificate is for \[someone\] \(SQLSTATE XXUUU\)`)},
			{name: "no client certificate", url: at(with(right, "sslcert", "", "sslkey", "")), code: exitTarget, want: connect(`connection requires a valid client certificate \(SQLSTATE 28000\)|password authentication failed for user certmax \(SQLSTATE (28P01|XXUUU)\)`)},
			{name: "missing key", url: at(with(right, "sslkey", filepath.Join(dir, "none.key"))), code: exitTarget, want: "loader: .*/none.key does not exist; sslkey names the client's key"},
			{name: "missing certificate", url: at(with(right, "sslcert", filepath.Join(dir, "none.crt"))), code: exitTarget, want: "loader: .*/none.crt does not exist; sslcert names the client's certificate"},
			{name: "certificate without its key", url: at(with(right, "sslkey", "")), code: exitUsage, want: "loader: bad URL: sslcert and sslkey must be used together"},
			{name: "key of another", url: at(with(right, "sslkey", pkcs1["sslkey"])), code: exitUsage, want: "loader: bad URL: sslcert and sslkey cannot be read, or do not belong together"},
			{name: "open key", url: at(open), code: exitTarget, want: `loader: .*/open.key can be read by others \(mode 0644\); run chmod 600 on it`},
			{name: "plaintext", url: at(map[string]string{"sslmode": "disable"}), code: exitTarget, want: connect("(no pg_hba.conf entry .*no encryption|node is running secure mode, SSL connection required) .SQLSTATE .....\\)")},
		} {
			a.try(t)
		}

		// The reason is printed where a reset took the alert the first time, and is not asked
		// for again.
		front, asked := resetOnce(t, s.Port)
		attempt{name: "client expired, reset", url: strings.Replace(at(expired), fmt.Sprint(":", s.Port), fmt.Sprint(":", front), 1), code: exitTarget,
			want: fmt.Sprintf(`loader: connect to localhost:%d .*: the server does not accept the client's certificate or TLS: (expired|bad) certificate`, front)}.try(t)
		if n := asked.Load(); n > 3 { // the dialer may try a second time behind the reset
			t.Errorf("a server that refuses the certificate was asked %d times", n)
		}

		// A directory as cockroach cert makes it.
		s.Authority.Write(s.CertsDir, "client.certmax", loadertest.Leaf{Name: "certmax"})
		plain := fmt.Sprintf("cockroachdb://certmax@localhost:%d/bank", s.Port)
		byDir := attempt{name: "--certs-dir", url: plain, args: []string{"--certs-dir", s.CertsDir}, want: "3"}
		byDir.try(t)
		key := filepath.Join(s.CertsDir, "client.certmax.key")
		if err := os.Chmod(key, 0o640); err != nil {
			t.Fatal(err)
		}
		if os.Getuid() == 0 { // a group that root lets read is well, as to libpq
			byDir.try(t)
		}
		os.Chmod(key, 0o604)
		byDir.code, byDir.want = exitTarget, `loader: .*client.certmax.key can be read by others \(mode 0604\).*`
		byDir.try(t)
		os.Remove(key)
		byDir.want = "loader: .*client.certmax.key does not exist; sslkey names the client's key"
		byDir.try(t)
		attempt{name: "--certs-dir without a CA", url: plain, args: []string{"--certs-dir", dir}, code: exitTarget, want: "loader: .*ca.crt does not exist; --certs-dir takes a directory in the layout of cockroach cert"}.try(t)
		attempt{name: "--certs-dir and plaintext", url: plain + "?sslmode=disable", args: []string{"--certs-dir", s.CertsDir}, code: exitUsage, want: "loader: bad URL: --certs-dir and sslmode=disable contradict each other"}.try(t)

		// The server's own certificate goes bad.
		s.Present(s.Authority, loadertest.Leaf{Hosts: []string{"localhost"}, Expired: true})
		checkServed(t, s, ca, "expired")
		attempt{name: "server expired", url: at(right), code: exitTarget, want: connect("the server's certificate has expired, or is not valid yet")}.try(t)
		s.Present(other, loadertest.Leaf{Hosts: []string{"localhost"}})
		checkServed(t, s, ca, "unknown authority")
		attempt{name: "server of another CA", url: at(right), code: exitTarget, want: connect("the server's certificate is signed by an authority that is not in sslrootcert")}.try(t)
		s.Present(s.Authority, loadertest.Leaf{Hosts: []string{"localhost"}}) // for what the kit asks at the end
		checkServed(t, s, ca, "")
	}, loadertest.PostgreSQL)
}

// resetOnce listens in front of a server on this machine, resets the first connection and
// passes the others on. It returns its port and the number of connections so far.
func resetOnce(t *testing.T, port int) (int, *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	accepted := new(atomic.Int32)
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			if accepted.Add(1) == 1 {
				client.(*net.TCPConn).SetLinger(0)
				client.Close()
				continue
			}
			go func() {
				defer client.Close()
				server, err := net.Dial("tcp", fmt.Sprint("localhost:", port))
				if err != nil {
					return
				}
				defer server.Close()
				// Not by splice, whose pipes the runtime keeps.
				go io.Copy(struct{ io.Writer }{server}, client)
				io.Copy(struct{ io.Writer }{client}, server)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port, accepted
}

// TestServersWithoutTLS asks servers for TLS that have none, and hosts that are not
// this machine for plaintext.
func TestServersWithoutTLS(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		plain := s.NewDatabase(t)
		loadertest.Exec(t, plain, "CREATE TABLE accounts (id INT8 PRIMARY KEY, balance INT8)", "INSERT INTO accounts VALUES (1, 1), (2, 2), (3, 3)")
		for _, mode := range []string{"require", "verify-ca", "verify-full"} {
			attempt{name: mode, url: strings.Replace(plain, "sslmode=disable", "sslmode="+mode, 1), code: exitTarget, want: `loader: connect to .*: the server has no TLS, but sslmode requires it`}.try(t)
		}
		attempt{name: "local, no sslmode", url: strings.Replace(plain, "?sslmode=disable", "", 1), want: "3"}.try(t)

		u, err := url.Parse(plain)
		if err != nil {
			t.Fatal(err)
		}
		host := otherAddress(t)
		u.Host, u.RawQuery = net.JoinHostPort(host, u.Port()), ""
		refused := func(why string) string {
			return `loader: bad URL: ` + regexp.QuoteMeta(host) + ` is not on this machine, and ` + why + `; add sslmode=verify-full&sslrootcert=FILE, or sslmode=disable to send everything unencrypted`
		}
		attempt{name: "no sslmode", url: u.String(), code: exitUsage, want: refused("the URL has no sslmode")}.try(t)
		attempt{name: "cockroachdb, no sslmode", url: "cockroachdb" + strings.TrimPrefix(u.String(), "postgres"), code: exitUsage, want: refused("the URL has no sslmode")}.try(t)
		attempt{name: "prefer", url: u.String() + "?sslmode=prefer", code: exitUsage, want: refused("sslmode=prefer may fall back to plaintext")}.try(t)
		attempt{name: "second host", url: strings.Replace(u.String(), host, "localhost,"+host, 1), code: exitUsage, want: refused("the URL has no sslmode")}.try(t)
		// Consent: the loader goes on and finds that nothing listens at that address.
		attempt{name: "disable", url: u.String() + "?sslmode=disable", code: exitTarget, want: `loader: connect to .*: connection refused: no server listens there`}.try(t)
		attempt{name: "PGSSLMODE", url: u.String(), env: []string{"PGSSLMODE=disable"}, code: exitTarget, want: `loader: connect to .*: connection refused: no server listens there`}.try(t)
	})
}

// otherAddress returns an address of this machine that is not a loopback one, or one
// that never answers.
func otherAddress(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() && ip.IP.To4() != nil {
			return ip.IP.String()
		}
	}
	loadertest.Skip(t, "the machine has no address but the loopback one")
	return ""
}

// checkServed polls until the server presents the certificate that loader's own error
// would name, or a good one where want is empty: a reload takes a moment.
func checkServed(t *testing.T, s *loadertest.SecureServer, ca, want string) {
	t.Helper()
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	loadertest.Eventually(t, "a server's certificate with fault "+strconv.Quote(want), func() bool {
		err := s.Handshake(&tls.Config{ServerName: "localhost", RootCAs: pool})
		if err == nil || want == "" {
			return err == nil && want == ""
		}
		return strings.Contains(err.Error(), want)
	})
}

// TestInitOnSecureServers sets a bank up as the tutorial does, and follows the hint that
// is printed. On CockroachDB the new user logs in with the certificate that was made.
func TestInitOnSecureServers(t *testing.T) {
	loadertest.Long(t)
	loadertest.EachSecureServer(t, func(t *testing.T, s *loadertest.SecureServer) {
		args := []string{"init", "--url", s.URL()}
		if s.Cockroach {
			args = []string{"init", "--url", fmt.Sprintf("cockroachdb://root@localhost:%d", s.Port), "--certs-dir", s.CertsDir, "--ca-key", s.CAKey}
		}
		args = append(args, "--database", "bank")
		loader := func(want int, env []string, args ...string) string {
			t.Helper()
			cmd := exec.Command(mustLookPath("loader"), args...)
			cmd.Env = append(plainEnv(), env...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, _ := cmd.Output()
			if code := cmd.ProcessState.ExitCode(); code != want {
				t.Fatalf("loader %q: exit code %d, want %d: %s%s", args, code, want, out, stderr.String())
			}
			return string(out) + stderr.String()
		}
		has := func(text string, want ...string) {
			t.Helper()
			for _, w := range want {
				if !strings.Contains(text, w) {
					t.Errorf("got %s\nwant %q in it", text, w)
				}
			}
		}
		cert, key := filepath.Join(s.CertsDir, "client.maxroach.crt"), filepath.Join(s.CertsDir, "client.maxroach.key")
		exists := "SELECT count(*) FROM pg_catalog.pg_database WHERE datname = 'bank'"

		dry := loader(exitOK, nil, append(args, "--dry-run")...)
		has(dry, "CREATE DATABASE ", "CREATE USER ", `GRANT ALL ON DATABASE "bank" TO "maxroach";`)
		if loadertest.Value[int64](t, s.URL(), exists) != 0 {
			t.Error("--dry-run has made the database")
		}
		if s.Cockroach {
			has(dry, "-- in a shell: ", "cert create-client maxroach --certs-dir="+s.CertsDir+" --ca-key="+s.CAKey)
			without := loader(exitTarget, []string{"COCKROACH_BINARY=/nonexistent/cockroach"}, args...)
			has(without, "loader: no cockroach binary found to create the certificate; on a machine that has one, run: cockroach cert create-client maxroach ")
			if _, err := os.Stat(cert); err == nil || loadertest.Value[int64](t, s.URL(), exists) != 0 {
				t.Error("without a cockroach binary something was made")
			}
			broken := append([]string(nil), args...)
			broken[6] = filepath.Join(s.CertsDir, "none.key")
			has(loader(exitTarget, nil, broken...), "loader: make the certificate of maxroach with cockroach: ")
		}

		made := loader(exitOK, nil, args...)
		has(made, "granted rights on database bank", "continue with: loader accounts --url ")
		if s.Cockroach {
			has(made, "created "+cert+" and its key")
			if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the key: %v, %v", info, err)
			}
		} else {
			has(made, "created database bank", "created user maxroach")
		}
		before, _ := os.ReadFile(cert)
		again := loader(exitOK, nil, args...)
		has(again, "database bank exists already", "user maxroach exists already")
		if after, _ := os.ReadFile(cert); !bytes.Equal(before, after) {
			t.Error("the second run has made another certificate")
		}
		if strings.Contains(again, "created ") {
			t.Errorf("the second run says %s", again)
		}

		// The hint, as it is typed.
		_, hint, _ := strings.Cut(again, "continue with: loader ")
		hint, _, _ = strings.Cut(hint, "\n")
		cmd := exec.Command("sh", "-c", `"$0" `+hint, mustLookPath("loader"))
		cmd.Env = plainEnv()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", hint, err, out)
		}
		has(string(out), "user maxroach", "loaded 100 accounts")
		words := strings.Fields(hint)
		url := strings.Trim(words[2], "'")
		more := append([]string{"--url", url}, words[3:]...)
		has(loader(exitOK, nil, append([]string{"transfer", "--n", "20", "--verify"}, more...)...), "made 20 transfers", "each made once")
		has(loader(exitOK, nil, append([]string{"count", "--quiet"}, more...)...), "100\n")
	}, loadertest.PostgreSQL)
}
