package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"bulkload/loader/failure"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// errVerify: verification found wrong or missing rows.
var errVerify = failure.New(failure.Unconfirmed, "verification failed")

// verifyJSON is the JSON form of loads verify.
type verifyJSON struct {
	Load        string `json:"load"`
	OK          bool   `json:"ok"`
	Rows        int64  `json:"rows"`
	Same        int64  `json:"same"`
	Changed     int64  `json:"changed"`
	Missing     int64  `json:"missing"`
	Conflicting int64  `json:"foreign"`
	Want        string `json:"checksum_want,omitempty"` // of generated rows
	Checksum    string `json:"checksum,omitempty"`
	First       string `json:"first,omitempty"` // of files: the first differing record
	Repeated    int64  `json:"repeated,omitempty"`
	Order       int64  `json:"order,omitempty"`
	There       *int64 `json:"there,omitempty"` // set if rows were only counted
	// Unknown lists what could not be compared.
	Unknown []string `json:"unknown,omitempty"`
}

func (p *program) verifyLoad(c *cli.Context, id string) error {
	return p.one(c, id, func(srv *server.Server, _ *registry.Registry, rec registry.Load) error {
		l, err := load.Resume(c.Context, srv, id, load.Settings{Input: files.NewInput(p.stdin), Stop: p.stop})
		if err != nil {
			return err
		}
		defer l.Close()
		boundMemory(l)
		r := p.report(rec.Positions, 0, l.Dataset.Facts().Unit+" compared")
		got, err := l.Verify(c.Context, r.set)
		r.end()
		if err != nil {
			return err
		}
		if p.json {
			if err := p.printJSON(newVerifyJSON(id, got)); err != nil {
				return err
			}
		} else {
			p.printReport(id, got)
		}
		switch {
		case got.OK():
			return nil
		case got.Place != "":
			return fmt.Errorf("%w, first in %s", errVerify, got.Place)
		case got.First >= 0:
			return fmt.Errorf("%w: the first row that differs is row %d, id %d", errVerify, got.First, got.FirstKey)
		}
		return errVerify
	})
}

// summed reports whether the rows have checksums: generated rows do.
func summed(r load.Report) bool { return r.Want != 0 || r.Got != 0 }

func newVerifyJSON(id string, r load.Report) verifyJSON {
	v := verifyJSON{
		Load: id, OK: r.OK(), Rows: r.Rows, Same: r.Same, Changed: r.Changed, Missing: r.Missing, Conflicting: r.Conflicting, First: r.Place,
		Repeated: r.Repeated, Order: r.Order, Unknown: r.Unknown,
	}
	if r.Counted {
		v.There = &r.There
	}
	if summed(r) {
		v.Want, v.Checksum = fmt.Sprintf("%016x", r.Want), fmt.Sprintf("%016x", r.Got)
	}
	return v
}

// printReport prints the result of a verification as text.
func (p *program) printReport(id string, r load.Report) {
	switch {
	case r.Counted:
		fmt.Fprintf(p.stdout, "load %s: %d records were loaded, and the table has %d rows\n", id, r.Rows, r.There)
	case !summed(r):
		more := ""
		if r.Repeated > 0 {
			more += fmt.Sprintf(", %d records repeat the key of another", r.Repeated)
		}
		if r.Order > 0 {
			more += fmt.Sprintf(", %d rows hold the wrong one of several records with their key", r.Order)
		}
		fmt.Fprintf(p.stdout, "load %s: %d of %d rows match the input, %d changed, %d missing%s\n", id, r.Same, r.Rows, r.Changed, r.Missing, more)
	default:
		fmt.Fprintf(p.stdout, "load %s: %d of %d rows match the seed, %d changed, %d missing, %d other rows (not from this load) in its key range; checksum %016x, expected %016x\n",
			id, r.Same, r.Rows, r.Changed, r.Missing, r.Conflicting, r.Got, r.Want)
	}
	for _, s := range r.Unknown {
		p.note("not checked: %s", s)
	}
}
