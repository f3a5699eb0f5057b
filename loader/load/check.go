package load

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/importer"
	"bulkload/loader/server"
)

// Check returns a *TableError that names all contradictions within the request which need no
// server to be seen. New, Resume and NewPreview find them too, before they look at the table. A
// command calls Check before it connects, or starts a server.
func (r *Request) Check() error { return r.contradictions(false) }

// contradictions implements Check. byImport says that IMPORT loads the rows, as the user asks;
// only CockroachDB has it.
func (r *Request) contradictions(byImport bool) error {
	var list []string
	say := func(wrong bool, format string, args ...any) {
		if wrong {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	say(r.handsOff() && r.Method != "" && r.Method != Import, "--handoff, --serve-addr, --serve-cert, --serve-key and --streams are for --via import, not --via %s", r.Method)
	say(r.Indexes == DeferIndexes && r.NoRegistry, "--indexes defer stores the index definitions in the registry and cannot be used with --no-registry")
	say(r.Truncate && r.NoRegistry, "--truncate is recorded in the registry before it is done and cannot be used with --no-registry")
	say(r.Replace && r.NoRegistry, "--replace is recorded in the registry and cannot be used with --no-registry")
	say(r.Replace && r.Truncate, "--replace and --truncate are two ways to replace all rows; leave one out")
	say(r.Replace && r.Indexes == DeferIndexes, "--replace cannot be used with --indexes defer")
	say(r.Input != nil && r.CommitMode == commit.Statement && r.Input.Tolerates(), "--max-errors needs --commit transaction")
	if byImport {
		for _, flag := range r.ofChunks() {
			say(true, "--via import: "+dataset.NotByImport, flag)
		}
	}
	if r.Dataset != nil {
		if r.Table != "" {
			_, err := server.ParseTable(r.Table)
			say(err != nil, "%v", err)
		}
		if c, ok := r.Dataset.(dataset.Checker); ok {
			list = append(list, c.Check(dataset.Asked{Mode: r.CommitMode, Method: r.Method, NoRegistry: r.NoRegistry, Import: byImport})...)
		}
	}
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	return &TableError{Reason: strings.Join(slices.Compact(list), "; "), Flags: true}
}

// ofChunks returns the given flags that only a load in chunks has.
func (r *Request) ofChunks() (list []string) {
	for _, x := range []struct {
		given bool
		flag  string
	}{{r.CommitMode != "", "--commit"}, {r.Chunk != 0, "--chunk"}, {r.Rate > 0, "--rate"}, {r.InOrder, "--order file"}, {r.Indexes == DeferIndexes, "--indexes defer"}, {r.Truncate, "--truncate"}, {r.Replace, "--replace"}} {
		if x.given {
			list = append(list, x.flag)
		}
	}
	return list
}

// handsOff reports whether flags say how the server gets the rows.
func (r *Request) handsOff() bool {
	o := &r.ImportOptions
	return o.Mode != "" && o.Mode != importer.Auto || o.Addr != "" || o.CertFile != "" || o.Streams > 0
}

// contradict returns the contradictions within the request, before anything is looked at.
func (o *opening) contradict(context.Context) error {
	if o.purpose != toResume && o.req.Method != Import && o.srv.Product == server.PostgreSQL && o.req.handsOff() {
		return dataset.Contradict("--handoff, --serve-addr, --serve-cert, --serve-key and --streams are for IMPORT, which PostgreSQL does not have; leave them out")
	}
	if o.req.Replace && o.srv.Product != server.PostgreSQL {
		return dataset.Contradict("--replace needs PostgreSQL, where the swap of two tables is one transaction; use --truncate")
	}
	return o.req.contradictions(o.purpose != toResume && o.req.Method == Import && o.srv.Product == server.CockroachDB)
}
