package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"bulkload/loader/dataset"
	"bulkload/loader/importer"
	"bulkload/loader/load"
	"bulkload/loader/server"
)

// handoffFlags are the flags of loads by IMPORT.
func handoffFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "handoff", Value: "auto", Usage: "how the server gets the rows: auto, serve (over HTTP from this command), upload (over the SQL connection), or the URLs of files, separated by commas"},
		&cli.StringFlag{Name: "serve-addr", Usage: "HOST:PORT to serve at, which the server can reach (default: a free port of the loopback address)"},
		&cli.StringFlag{Name: "serve-cert", Usage: "certificate (PEM), to serve over TLS"},
		&cli.StringFlag{Name: "serve-key", Usage: "private key (PEM) of --serve-cert"},
		&cli.StringFlag{Name: "streams", Value: "auto", Usage: "number of files that the rows are split into, or auto for one per node"},
	}
}

// maxStreams bounds --streams.
const maxStreams = 1024

// readHandoff reads handoffFlags.
func readHandoff(c *cli.Context) (importer.Options, error) {
	o := importer.Options{Mode: importer.Mode(c.String("handoff")), Addr: c.String("serve-addr"), CertFile: c.String("serve-cert"), KeyFile: c.String("serve-key")}
	switch o.Mode {
	case "": // the command has no such flags
		return importer.Options{}, nil
	case importer.Auto, importer.Serve, importer.Upload:
	default:
		for f := range strings.SplitSeq(string(o.Mode), ",") {
			f = strings.TrimSpace(f)
			if !strings.Contains(f, "://") {
				return o, &usageError{"--handoff is auto, serve, upload or a URL that the server reads, such as s3://bucket/points.csv"}
			}
			if err := importer.CheckURL(f); err != nil {
				return o, &usageError{"--handoff: " + err.Error()}
			}
			o.Files = append(o.Files, f)
		}
		o.Mode = importer.URLs
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return o, &usageError{"--serve-cert and --serve-key must be used together"}
	}
	if (o.Mode == importer.Upload || o.Mode == importer.URLs) && (o.Addr != "" || o.CertFile != "") {
		return o, &usageError{"--serve-addr and --serve-cert need --handoff serve"}
	}
	if text := c.String("streams"); text != "auto" {
		n, err := number("streams", text, 1, maxStreams)
		if err != nil {
			return o, err
		}
		o.Streams = int(n)
	}
	return o, nil
}

// outJSON is the JSON form of the result of --out.
type outJSON struct {
	Kind      string   `json:"what"`
	Rows      int64    `json:"rows"`
	Seed      string   `json:"seed"`
	Files     []string `json:"files"`
	FirstKey  int64    `json:"first_key,omitempty"`
	EndKey    int64    `json:"end_key,omitempty"`
	Statement string   `json:"statement"`
}

// writeOut writes the rows of a load to files.
func (p *program) writeOut(c *cli.Context, req load.Request, seed uint64, pattern string) error {
	for _, flag := range []string{
		"url", "certs-dir", "password-command", "priority", "echo", "via", "commit", "chunk", "chunk-timeout", "retry-for", "rate", "order", "indexes", "no-registry", "handoff", "serve-addr", "serve-cert", "serve-key",
	} {
		if c.IsSet(flag) {
			return &usageError{fmt.Sprintf("--out writes files and uses no server; it cannot be used with --%s", flag)}
		}
	}
	if err := checkPattern(req.Settings, pattern); err != nil {
		return err
	}
	table, err := server.ParseTable(req.Table)
	if err != nil {
		return &usageError{err.Error()}
	}
	out, err := p.writeFiles(c, req.Dataset, table, pattern, req.Settings)
	if err != nil {
		return err
	}
	facts, rows := req.Dataset.Facts(), req.Dataset.Size().Rows
	if p.json {
		return p.printOut(facts, rows, seed, out)
	}
	fmt.Fprintf(p.stdout, "wrote %d %s to %s\n", rows, facts.Noun, strings.Join(out.Names, ", "))
	p.printStatement(out, pattern)
	fmt.Fprintf(p.stdout, "or: loader %s --n %d --seed %d --streams %d --via import --handoff 'nodelocal://1/%s'\n", facts.Kind, rows, seed, len(out.Names), strings.TrimSuffix(filepath.Base(pattern), ".zst"))
	return nil
}

