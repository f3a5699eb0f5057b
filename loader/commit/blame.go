package commit

import (
	"errors"
	"regexp"
	"strconv"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader/server"
)

// ofRow reports whether single rows can cause an error.
func ofRow(class server.Class, err error) bool {
	if class == server.Data || class == server.Duplicate {
		return true
	}
	switch server.Code(err) {
	case pgerrcode.RaiseException, pgerrcode.WithCheckOptionViolation, // raised by a trigger; WITH CHECK OPTION
		pgerrcode.CannotCoerce, pgerrcode.DatatypeMismatch: // casts that CockroachDB refuses by value
		return true
	}
	return false
}

// columnPart returns the column that an error names, as a prefix for messages, or nothing.
func columnPart(err error) string {
	if name := columnOf(err); name != "" {
		return "column " + name + ": "
	}
	return ""
}

var copyColumn = regexp.MustCompile(`^COPY .*, line \d+, column ("(?:[^"]|"")*"|[^:]+)`)

func columnOf(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return ""
	}
	if pg.ColumnName != "" {
		return pg.ColumnName
	}
	if m := copyColumn.FindStringSubmatch(pg.Where); m != nil {
		return m[1]
	}
	return ""
}

// unread reports whether COPY names a column whose text it could not read. COPY reads one row
// after the other, so this row is at fault. Errors during the write may name another line.
func unread(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && copyColumn.MatchString(pg.Where)
}

var copyLine = regexp.MustCompile(`^COPY .*?, line (\d+)`)

// blamed returns the index of the row that COPY names in its error, or -1.
func blamed(err error) int {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if m := copyLine.FindStringSubmatch(pg.Where); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil {
				return n - 1
			}
		}
	}
	return -1
}
