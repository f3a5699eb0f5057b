package main

import (
	"context"
	"fmt"
	"os"
	"path"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/urfave/cli/v2"

	"bulkload/loader/failure"
	"bulkload/loader/server"
)

// program is the state shared by the commands.
type program struct {
	stdin  *os.File
	stdout *streamWriter
	stderr *streamWriter

	// A stop; see stop.go.
	stop      chan struct{} // closed by the first signal
	signal    atomic.Value  // the os.Signal
	importing atomic.Bool   // an IMPORT job is running on the server
	mu        sync.Mutex    // guards cleanups
	cleanups  []func()      // see atEnd

	// The end; see exit.go.
	exited   sync.Once
	exitCode int    // the result of exit
	document []byte // the result as JSON, not yet printed

	// Common flags.
	json     bool
	copyText bool // the files are in COPY's text format
	quiet    bool
	verbose  bool
	echo     bool

	rejects string         // base name of the rejects' files; empty: after the input file
	server  *server.Config // the target, once it is known

	// How the user can go on after an error; see hints.go.
	resumeID string // id of the running load
	further  string // the command that continues work other than a load; empty if there is none
	tolerate string // the flag that accepts more bad records; empty if there is none
	// inStatements: files are committed by statement on PostgreSQL, where that mode rejects no
	// records.
	inStatements bool
	keyed        bool // the load's URLs must be given again for each run
	handed       bool // the load hands off all of its files
	byFlag       bool // the target was named by --url
	byCommand    bool // the password comes from --password-command
}

// app describes the command line.
func (p *program) app() *cli.App {
	var loads []*cli.Command
	for _, g := range generators() {
		loads = append(loads, p.generateCommand(g))
	}
	app := &cli.App{
		Name:                      "loader",
		Usage:                     "load rows into CockroachDB and PostgreSQL in chunks, each row exactly once",
		Version:                   version(),
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true, // --set takes any expression, with commas
		Suggest:                   false,
		Writer:                    p.stdout,
		ErrWriter:                 p.stderr,
		// p.exit alone chooses the exit code.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   usage,
		Commands:       append(loads, p.rowsCommand(), p.csvCommand(), p.transferCommand(), p.countCommand(), p.initCommand(), p.planCommand(), p.benchCommand(), p.loadsCommand(), p.dbCommand(), p.completionCommand(), p.manCommand()),
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return &usageError{fmt.Sprintf("no command %q; loader --help lists them", c.Args().First())}
			}
			return cli.ShowAppHelp(c)
		},
		Description: `Examples:
   loader points --n 10000 --chunk 1000
   loader csv orders.csv --table orders
   loader accounts --n 100 --url 'postgres://root@localhost:26257/bank?sslmode=disable'
   loader plan points --n 1000000
   loader loads resume 3f9q2k7x
   loader db sql 'SELECT count(*) FROM points'

Without --url, loader starts a private local database: the one that was used before,
else cockroach if it is on PATH, else PostgreSQL, which is fetched if none is installed
(not with LOADER_DOWNLOAD=no). Its data stays; loader db remove deletes it.

Exit codes: 0 complete, every row confirmed; 1 a fault of loader itself; 2 usage;
3 bad data; 4 cannot connect, log in or use the table; 5 stopped, can be resumed;
6 not confirmed, or verification failed; 7 resume refused; 8 complete, with rejects;
130, 143, 129 stopped by a signal.`,
	}
	cli.VersionPrinter = func(c *cli.Context) { fmt.Fprintln(c.App.Writer, "loader", c.App.Version) }
	setUsage(app.Commands)
	groupFlags(app.Commands)
	return app
}

// setUsage makes every command report usage errors in one line, and refuse empty values. In help
// no switch says that it is off by default.
func setUsage(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = usage
		c.Before = refuseEmpty
		c.HideHelpCommand = true
		for _, f := range c.Flags {
			if f, ok := f.(*cli.BoolFlag); ok {
				f.DisableDefaultText = true
			}
		}
		setUsage(c.Subcommands)
	}
}

func usage(c *cli.Context, err error, _ bool) error {
	// Package flag quotes a value that does not parse. Only the value of --url may be a secret,
	// and it always parses, as any text.
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return &usageError{valueProblem(c, err.Error())}
	}
	if len(name) > 1 {
		name = "-" + name // package flag names every flag with one dash
	}
	return &usageError{fmt.Sprintf("-%s is not a flag of %s; %s --help lists its flags", name, c.Command.HelpName, c.Command.HelpName)}
}

// valueProblem says what a flag takes whose value package flag could not parse.
func valueProblem(c *cli.Context, text string) string {
	value, rest, ok := strings.Cut(text, " for flag -")
	value, quoted := strings.CutPrefix(value, "invalid value ")
	if !ok || !quoted {
		return text
	}
	name, _, _ := strings.Cut(rest, ":")
	for _, f := range c.Command.Flags {
		if f.Names()[0] != name {
			continue
		}
		switch f.(type) {
		case *cli.DurationFlag:
			return fmt.Sprintf("--%s takes a time such as 30s or 5m, not %s", name, value)
		case *cli.IntFlag:
			return fmt.Sprintf("--%s takes a whole number, not %s", name, value)
		}
	}
	return text
}

// refuseEmpty returns a usage error for a flag with an empty value, such as that of a variable
// that is not set: the command would otherwise run as if the flag were absent. Only --null may
// be empty.
func refuseEmpty(c *cli.Context) error {
	for _, f := range c.Command.Flags {
		name := f.Names()[0]
		if _, ok := f.(*cli.StringFlag); !ok || name == "null" || !c.IsSet(name) || c.String(name) != "" {
			continue
		}
		if name == "url" {
			return &usageError{"--url is empty: name a server, or leave the flag out for the private local database"}
		}
		return &usageError{fmt.Sprintf("--%s is empty: give it a value, or leave the flag out", name)}
	}
	return nil
}