// checkPattern refuses several files of one name.
func checkPattern(s load.Settings, pattern string) error {
	if s.ImportOptions.Streams > 1 && !strings.Contains(filepath.Base(pattern), "*") {
		return &usageError{fmt.Sprintf("--streams %d writes several files, but --out %q names one; a * in the name becomes the file's number", s.ImportOptions.Streams, pattern)}
	}
	return nil
}

// writeFiles writes the rows of a dataset to files until the user stops it.
func (p *program) writeFiles(c *cli.Context, d dataset.Dataset, table pgx.Identifier, pattern string, s load.Settings) (importer.Output, error) {
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	go func() {
		select {
		case <-p.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	r := p.report(d.Size().Rows, 0, d.Facts().Noun)
	defer r.end()
	out, err := importer.Write(ctx, importer.WriteRequest{
		Dataset: d, Table: table, Pattern: pattern, Files: s.ImportOptions.Streams, Workers: s.Workers, Observe: r.set,
	})
	// The user decides where the files will be.
	for _, n := range out.Names {
		out.Statement.Files = append(out.Statement.Files, "nodelocal://1/"+filepath.Base(n))
	}
	return out, err
}

func (p *program) printOut(facts dataset.Facts, rows int64, seed uint64, out importer.Output) error {
	return p.printJSON(outJSON{
		Kind: facts.Kind, Rows: rows, Seed: strconv.FormatUint(seed, 10), Files: out.Names,
		FirstKey: out.Keys.First, EndKey: out.Keys.End, Statement: out.Statement.SQL(),
	})
}

// printStatement prints the IMPORT INTO of written files.
func (p *program) printStatement(out importer.Output, pattern string) {
	if strings.HasSuffix(pattern, ".zst") {
		fmt.Fprintln(p.stdout, "IMPORT INTO does not read zstd: unpack the files where the server reads them")
	}
	for i, f := range out.Statement.Files {
		out.Statement.Files[i] = strings.TrimSuffix(f, ".zst")
	}
	fmt.Fprintf(p.stdout, "copy them to where the server reads them, as nodelocal://1, s3://bucket or http://host, then:\n%s;\n", out.Statement.SQL())
}

// writeRows writes the rows of any table to files, by the rules that the live table has.
func (p *program) writeRows(c *cli.Context, req load.Request, seed uint64, pattern string) error {
	for _, flag := range []string{
		"via", "commit", "chunk", "chunk-timeout", "retry-for", "rate", "order", "indexes", "no-registry", "handoff", "serve-addr", "serve-cert", "serve-key",
	} {
		if c.IsSet(flag) {
			return &usageError{fmt.Sprintf("--out writes files and loads nothing; it cannot be used with --%s", flag)}
		}
	}
	if err := errors.Join(checkPattern(req.Settings, pattern), req.Check()); err != nil {
		return err
	}
	srv, done, err := p.open(c, req.Dataset.Facts().Database)
	if err != nil {
		return err
	}
	defer done()
	rows, err := load.NewRows(c.Context, srv, req)
	if err != nil {
		return err
	}
	defer rows.Close()
	p.note("target: %s, table %s; nothing is written there", srv.Info, rows.Table.Display())
	for _, n := range rows.Notes {
		p.note("note: %s", n)
	}
	out, err := p.writeFiles(c, rows, rows.Table.Name, pattern, req.Settings)
	if err != nil {
		return err
	}
	out.Statement.Options = []importer.Option{{Key: "nullif", Value: ""}}
	if p.json {
		return p.printOut(rows.Facts(), rows.Size().Rows, seed, out)
	}
	fmt.Fprintf(p.stdout, "wrote %d rows of %s, seed %d, to %s\n", rows.Size().Rows, rows.Table.Display(), seed, strings.Join(out.Names, ", "))
	if srv.Product == server.CockroachDB {
		p.printStatement(out, pattern)
	}
	fmt.Fprintf(p.stdout, "load them: loader csv --table %s --header no --columns %s %s\n", shellWord(rows.Table.Display()), shellWord(strings.Join(out.Statement.Columns, ",")), strings.Join(out.Names, " "))
	return nil
}
