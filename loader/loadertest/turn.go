package loadertest

import (
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A turn is what the server answers up to one ReadyForQuery: a Query, or the
// extended messages up to a Sync. It exists from the first of these messages
// until the server is ready again. Guarded by conn.mu.
type turn struct {
	steps  []step // of the extended protocol; a Query is one step
	at     int    // the step that the server answers next
	closed bool   // its Sync is there: nothing is added any more

	drop *Fault // pass nothing on from now; note the replies here
	late *late  // the statement arrives late: note the replies there
	lie  *lie
}

// A step is one client message that the server answers.
type step struct {
	kind   Kind
	sql    string
	hidden bool // the client did not send it, and does not see its answer
}

// A lie replaces the answer to a step by an ErrorResponse.
type lie struct {
	fault *Fault
	step  int  // the first step whose answer is replaced
	told  bool // the ErrorResponse has been sent
	after bool // the step was executed: pass on what comes before its last answer
}

// sql returns the statement that the server answers now.
func (t *turn) sql() string {
	switch {
	case len(t.steps) == 0:
		return ""
	case t.at < len(t.steps):
		return t.steps[t.at].sql
	}
	return t.steps[len(t.steps)-1].sql
}

// hide adds a step that the client did not send in front of the last one.
func (t *turn) hide(kind Kind, sql string) {
	t.steps = slices.Insert(t.steps, len(t.steps)-1, step{kind: kind, sql: sql, hidden: true})
}

// answered moves on to the next step if a reply of kind k is the last one to the present step.
func (t *turn) answered(k Kind) {
	if t.at < len(t.steps) && lastReply(t.steps[t.at].kind, k) {
		t.at++
	}
}

// lastReply reports whether k ends the answer to a client message of kind sent.
// A Query never ends before ReadyForQuery: it may be several statements.
func lastReply(sent, k Kind) bool {
	switch sent {
	case MsgParse:
		return k == MsgParseComplete
	case MsgBind:
		return k == MsgBindComplete
	case MsgClose:
		return k == MsgCloseComplete
	case MsgDescribe:
		return k == MsgRowDescription || k == MsgNoData
	case MsgExecute:
		return k == MsgCommandComplete || k == MsgEmptyQuery || k == MsgPortalSuspended
	}
	return false
}

// A verdict is what becomes of a reply.
type verdict int

const (
	pass    verdict = iota
	discard         // drop it
	replace         // send the lie instead
	end             // drop it and close the connection
)

// hears decides about a reply of kind k that belongs to the turn.
func (t *turn) hears(k Kind, body []byte) verdict {
	if t.drop != nil || t.late != nil {
		if r := outcome(k, body); r != "" {
			if t.late != nil {
				t.late.heard(r)
			} else {
				t.drop.addReply(r)
			}
		}
		if k == MsgReadyForQuery {
			return end
		}
		return discard
	}
	l := t.lie
	switch {
	case t.at < len(t.steps) && t.steps[t.at].hidden && lastReply(t.steps[t.at].kind, k):
		return discard
	case l == nil || k == MsgReadyForQuery || t.at < l.step:
		return pass
	case k == MsgNoticeResponse || k == MsgParameterStatus || k == MsgNotification || k == MsgCopyInResponse:
		return pass
	case l.told:
		return discard
	case k == MsgErrorResponse || k == MsgCommandComplete:
		l.told = true
		return replace
	case l.after:
		return pass
	}
	return discard
}

// outcome returns what a reply says of a statement: a command tag,
// "ERROR <SQLSTATE>", or nothing.
func outcome(k Kind, body []byte) string {
	switch k {
	case MsgCommandComplete:
		tag, _ := cstring(body)
		return tag
	case MsgErrorResponse:
		var e pgproto3.ErrorResponse
		if err := e.Decode(body); err != nil {
			return "ERROR"
		}
		return "ERROR " + e.Code
	}
	return ""
}
