package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"bulkload/loader/failure"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgservicefile"
	"github.com/jackc/pgx/v5"
)

// A KeyError reports a key or certificate file that cannot be used. Nothing was sent.
type KeyError struct {
	Path   string
	Reason string
}

// ErrorKind implements failure.Kinded.
func (e *KeyError) ErrorKind() failure.Kind { return failure.Target }

func (e *KeyError) Error() string { return visible(e.Path) + " " + e.Reason }

// addCerts sets sslmode, sslrootcert, sslcert and sslkey from the certificate directory dir
// unless the connection string sets them. An empty dir changes nothing.
func addCerts(text, dir string) (string, error) {
	if dir == "" {
		return text, nil
	}
	if setting(text, "sslmode") == "disable" {
		return "", fmt.Errorf("%w: --certs-dir and sslmode=disable contradict each other", ErrURL)
	}
	ca := filepath.Join(dir, "ca.crt")
	if _, err := os.Stat(ca); err != nil {
		return "", &KeyError{ca, fileProblem(err) + "; --certs-dir takes a directory in the layout of cockroach cert"}
	}
	// The file names depend on the user, who may come from the string, PGUSER or the system.
	cfg, err := pgx.ParseConfig(withSettings(text, [][2]string{{"sslmode", "disable"}, {"sslrootcert", ""}, {"sslcert", ""}, {"sslkey", ""}}))
	if err != nil {
		return "", fmt.Errorf("%w: %s", ErrURL, parseProblem(text, err))
	}
	add := [][2]string{{"sslmode", "verify-full"}, {"sslrootcert", ca}}
	cert, key := filepath.Join(dir, "client."+cfg.User+".crt"), filepath.Join(dir, "client."+cfg.User+".key")
	if _, err := os.Stat(cert); err == nil {
		add = append(add, [2]string{"sslcert", cert}, [2]string{"sslkey", key})
	} // else the user logs in with a password
	return withSettings(text, add), nil
}

// withSettings adds settings that apply only where the string does not set them. In a URL the
// first parameter of a name wins, in key=value pairs the last one.
func withSettings(text string, add [][2]string) string {
	if strings.Contains(text, "://") {
		q := url.Values{}
		for _, kv := range add {
			q.Set(kv[0], kv[1])
		}
		if strings.Contains(text, "?") {
			return text + "&" + q.Encode()
		}
		return text + "?" + q.Encode()
	}
	var b strings.Builder
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	for _, kv := range add {
		fmt.Fprintf(&b, "%s='%s' ", kv[0], quote.Replace(kv[1]))
	}
	return b.String() + text
}

// setting returns the value of one setting in a connection string. It returns "" if the string
// does not set it or does not parse.
func setting(text, name string) string {
	if _, rest, ok := strings.Cut(text, "://"); ok {
		_, query, _ := strings.Cut(rest, "?")
		values, _ := url.ParseQuery(query) // pgx reports a query that does not parse
		return values.Get(name)
	}
	found := ""
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		key, rest, ok := strings.Cut(text, "=")
		if !ok {
			return found
		}
		value, rest := cutValue(strings.TrimLeft(rest, " \t\r\n"))
		if strings.TrimSpace(key) == name {
			found = value
		}
		text = rest
	}
	return found
}

// cutValue cuts a value, quoted or plain, from the start of key=value pairs.
func cutValue(text string) (value, rest string) {
	var b strings.Builder
	quoted := strings.HasPrefix(text, "'")
	i := 0
	if quoted {
		i = 1
	}
	for ; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case quoted && c == '\'':
			return b.String(), text[i+1:]
		case !quoted && strings.IndexByte(" \t\r\n", c) >= 0:
			return b.String(), text[i:]
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), ""
}

// effective returns a setting as pgx finds it: in the string, in the service named by the
// string or PGSERVICE, or in the environment.
func effective(text, name, variable string) string {
	if v := setting(text, name); v != "" {
		return v
	}
	if v := fromService(text, name); v != "" {
		return v
	}
	return os.Getenv(variable)
}

