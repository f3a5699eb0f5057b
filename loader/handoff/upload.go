package handoff

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/klauspost/compress/gzip"

	"bulkload/loader/server"
)

// A Space is where one load's parts are uploaded to: userfile:// storage, two tables of
// the user's own in the database. It needs the right to create tables there, and no
// administrator. It is safe for concurrent use.
type Space struct {
	pool *pgxpool.Pool
	host string // database.schema.tables, as userfile URLs have it
	dir  string // of the load's files
	// files and payload are the two tables.
	files, payload pgx.Identifier
}

// plainName is a name that can stand in a userfile URL as it is.
var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// NewSpace returns the space of a load. It makes nothing.
func NewSpace(pool *pgxpool.Pool, database, user, load string) *Space {
	if !plainName.MatchString(database) {
		database = "defaultdb" // a userfile URL cannot name others
	}
	// The name that cockroach userfile upload takes too.
	tables := "userfiles_" + user
	if !plainName.MatchString(user) {
		tables = "userfiles_loader_" + hex.EncodeToString([]byte(user))
	}
	s := &Space{pool: pool, host: database + ".public." + tables, dir: "/loader/" + load + "/"}
	s.files = pgx.Identifier{database, "public", tables + "_upload_files"}
	s.payload = pgx.Identifier{database, "public", tables + "_upload_payload"}
	return s
}

// URL returns the URL of a file of the load.
func (s *Space) URL(name string) string { return "userfile://" + s.host + s.dir + name }

// copyRowBytes is the size of a row of the upload. The rows' bytes are joined in the
// database.
const copyRowBytes = 32 << 10

// Upload puts a text into the space, compressed by gzip. The error says that nothing of
// it is there, or wraps a *SourceError.
func (s *Space) Upload(ctx context.Context, name string, t *Text) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	r, w := io.Pipe()
	made := make(chan error, 1)
	go func() {
		z, _ := gzip.NewWriterLevel(&copyText{w: w}, gzip.BestSpeed)
		err := t.Write(ctx, z, 0)
		if err == nil {
			err = z.Close()
		}
		w.CloseWithError(err)
		made <- err
	}()
	_, err = conn.Conn().PgConn().CopyFrom(ctx, r, `COPY "crdb_internal"."user_file_upload" FROM STDIN WITH destination = `+quote(s.URL(name)))
	r.CloseWithError(context.Canceled)
	madeErr := <-made
	var src *SourceError
	if errors.As(madeErr, &src) {
		return madeErr
	}
	if err != nil {
		return fmt.Errorf("upload %s: %w", name, err)
	}
	return nil
}

// copyText writes bytes as rows of COPY's text format, one column each.
type copyText struct {
	w   io.Writer
	buf []byte
}

func (c *copyText) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		row := rest[:min(copyRowBytes, len(rest))]
		rest = rest[len(row):]
		c.buf = append(appendEscaped(c.buf[:0], row), '\n')
		if _, err := c.w.Write(c.buf); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// Files returns the names of the load's files that are there.
func (s *Space) Files(ctx context.Context) ([]string, error) {
	found, err := s.pool.Query(ctx, `SELECT filename FROM `+s.files.Sanitize()+` WHERE filename LIKE $1 ORDER BY filename`, s.dir+"%")
	if err == nil {
		var names []string
		names, err = pgx.CollectRows(found, pgx.RowTo[string])
		if err == nil {
			for i := range names {
				names[i] = strings.TrimPrefix(names[i], s.dir)
			}
			return names, nil
		}
	}
	if noSpace(err) {
		return nil, nil
	}
	return nil, fmt.Errorf("list uploaded files: %w", err)
}

// Remove deletes the load's files, or those named. That there are none is not an error.
func (s *Space) Remove(ctx context.Context, names ...string) error {
	there, err := s.Files(ctx)
	if err != nil {
		return err
	}
	want := map[string]bool{}
	for _, n := range names {
		want[n] = true
	}
	for _, n := range there {
		if len(names) > 0 && !want[n] {
			continue
		}
		// File by file: one holds a few rows of megabytes.
		for _, q := range []string{
			`DELETE FROM ` + s.payload.Sanitize() + ` WHERE file_id IN (SELECT file_id FROM ` + s.files.Sanitize() + ` WHERE filename = $1)`,
			`DELETE FROM ` + s.files.Sanitize() + ` WHERE filename = $1`,
		} {
			if _, err := s.pool.Exec(ctx, q, s.dir+n); err != nil {
				return fmt.Errorf("remove uploaded file %s: %w", n, err)
			}
		}
	}
	return nil
}

// noSpace reports whether nothing was ever uploaded by the user.
func noSpace(err error) bool {
	code := server.Code(err)
	return code == "42P01" || code == "3D000" || code == "42501"
}
