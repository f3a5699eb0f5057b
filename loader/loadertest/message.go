package loadertest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A Kind names a protocol message. The names are those of the protocol's
// documentation, https://www.postgresql.org/docs/current/protocol-message-formats.html.
type Kind string

// Kinds of messages that a client sends.
const (
	MsgStartup   Kind = "StartupMessage"
	MsgPassword  Kind = "PasswordMessage" // and the SASL messages: they share one type byte
	MsgQuery     Kind = "Query"
	MsgParse     Kind = "Parse"
	MsgBind      Kind = "Bind"
	MsgDescribe  Kind = "Describe"
	MsgExecute   Kind = "Execute"
	MsgClose     Kind = "Close"
	MsgSync      Kind = "Sync"
	MsgFlush     Kind = "Flush"
	MsgCopyFail  Kind = "CopyFail"
	MsgCall      Kind = "FunctionCall"
	MsgTerminate Kind = "Terminate"

	// MsgStatement is no message of the protocol. It matches, once for every
	// statement, the message that makes it take effect: its Query or Execute,
	// or the CopyDone of a COPY FROM STDIN.
	MsgStatement Kind = "statement"
)

// Kinds of messages that both sides send, and that a server sends.
const (
	MsgCopyData Kind = "CopyData"
	MsgCopyDone Kind = "CopyDone"

	MsgAuthentication   Kind = "Authentication"
	MsgBackendKeyData   Kind = "BackendKeyData"
	MsgParameterStatus  Kind = "ParameterStatus"
	MsgReadyForQuery    Kind = "ReadyForQuery"
	MsgParseComplete    Kind = "ParseComplete"
	MsgBindComplete     Kind = "BindComplete"
	MsgCloseComplete    Kind = "CloseComplete"
	MsgParameterDesc    Kind = "ParameterDescription"
	MsgRowDescription   Kind = "RowDescription"
	MsgNoData           Kind = "NoData"
	MsgDataRow          Kind = "DataRow"
	MsgCommandComplete  Kind = "CommandComplete"
	MsgEmptyQuery       Kind = "EmptyQueryResponse"
	MsgPortalSuspended  Kind = "PortalSuspended"
	MsgErrorResponse    Kind = "ErrorResponse"
	MsgNoticeResponse   Kind = "NoticeResponse"
	MsgNotification     Kind = "NotificationResponse"
	MsgCopyInResponse   Kind = "CopyInResponse"
	MsgCopyOutResponse  Kind = "CopyOutResponse"
	MsgCopyBothResponse Kind = "CopyBothResponse"
)

var frontendKinds = map[byte]Kind{
	'p': MsgPassword, 'Q': MsgQuery, 'P': MsgParse, 'B': MsgBind, 'D': MsgDescribe,
	'E': MsgExecute, 'C': MsgClose, 'S': MsgSync, 'H': MsgFlush, 'd': MsgCopyData,
	'c': MsgCopyDone, 'f': MsgCopyFail, 'F': MsgCall, 'X': MsgTerminate,
}

var backendKinds = map[byte]Kind{
	'R': MsgAuthentication, 'K': MsgBackendKeyData, 'S': MsgParameterStatus,
	'Z': MsgReadyForQuery, '1': MsgParseComplete, '2': MsgBindComplete,
	'3': MsgCloseComplete, 't': MsgParameterDesc, 'T': MsgRowDescription,
	'n': MsgNoData, 'D': MsgDataRow, 'C': MsgCommandComplete, 'I': MsgEmptyQuery,
	's': MsgPortalSuspended, 'E': MsgErrorResponse, 'N': MsgNoticeResponse,
	'A': MsgNotification, 'G': MsgCopyInResponse, 'H': MsgCopyOutResponse,
	'W': MsgCopyBothResponse, 'd': MsgCopyData, 'c': MsgCopyDone,
}

// A Side is one end of the wire.
type Side int