// A usageError reports an invalid command line.
type usageError struct{ text string }

// ErrorKind implements failure.Kinded.
func (e *usageError) ErrorKind() failure.Kind { return failure.Usage }

func (e *usageError) Error() string { return e.text }

// version returns the module's version, the commit and Go's version.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown)"
	}
	v, commit := info.Main.Version, ""
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			commit = " " + s.Value[:min(12, len(s.Value))]
		}
	}
	if v == "" {
		v = "(devel)"
	}
	text := fmt.Sprintf("%s%s %s", v, commit, info.GoVersion)
	for _, m := range info.Deps {
		if name := path.Base(path.Dir(m.Path)); strings.HasPrefix(m.Path, "github.com/jackc/pgx/") || strings.HasPrefix(m.Path, "github.com/cockroachdb/cockroach-go/") {
			text += fmt.Sprintf(" %s %s", name, m.Version)
		}
	}
	return text
}

// note writes a line for the user to stderr, unless --quiet is set.
func (p *program) note(format string, args ...any) {
	if !p.quiet {
		fmt.Fprintln(p.stderr, printable(fmt.Sprintf(format, args...)))
	}
}

// always writes a line to stderr, also with --quiet.
func (p *program) always(format string, args ...any) {
	fmt.Fprintln(p.stderr, printable(fmt.Sprintf(format, args...)))
}

// commonFlags are the flags of every command that uses a database.
func (p *program) commonFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "url", Usage: "server: a postgres://, postgresql:// or cockroachdb:// URL, key=value pairs, or env for DATABASE_URL and PG* (default: LOADER_URL; if neither is given, rows go into a private local database)"},
		&cli.StringFlag{Name: "certs-dir", Usage: "directory of certificates in the layout of cockroach cert, for the files that the URL does not name"},
		&cli.StringFlag{Name: "password-command", Usage: "shell command whose first line of output is the password; it is run for every new connection"},
		&cli.StringFlag{Name: "priority", Usage: "priority of all transactions in CockroachDB's admission control: background, regular or critical"},
		&cli.BoolFlag{Name: "echo", Usage: "write every finished statement to stderr, with its time and shortened arguments"},
		&cli.StringFlag{Name: "format", Value: "text", Usage: "format of the result: text or json"},
		&cli.BoolFlag{Name: "quiet", Usage: "print only the result and errors"},
		&cli.BoolFlag{Name: "verbose", Usage: "print more, with details of server errors, which may quote rows"},
	}
}

// begin reads the common flags.
func (p *program) begin(c *cli.Context) error {
	p.quiet, p.verbose, p.echo = c.Bool("quiet"), c.Bool("verbose"), c.Bool("echo")
	if c.Command.Name == "csv" {
		return p.readFileFormat(c.String("format"))
	}
	switch f := c.String("format"); f {
	case "text", "json":
		p.json = f == "json"
	default:
		return &usageError{fmt.Sprintf("--format is text or json, not %q", f)}
	}
	return nil
}

// open opens the database of the target: the one that it names, or defaultDatabase. The caller
// must call done after use; there is nothing to be done after an error.
func (p *program) open(c *cli.Context, defaultDatabase string) (srv *server.Server, done func(), err error) {
	cfg, done, err := p.target(c.Context, c)
	if err != nil {
		return nil, nil, err
	}
	if srv, err = server.Open(c.Context, cfg, defaultDatabase); err != nil {
		done()
		return nil, nil, err
	}
	return srv, done, nil
}

// target returns the server named by --url or LOADER_URL, or starts a private local one. The
// caller must call done after use.
func (p *program) target(ctx context.Context, c *cli.Context) (cfg *server.Config, done func(), err error) {
	done = func() {}
	certs := c.String("certs-dir")
	switch priority := c.String("priority"); server.Priority(priority) {
	case server.Background, server.Regular, server.Critical:
	default:
		if c.IsSet("priority") {
			return nil, nil, &usageError{fmt.Sprintf("--priority is background, regular or critical, not %q", priority)}
		}
	}
	p.byFlag = c.IsSet("url")
	if text := connection(c); text != "" {
		cfg, err = server.ParseWithCerts(text, certs)
		if err == nil {
			if cfg.PasswordInString() && p.byFlag && text != "env" {
				p.note("ps shows the password in --url to other users of this machine; use PGPASSWORD, a passfile or the prompt instead")
			}
			cfg, err = p.withPassword(ctx, c, cfg)
		}
	} else if c.IsSet("password-command") {
		return nil, nil, &usageError{"--password-command needs --url: the local database has no password"}
	} else if certs != "" {
		return nil, nil, &usageError{"--certs-dir needs --url: the local database has no certificates"}
	} else {
		cfg, done, err = p.localTarget(ctx)
	}
	if err == nil && c.IsSet("priority") {
		cfg = cfg.WithPriority(server.Priority(c.String("priority")))
	}
	p.server = cfg
	if err == nil && p.echo {
		cfg = cfg.WithTracer((&echo{out: p.stderr}).tracer())
	}
	return cfg, done, err
}

// connection returns the user's connection string; empty if there is none. The flag itself does
// not read LOADER_URL, because IsSet could then not tell the two apart.
func connection(c *cli.Context) string {
	if c.IsSet("url") {
		return c.String("url")
	}
	return os.Getenv("LOADER_URL")
}
