package importer

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"bulkload/loader/failure"
)

// A JobError says why a job has ended without success. None of its rows is in the table. The table
// is online again unless Status is RevertFailed.
type JobError struct {
	ID     int64 // zero if unknown
	Status Status
	Reason string // one line, without row contents, tokens and the server's wrapping
	Data   bool   // the rows are bad
	// Unreadable says that the server could not read the files.
	Unreadable bool
	File       string // of the bad row, as the server names it; empty if no row is bad
	Row        int64  // number of the bad row in File, from 1 on; zero if no row is bad
}

// ErrorKind implements failure.Kinded.
func (e *JobError) ErrorKind() failure.Kind {
	switch {
	case e.Data:
		return failure.Data
	case e.Status == RevertFailed:
		return failure.Unconfirmed
	}
	return failure.GaveUp
}

func (e *JobError) Error() string {
	s := "IMPORT"
	if e.ID != 0 {
		s += fmt.Sprintf(" job %d", e.ID)
	}
	s += " " + string(e.Status)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

var (
	// "URL: error parsing row 1: expected 2 fields, got 3 (row: "1,1,5")"
	rowFault   = regexp.MustCompile(`(?:(\S+): )?error parsing row (\d+): (.*)`)
	rowText    = regexp.MustCompile(`(?s)\s*\(row: .*\)\s*$`)
	urlPattern = regexp.MustCompile(`(?i)[a-z0-9+.-]+://[^\s"]+`)
	dataFaults = regexp.MustCompile(`error parsing row|duplicate key|collides with an existing one|null value in column|out of range|value too long|violates|too many parsing errors|line too long`)
	// Errors of CockroachDB's storages (pkg/storage/cloudimpl in 21.1), and of the libraries
	// below them, for files that they cannot read.
	fileFaults = regexp.MustCompile(`external_storage|storage file|s3 object|too many retries|exhausted retries|error response from server|UserFileTableSystem|` +
		`(?i:no such host|connection refused|initialize an aws config|dial tcp|AUTH is set|AUTH must|credentials|MissingRegion|AccessDenied|NoSuchBucket|NoSuchKey|InvalidAccessKeyId|SignatureDoesNotMatch|oauth|azblob|googleapi|unsupported storage scheme|local file access is disabled)`)
)

// wraps are parts of the server's messages that do not tell the cause, with their replacements.
var wraps = []struct {
	pattern *regexp.Regexp
	short   string
}{
	// The body of a web server's answer.
	{regexp.MustCompile(`\s*"\s*<(?:\\.|[^"\\])*"`), ""},
	{regexp.MustCompile(`-> github\.com/Azure\S*.*?ServiceCode=(\w+)\)[ =]*Description=(.*?)(?:,? RequestId:.*)?$`), "$1: $2"},
	{regexp.MustCompile(`,? status code: \d+, request id: [^,]*(, host id:( \S+)?)?`), ""},
	{regexp.MustCompile(`^exhausted retries: `), ""},
	{regexp.MustCompile(`rpc error: code = \w+ desc = `), ""},
	{regexp.MustCompile(`: external_storage: file doesn't exist$`), ""},
	{regexp.MustCompile(`: strconv\.\w+: parsing .*$`), ""},
}

// maxReason is the maximum number of characters in a reason.
const maxReason = 300

// plain returns the cause of a server's error, in one line.
func plain(text string, detail bool) string {
	text = strings.Join(strings.Fields(text), " ")
	if !detail {
		text = rowText.ReplaceAllString(text, "")
	}
	for _, w := range wraps {
		text = w.pattern.ReplaceAllString(text, w.short)
	}
	text = RedactAll(text)
	if r := []rune(text); len(r) > maxReason && !detail {
		text = string(r[:maxReason]) + "…"
	}
	return text
}

// Failure returns the *JobError of a job that has ended without success. With detail the reason may
// quote a row.
func Failure(j Job, detail bool) *JobError {
	e := &JobError{ID: j.ID, Status: j.Status, Reason: plain(j.Error, detail), Data: dataFaults.MatchString(j.Error)}
	e.Unreadable = !e.Data && fileFaults.MatchString(j.Error)
	if m := rowFault.FindStringSubmatch(strings.Join(strings.Fields(j.Error), " ")); m != nil {
		e.File = m[1]
		e.Row, _ = strconv.ParseInt(m[2], 10, 64)
	}
	return e
}

// publicParams are the parameters of a file's URL that hold no credentials.
var publicParams = map[string]bool{"AUTH": true, "AWS_REGION": true, "AWS_ENDPOINT": true, "AZURE_ACCOUNT_NAME": true}

// hide returns text without the credentials of the files' URLs. The server may quote credentials
// outside of a URL.
func hide(text string, files []string) string {
	for _, f := range files {
		u, err := url.Parse(f)
		if err != nil {
			continue
		}
		var secrets []string
		if pw, ok := u.User.Password(); ok {
			secrets = append(secrets, pw)
		}
		for part := range strings.SplitSeq(u.RawQuery, "&") {
			name, value, _ := strings.Cut(part, "=")
			if plain, err := url.QueryUnescape(value); err == nil && !publicParams[name] {
				secrets = append(secrets, value, plain)
			}
		}
		for _, s := range secrets {
			if len(s) > 3 { // shorter ones are in many words
				text = strings.ReplaceAll(text, s, "…")
			}
		}
	}
	return text
}
