package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/tracelog"

	"bulkload/loader/importer"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// Maximum lengths of an echoed statement and argument, in characters, and of a list of values.
const (
	maxSQL      = 1000
	maxArgument = 40
	maxValues   = 3
)

// An echo writes each statement after its end: its time, text and arguments, and the server's
// answer.
type echo struct {
	mu  sync.Mutex
	out io.Writer
}

// tracer returns the tracer that sends a connection's statements to Log.
func (e *echo) tracer() pgx.QueryTracer {
	return &tracelog.TraceLog{Logger: e, LogLevel: tracelog.LogLevelInfo}
}

// Log implements tracelog.Logger.
func (e *echo) Log(_ context.Context, _ tracelog.LogLevel, what string, data map[string]any) {
	var b strings.Builder
	took, _ := data["time"].(time.Duration)
	fmt.Fprintf(&b, "echo: %7.2f ms  ", ms(took))
	sql, _ := data["sql"].(string)
	failure, _ := data["err"].(error)
	switch what {
	case "Query", "BatchQuery":
		b.WriteString(shortSQL(sql))
		args, _ := data["args"].([]any)
		if short := shortArgs(sql, args); short != "" {
			b.WriteString("  " + short)
		}
	case "CopyFrom":
		name, _ := data["tableName"].(pgx.Identifier)
		fmt.Fprintf(&b, "COPY %s  %v rows", name.Sanitize(), data["rowCount"])
	case "Connect":
		fmt.Fprintf(&b, "connect to %v, database %v", data["host"], data["database"])
	case "Prepare":
		if failure == nil {
			return // the statement itself follows
		}
		b.WriteString("prepare " + shortSQL(sql))
	default: // the end of a batch, whose statements are logged one by one
		return
	}
	if tag, _ := data["commandTag"].(string); tag != "" {
		b.WriteString("  -> " + tag)
	}
	if failure != nil {
		b.WriteString("  -> error: " + redact(server.Reason(failure)))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	fmt.Fprintln(e.out, printable(b.String()))
}

func shortSQL(sql string) string {
	return cut(redact(strings.Join(strings.Fields(sql), " ")), maxSQL)
}

// shortArgs returns a statement's arguments shortened; none if one of them may be a secret.
func shortArgs(sql string, args []any) string {
	if secretStatement.MatchString(sql) {
		return "[…]"
	}
	var short []string
	for _, a := range args {
		switch a.(type) {
		case pgx.QueryExecMode, pgx.QueryResultFormats: // options for pgx, not arguments for the server
		default:
			short = append(short, shortArg(a))
		}
	}
	if len(short) == 0 {
		return ""
	}
	return "[" + strings.Join(short, ", ") + "]"
}

func shortArg(a any) string {
	switch v := a.(type) {
	case nil:
		return "NULL"
	case *rows.Values:
		switch v.Kind {
		case rows.Int:
			return shortList(v.Ints)
		case rows.Float:
			return shortList(v.Floats)
		}
		return fmt.Sprintf("{%d texts of %d bytes}", v.Len(), v.TextBytes())
	case []int64:
		return shortList(v)
	case []float64:
		return shortList(v)
	case []string:
		return shortList(v)
	case string:
		return "'" + cut(redact(v), maxArgument) + "'"
	case *string:
		if v == nil {
			return "NULL"
		}
		return shortArg(*v)
	case *int64:
		if v == nil {
			return "NULL"
		}
		return fmt.Sprint(*v)
	}
	return cut(redact(fmt.Sprint(a)), maxArgument)
}

// shortList returns the first values of a list, and its length.
func shortList[T any](list []T) string {
	first := make([]string, 0, maxValues)
	for _, v := range list[:min(len(list), maxValues)] {
		first = append(first, cut(redact(fmt.Sprint(v)), maxArgument))
	}
	s := strings.Join(first, ", ")
	if len(list) > maxValues {
		s += fmt.Sprintf(", … %d values", len(list))
	}
	return "{" + s + "}"
}

// cut shortens a text to n characters.
func cut(s string, n int) string {
	at := 0
	for i := range s {
		if at++; at > n {
			return s[:i] + "…"
		}
	}
	return s
}

var (
	secretStatement = regexp.MustCompile(`(?i)\b(password|secret|credentials|token)\b`)
	secrets         = []*regexp.Regexp{
		regexp.MustCompile(`(?i)(\bpassword\s*=?\s*e?')(?:[^']|'')*(')`),
		regexp.MustCompile(`(?i)(\b[a-z_]*(?:secret|token|key|credentials|password|passwd|pwd)[a-z_]*=)[^&'"\s]+()`),
		regexp.MustCompile(`(://[^/\s:@']*:)[^\s']*(@)`),
	}
)

// redact removes possible secrets from a text: credentials in URLs, users' passwords, and
// values named like a secret.
func redact(s string) string {
	s = importer.RedactAll(s)
	for _, r := range secrets {
		s = r.ReplaceAllString(s, "${1}…${2}")
	}
	return s
}
