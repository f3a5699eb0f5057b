package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/urfave/cli/v2"

	"bulkload/loader/bank"
	"bulkload/loader/dataset"
	"bulkload/loader/failure"
	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

func (p *program) initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "create a database, a user with all rights in it, and the user's certificate",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "database", Usage: "database to create (default: the URL's, else bank)"},
			&cli.StringFlag{Name: "user", Value: "maxroach", Usage: "user to create"},
			&cli.StringFlag{Name: "ca-key", Usage: "CA key of the CockroachDB cluster, to create the user's certificate in --certs-dir"},
			&cli.BoolFlag{Name: "dry-run", Usage: "print the SQL and the commands instead of running them"},
		}, p.commonFlags()...),
		Description: `The URL names a user who may create databases and users, such as root or postgres.
Objects that exist are left unchanged, so init can be run again.
Examples:
   loader init --url 'postgres://root@localhost:26257?sslmode=disable'
   loader init --url 'postgres://root@localhost:26257' --certs-dir certs --ca-key my-safe-directory/ca.key
   loader init --url 'postgres://postgres@localhost/shop?sslmode=disable' --user shopkeeper --dry-run`,
		Action: p.init,
	}
}

// setUp reads the flags of init, except the server's: the objects to create.
func (p *program) setUp(c *cli.Context) (bank.Setup, *bank.ClientCertificate, error) {
	s := bank.Setup{Database: c.String("database"), User: c.String("user")}
	switch {
	case c.Args().Present():
		return s, nil, &usageError{fmt.Sprintf("init takes no argument %q", c.Args().First())}
	case !c.IsSet("ca-key"):
		return s, nil, nil
	case c.String("certs-dir") == "":
		return s, nil, &usageError{"--ca-key needs --certs-dir, the directory for the new certificate"}
	}
	cert := &bank.ClientCertificate{Binary: "cockroach", CertsDir: c.String("certs-dir"), CAKey: c.String("ca-key"), User: s.User}
	found, err := localdb.FindProduct(server.CockroachDB)
	if err == nil {
		cert.Binary = found.Path
	}
	if err != nil && !c.Bool("dry-run") && !cert.Exists() {
		return s, nil, &localError{fmt.Errorf("no cockroach binary found to create the certificate; on a machine that has one, run: %s", shellLine(cert.Command()))}
	}
	return s, cert, nil
}

func (p *program) init(c *cli.Context) error {
	if err := p.begin(c); err != nil {
		return err
	}
	setup, cert, err := p.setUp(c)
	if err != nil {
		return err
	}
	cfg, done, err := p.target(c.Context, c)
	if err != nil {
		return err
	}
	defer done()
	if setup.Database == "" {
		setup.Database = cfg.Database()
	}
	if setup.Database == "" {
		setup.Database = dataset.BankDatabase
	}
	srv, _, err := server.OpenExisting(c.Context, cfg.WithDatabase(""), setup.Database)
	if err != nil {
		return err
	}
	steps, err := setup.Steps(c.Context, srv)
	if err != nil {
		return err
	}
	p.note("target: %s at %s, user %s", srv.Info, srv.Config.Host(), srv.Config.User())
	r := initResult{Server: srv.Info.String(), Host: srv.Config.Host(), Database: setup.Database, User: setup.User, DryRun: c.Bool("dry-run")}
	if r.DryRun {
		r.add(steps)
		return p.printDryRun(r, steps, cert)
	}
	err = setup.Apply(c.Context, srv, steps, func(s bank.Step) {
		r.add([]bank.Step{s})
		switch {
		case p.json:
		case s.Done:
			fmt.Fprintf(p.stdout, "%s exists already\n", s.Object)
		case strings.HasPrefix(s.Object, "grants"):
			fmt.Fprintf(p.stdout, "granted rights %s\n", s.Object[len("grants "):])
		default:
			fmt.Fprintf(p.stdout, "created %s\n", s.Object)
		}
	})
	if err != nil {
		return err
	}
	if cert != nil {
		if err := p.makeCertificate(c, cert, &r); err != nil {
			return err
		}
	}
	if p.json {
		return p.printJSON(r)
	}
	if connection(c) != "" {
		certs := ""
		if dir := c.String("certs-dir"); dir != "" {
			certs = " --certs-dir " + shellWord(dir)
		}
		fmt.Fprintf(p.stdout, "continue with: loader accounts --url %s%s\n", shellWord(srv.Config.URLOf(setup.User, setup.Database)), certs)
	}
	return nil
}

// initResult is the JSON form of init's result, or of its dry run.
type initResult struct {
	Server      string     `json:"server"`
	Host        string     `json:"host"`
	Database    string     `json:"database"`
	User        string     `json:"user"`
	DryRun      bool       `json:"dry_run"`
	Steps       []initStep `json:"steps"`
	Certificate string     `json:"certificate,omitempty"`
}

type initStep struct {
	Object  string `json:"what"`
	SQL     string `json:"sql"`
	Already bool   `json:"already_there"`
}

func (r *initResult) add(steps []bank.Step) {
	for _, s := range steps {
		r.Steps = append(r.Steps, initStep{s.Object, s.SQL, s.Done})
	}
}

// printDryRun prints a script for cockroach sql or psql, and a shell.
func (p *program) printDryRun(r initResult, steps []bank.Step, cert *bank.ClientCertificate) error {
	if p.json {
		return p.printJSON(r)
	}
	in := ""
	for _, s := range steps {
		if s.Done {
			fmt.Fprintf(p.stdout, "-- %s exists already\n", s.Object)
			continue
		}
		if s.Database != "" && s.Database != in {
			in = s.Database
			fmt.Fprintf(p.stdout, "-- in database %s:\n", in)
		}
		fmt.Fprintf(p.stdout, "%s;\n", s.SQL)
	}
	switch {
	case cert == nil:
	case cert.Exists():
		fmt.Fprintf(p.stdout, "-- the certificate of %s exists already\n", cert.User)
	default:
		fmt.Fprintf(p.stdout, "-- in a shell: %s\n", shellLine(cert.Command()))
	}
	return nil
}

func (p *program) makeCertificate(c *cli.Context, cert *bank.ClientCertificate, r *initResult) error {
	r.Certificate, _ = cert.Files()
	done := "created"
	if cert.Exists() {
		done = "exists already:"
	} else if err := cert.Create(c.Context); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return &localError{err}
		}
		return &certificateError{err}
	}
	if !p.json {
		fmt.Fprintf(p.stdout, "%s %s and its key\n", done, r.Certificate)
	}
	return nil
}

// A certificateError reports that cockroach failed to make a certificate.
type certificateError struct{ err error }

// ErrorKind implements failure.Kinded.
func (e *certificateError) ErrorKind() failure.Kind { return failure.Target }

func (e *certificateError) Error() string { return e.err.Error() }
func (e *certificateError) Unwrap() error { return e.err }

// shellLine returns a command as typed in a shell.
func shellLine(command []string) string {
	words := make([]string, len(command))
	for i, w := range command {
		words[i] = shellWord(w)
	}
	return strings.Join(words, " ")
}

func shellWord(w string) string {
	if w != "" && strings.Trim(w, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@") == "" {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}