func fromService(text, name string) string {
	service := setting(text, "service")
	if service == "" {
		service = os.Getenv("PGSERVICE")
	}
	if service == "" {
		return ""
	}
	path := setting(text, "servicefile")
	if path == "" {
		path = os.Getenv("PGSERVICEFILE")
	}
	if path == "" {
		home, _ := os.UserHomeDir()
		path = filepath.Join(home, ".pg_service.conf")
	}
	file, err := pgservicefile.ReadServicefile(path)
	if err != nil {
		return ""
	}
	found, err := file.GetService(service)
	if err != nil {
		return ""
	}
	return found.Settings[name]
}

// checkFiles returns an error for missing certificate and key files, and for a client key that
// others may read. libpq checks this, pgx does not. sslrootcert may be "system".
func checkFiles(text string) error {
	if effective(text, "sslmode", "PGSSLMODE") == "disable" {
		return nil
	}
	if path := effective(text, "sslrootcert", "PGSSLROOTCERT"); path != "" && path != "system" {
		if err := checkThere(path, "sslrootcert names the certificate of the server's authority"); err != nil {
			return err
		}
	}
	if effective(text, "sslcertmode", "PGSSLCERTMODE") == "disable" {
		return nil
	}
	if path := effective(text, "sslcert", "PGSSLCERT"); path != "" {
		if err := checkThere(path, "sslcert names the client's certificate"); err != nil {
			return err
		}
	}
	path := effective(text, "sslkey", "PGSSLKEY")
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil
		}
		path = filepath.Join(home, ".postgresql", "postgresql.key")
		if _, err := os.Stat(path); err != nil {
			return nil
		}
	}
	if err := checkThere(path, "sslkey names the client's key"); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm()&mayNotHave(info) != 0 {
		return &KeyError{path, fmt.Sprintf("can be read by others (mode %04o); run chmod 600 on it", info.Mode().Perm())}
	}
	return nil
}

func checkThere(path, what string) error {
	f, err := os.Open(path)
	if err != nil {
		return &KeyError{path, fileProblem(err) + "; " + what}
	}
	return f.Close()
}

// fileProblem returns the reason why a file cannot be used, in a few words.
func fileProblem(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "may not be read"
	}
	return "cannot be read"
}

// mayFallBack returns the first remote host for which pgx would try both TLS and plaintext,
// one after the other, or "" if there is none. A host tried only without TLS has
// sslmode=disable, which is consent.
func mayFallBack(cfg *pgx.ConnConfig) string {
	encrypted, plain := map[string]bool{}, map[string]bool{}
	note := func(host string, tls bool) {
		if tls {
			encrypted[host] = true
		} else {
			plain[host] = true
		}
	}
	hosts := []string{cfg.Host}
	note(cfg.Host, cfg.TLSConfig != nil)
	for _, f := range cfg.Fallbacks {
		note(f.Host, f.TLSConfig != nil)
		hosts = append(hosts, f.Host)
	}
	for _, host := range hosts {
		if encrypted[host] && plain[host] && !isLocal(host) {
			return host
		}
	}
	return ""
}

// isLocal reports whether host is a socket directory or a loopback address.
func isLocal(host string) bool {
	if host == "" || host == "localhost" || filepath.IsAbs(host) || strings.HasPrefix(host, "@") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// WantsPassword reports whether the server rejects c's user because no password is given. It
// connects once, without a password. It returns false if c has one.
func WantsPassword(ctx context.Context, c *Config) bool {
	if c.HasPassword() {
		return false
	}
	return passwordFailed(With(ctx, c, func(*pgx.Conn) error { return nil }))
}

// passwordFailed reports whether err means that a password was wrong or missing. CockroachDB
// up to 21.1 has no SQLSTATE of its own for it.
func passwordFailed(err error) bool {
	switch Code(err) {
	case pgerrcode.InvalidPassword:
		return true
	case pgerrcode.InvalidAuthorizationSpecification, Uncategorized:
		return strings.Contains(Reason(err), "password")
	}
	return false
}

// certHint returns a hint for a log-in that failed although a client certificate is
// configured. A TLS client does not send its certificate if the server does not list the
// certificate's authority.
func (c *Config) certHint(err error) string {
	if c.cert && (passwordFailed(err) || strings.Contains(Reason(err), "valid client certificate")) {
		return "; it may not trust the authority of the client's certificate"
	}
	return ""
}