// The two ends. The zero Side is the client: most faults are told by what it sends.
const (
	Frontend Side = iota // the client
	Backend              // the server
)

// String returns "frontend" or "backend".
func (s Side) String() string {
	if s == Backend {
		return "backend"
	}
	return "frontend"
}

// A Message is one protocol message as a [Match] sees it.
type Message struct {
	From Side
	Kind Kind
	Conn int // number of the connection, from 1 in the order of arrival

	// SQL is the text of the statement that the message belongs to, cut at
	// 4 KiB: of a Bind the text that was parsed under its statement's name, of a
	// CopyDone that of its COPY, of a reply that of the statement it answers.
	SQL string

	// Body is the message without type and length. It belongs to the proxy and
	// is valid during the call only.
	Body []byte
}

// maxSQL is how much of a statement's text is kept for matching. A 16 MiB INSERT
// of literals would otherwise be copied and searched at every message.
const maxSQL = 4 << 10

// maxFrame is the length at which a frame must be nonsense: PostgreSQL's own
// limit of one message is 1 GiB - 1.
const maxFrame = 1 << 30

// headerSize is the type byte and the length.
const headerSize = 5

var (
	copyIn = regexp.MustCompile(`(?is)(?:^|;)\s*copy\b.*\bfrom\s+stdin\b`)
	commit = regexp.MustCompile(`(?is)^\s*(commit|end)\b`)
)

// is reports whether the message is one of kind k.
func (m *Message) is(k Kind) bool {
	switch {
	case k == "" || k == m.Kind:
		return true
	case k != MsgStatement || m.From != Frontend:
		return false
	case m.Kind == MsgQuery || m.Kind == MsgExecute:
		return !copyIn.MatchString(m.SQL)
	}
	return m.Kind == MsgCopyDone
}

// appendFrame reads one whole message with type byte and appends it to buf.
func appendFrame(r *bufio.Reader, buf []byte) ([]byte, error) {
	head, err := r.Peek(headerSize)
	if err != nil {
		return buf, err
	}
	size := int(binary.BigEndian.Uint32(head[1:])) + 1
	if size < headerSize || size > maxFrame {
		return buf, fmt.Errorf("message %q of %d bytes", head[0], size)
	}
	from := len(buf)
	buf = append(buf, make([]byte, size)...)
	_, err = io.ReadFull(r, buf[from:])
	return buf, err
}

// cstring returns the bytes before the first zero byte, and those behind it.
func cstring(b []byte) (string, []byte) {
	s, rest, _ := bytes.Cut(b, []byte{0})
	return string(s), rest
}

// sqlText returns the zero-terminated statement text at the front of b, cut at maxSQL.
func sqlText(b []byte) string {
	if i := bytes.IndexByte(b[:min(len(b), maxSQL)], 0); i >= 0 {
		return string(b[:i])
	}
	return string(b[:min(len(b), maxSQL)])
}

// recount returns a CommandComplete or a DataRow with the fault's number in it, or the
// message as it is where no number is there.
func recount(frame []byte, f *Fault) []byte {
	switch frame[0] {
	case 'C':
		tag, _ := cstring(frame[headerSize:])
		at := strings.LastIndexByte(tag, ' ') + 1
		if n, err := strconv.Atoi(tag[at:]); err == nil {
			frame, _ = (&pgproto3.CommandComplete{CommandTag: []byte(tag[:at] + strconv.Itoa(n-f.Less))}).Encode(nil)
		}
	case 'D':
		var row pgproto3.DataRow
		if row.Decode(frame[headerSize:]) != nil || f.Column >= len(row.Values) {
			break
		}
		if n, err := strconv.Atoi(string(row.Values[f.Column])); err == nil {
			row.Values[f.Column] = strconv.AppendInt(nil, int64(n-f.Less), 10)
			frame, _ = row.Encode(nil)
		}
	}
	return frame
}
