// Package userfile uploads virtual files into the database itself, as userfile:// storage,
// over plain SQL.
package userfile

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/klauspost/compress/gzip"

	"bulkload/loader/importer/virtual"
	"bulkload/loader/server"
)

// A Store is the userfile:// storage of one load: two tables of the user's own in the database.
// It needs the privilege to create tables, and no administrator. It is safe for concurrent use.
type Store struct {
	pool server.TimeoutPool
	user string
	host string // of userfile URLs: database.schema.tables
	dir  string // of the load's files
	// files and payload are the two tables.
	files, payload pgx.Identifier
}

// plainName matches names that a userfile URL holds unchanged.
var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// New returns the store of a load. It creates nothing.
func New(pool server.TimeoutPool, database, user, load string) *Store {
	if !plainName.MatchString(database) {
		database = "defaultdb" // a userfile URL cannot name others
	}
	// The name that cockroach userfile upload uses too.
	tables := "userfiles_" + user
	if !plainName.MatchString(user) {
		tables = "userfiles_loader_" + hex.EncodeToString([]byte(user))
	}
	s := &Store{pool: pool, user: user, host: database + ".public." + tables, dir: "/loader/" + load + "/"}
	s.files = pgx.Identifier{database, "public", tables + "_upload_files"}
	s.payload = pgx.Identifier{database, "public", tables + "_upload_payload"}
	return s
}

// URL returns the URL of a file of the load.
func (s *Store) URL(name string) string { return "userfile://" + s.host + s.dir + name }

// Sizes of uploaded rows. A reader of userfile:// requests 256 KiB at a time and receives the
// row that holds them (CockroachDB, pkg/storage/cloudimpl/filetable, newFileTableReader).
// Larger rows are read several times: COPY into user_file_upload makes rows of 4 MiB, and each
// is read 16 times.
const (
	payloadBytes = 256 << 10
	// insertRows is the number of rows of one INSERT.
	insertRows = 8
)

// partial is the suffix of the name of an incomplete file.
const partial = ".part"

// Prepare creates a missing store by a small upload, which it then removes.
func (s *Store) Prepare(ctx context.Context) error {
	if _, err := s.Files(ctx); !noSpace(err) {
		return err
	}
	ctx, cancel := s.pool.Deadline(ctx)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	_, err = conn.Conn().PgConn().CopyFrom(ctx, strings.NewReader("x\n"), `COPY "crdb_internal"."user_file_upload" FROM STDIN WITH destination = `+server.QuoteLiteral(s.URL("empty")))
	conn.Release()
	if err != nil {
		return fmt.Errorf("create the userfile storage: %w", err)
	}
	return s.Remove(ctx)
}

// Upload uploads a virtual file, compressed by gzip. retry sends statements again that failed
// for a temporary reason; the statements are idempotent. The error says that the file is not
// there, or wraps a *SourceError.
func (s *Store) Upload(ctx context.Context, name string, t *virtual.File, retry func(context.Context, func() error) error) error {
	id := make([]byte, 16)
	rand.Read(id) // never fails
	exec := func(sql string, args ...any) error {
		return retry(ctx, func() error {
			_, err := s.pool.Exec(ctx, sql, args...)
			return err
		})
	}
	uuid := pgtype.UUID{Bytes: [16]byte(id), Valid: true}
	if err := exec(`INSERT INTO `+s.files.Sanitize()+` (filename, file_id, file_size, username) VALUES ($1, $2, 0, $3) ON CONFLICT (filename) DO NOTHING`, s.dir+name+partial, uuid, s.user); err != nil {
		return fmt.Errorf("upload %s: %w", name, err)
	}
	w := &payload{insert: func(offsets []int64, rows [][]byte) error {
		return exec(`UPSERT INTO `+s.payload.Sanitize()+` (file_id, byte_offset, payload) SELECT $1, unnest($2::INT8[]), unnest($3::BYTES[])`, uuid, offsets, rows)
	}}
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err == nil {
		err = t.Write(ctx, z, 0)
	}
	if err == nil {
		err = z.Close()
	}
	if err == nil {
		err = w.flush()
	}
	if err == nil {
		err = exec(`UPDATE `+s.files.Sanitize()+` SET filename = $1, file_size = $2 WHERE file_id = $3`, s.dir+name, w.at, uuid)
	}
	var src *virtual.SourceError
	if err == nil || errors.As(err, &src) {
		return err
	}
	return fmt.Errorf("upload %s: %w", name, err)
}

// A payload cuts bytes into rows of the payload table.
type payload struct {
	insert func(offsets []int64, rows [][]byte) error

	buf []byte
	at  int64 // offset of buf
}

func (p *payload) Write(b []byte) (int, error) {
	p.buf = append(p.buf, b...)
	if len(p.buf) < insertRows*payloadBytes {
		return len(b), nil
	}
	return len(b), p.send(len(p.buf) / payloadBytes * payloadBytes)
}

// flush sends the remaining bytes.
func (p *payload) flush() error { return p.send(len(p.buf)) }

func (p *payload) send(n int) error {
	var offsets []int64
	var rows [][]byte
	for at := 0; at < n; at += payloadBytes {
		offsets = append(offsets, p.at+int64(at))
		rows = append(rows, p.buf[at:min(at+payloadBytes, n)])
	}
	if n == 0 {
		return nil
	}
	if err := p.insert(offsets, rows); err != nil {
		return err
	}
	p.buf = p.buf[:copy(p.buf, p.buf[n:])]
	p.at += int64(n)
	return nil
}

// Files returns the names of the load's files in the store.
func (s *Store) Files(ctx context.Context) ([]string, error) {
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
	return nil, fmt.Errorf("list uploaded files: %w", err)
}

// Remove deletes the load's files, or the named ones. Missing files are no error.
func (s *Store) Remove(ctx context.Context, names ...string) error {
	there, err := s.Files(ctx)
	if noSpace(err) {
		return nil
	}
	if err != nil {
		return err
	}
	want := map[string]bool{}
	for _, n := range names {
		want[n] = true
	}
	for _, n := range there {
		if len(names) > 0 && !want[strings.TrimSuffix(n, partial)] {
			continue
		}
		// File by file, since each has some tens of MiB.
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

// noSpace reports whether the store does not exist.
func noSpace(err error) bool {
	code := server.Code(err)
	return code == pgerrcode.UndefinedTable || code == pgerrcode.InvalidCatalogName || code == pgerrcode.InsufficientPrivilege
}
