// Package importer hands the rows of a load to CockroachDB's own bulk reader, IMPORT INTO: as
// virtual files over HTTP, as files uploaded over the SQL connection, or as files that the
// server can read already. It starts the job, follows, pauses, resumes and cancels it, and then
// validates the table's constraints again. It makes no rows, and package registry keeps the
// record of which job belongs to which load.
//
// Begin with Runner.Run; batch.go makes the files, send.go starts the job, follow.go waits for it,
// and finish.go compares what it loaded.
package importer

import (
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/importer/serve"
	"bulkload/loader/importer/virtual"
	"bulkload/loader/server"
)

// A Mode is how the server reaches the rows.
type Mode string

// The modes.
const (
	// Auto is Serve if the server runs on this machine or Options.Addr is set, else Upload.
	Auto Mode = "auto"
	// Serve makes the files while the server reads them over HTTP.
	Serve Mode = "serve"
	// Upload puts compressed parts into the database itself, as userfile://.
	Upload Mode = "upload"
	// URLs names existing files.
	URLs Mode = "url"
)

// Options say how the rows reach the server.
type Options struct {
	Mode Mode // empty is Auto
	// Files, of Mode URLs, are the URLs of the files. A * in the last part of a URL stands for the
	// number of the file; see Name.
	Files []string
	// Addr is the host:port to serve at; empty is a free port of the loopback address. Port 0 is
	// a free port.
	Addr string
	// CertFile and KeyFile are PEM files; with them files are served over TLS.
	CertFile, KeyFile string
	// Streams is the number of files; zero is one for each node of the cluster.
	Streams int
	// StillAfter is how long a job may make no progress until the user is told; zero is half
	// a minute.
	StillAfter time.Duration
	// BatchBytes, of Mode Upload, is about the size of the rows of one job, before
	// compression; zero is DefaultBatchBytes.
	BatchBytes int64
}

// DefaultBatchBytes is the default of Options.BatchBytes. The next batch is uploaded while a job
// reads one, so the database holds at most twice as much.
const DefaultBatchBytes = 512 << 20

// An Option is one of the WITH clause: key = 'value'.
type Option = virtual.Option

// A Statement is an IMPORT INTO.
type Statement struct {
	Table   pgx.Identifier
	Columns []string
	Format  virtual.Format
	Files   []string // URLs
	Options []Option
}

// SQL returns the statement as it is sent. It may hold credentials.
func (s Statement) SQL() string { return s.text(s.Files) }

// String returns the statement for people, without credentials.
func (s Statement) String() string {
	files := make([]string, len(s.Files))
	for i, f := range s.Files {
		files[i] = Redact(f)
	}
	return s.text(files)
}

func (s Statement) text(files []string) string {
	var b strings.Builder
	b.WriteString("IMPORT INTO " + s.Table.Sanitize())
	for i, c := range s.Columns {
		b.WriteString(map[bool]string{true: " (", false: ", "}[i == 0] + pgx.Identifier{c}.Sanitize())
	}
	if len(s.Columns) > 0 {
		b.WriteString(")")
	}
	b.WriteString(" " + string(s.Format) + " DATA (")
	for i, f := range files {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(server.QuoteLiteral(f))
	}
	b.WriteString(")")
	for i, o := range s.Options {
		b.WriteString(map[bool]string{true: " WITH ", false: ", "}[i == 0] + pgx.Identifier{o.Key}.Sanitize() + " = " + server.QuoteLiteral(o.Value))
	}
	return b.String()
}

// Redact returns a URL without its query and user, which may hold credentials, and without the
// token of a served file.
func Redact(file string) string {
	u, err := url.Parse(file)
	if err != nil {
		return "a URL that cannot be parsed"
	}
	u.RawQuery, u.User, u.Fragment = "", nil, ""
	if dir, name := path.Split(u.Path); serve.IsToken(strings.Trim(dir, "/")) {
		u.Path = "/…/" + name
		return u.Scheme + "://" + u.Host + u.Path
	}
	return u.String()
}

// RedactAll returns text with each URL in it redacted.
func RedactAll(text string) string {
	return urlPattern.ReplaceAllStringFunc(text, func(file string) string {
		bare := strings.TrimRight(file, ".,:;)'")
		return Redact(bare) + file[len(bare):]
	})
}

// jobMarker returns the part of a file's URL by which the server's description of a job is
// recognised. It holds no credentials.
func jobMarker(file string) string {
	u, err := url.Parse(file)
	if err != nil || u.User == nil {
		return Redact(file)
	}
	_, rest, _ := strings.Cut(Redact(file), "://")
	return "@" + rest
}

// Name returns pattern with each * replaced by the number of the part, from 1 on. All numbers
// have the same number of digits, so that names sort as the parts do.
func Name(pattern string, part, parts int) string {
	width := len(fmt.Sprint(parts))
	return strings.ReplaceAll(pattern, "*", fmt.Sprintf("%0*d", width, part+1))
}

// schemes are the URL schemes of files that only the database reads.
var schemes = []string{"s3", "gs", "azure", "azure-blob", "azure-storage", "nodelocal", "userfile", "external"}

// isRemote reports whether name is the URL of a file that only the server can read.
func isRemote(name string) bool {
	scheme, _, ok := strings.Cut(name, "://")
	for _, s := range schemes {
		if ok && strings.EqualFold(scheme, s) {
			return true
		}
	}
	return false
}

// CheckURL returns what is wrong with a URL for IMPORT INTO, or nil.
func CheckURL(file string) error {
	u, err := url.Parse(file)
	switch {
	case err != nil || u.Scheme == "":
		return fmt.Errorf("%q is not a URL", Redact(file))
	case !isRemote(file) && u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("IMPORT INTO reads s3://, gs://, azure-blob://, nodelocal://, userfile://, http:// and https://, not %s://", u.Scheme)
	case u.Host == "" && u.Scheme != "userfile":
		return fmt.Errorf("%s names no host, bucket or node", Redact(file))
	}
	return nil
}
