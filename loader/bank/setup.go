package bank

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"bulkload/loader/server"
)

// A Setup is a database and its user. In the tutorial, root creates them by hand before the
// program runs.
type Setup struct {
	Database string
	User     string
}

// A Step is one statement of a Setup.
type Step struct {
	Object string // "database bank", "user maxroach", "grants on database bank"
	// Database is the database in which SQL must run; empty means any.
	Database string
	SQL      string
	// Done means that the object already exists: the statement is not sent.
	Done bool
}

// Steps checks what exists on the server and returns the statements of the set-up, in order.
// It writes nothing. The user of srv must be able to create databases and users.
func (s Setup) Steps(ctx context.Context, srv *server.Server) ([]Step, error) {
	if srv.Product == server.CockroachDB {
		s.User = strings.ToLower(s.User) // the server lower-cases it too, but not in a GRANT
	}
	haveDatabase, err := exists(ctx, srv.Config, "pg_catalog.pg_database WHERE datname = $1", s.Database)
	if err != nil {
		return nil, err
	}
	haveUser, err := exists(ctx, srv.Config, "pg_catalog.pg_roles WHERE rolname = $1", s.User)
	if err != nil {
		return nil, err
	}
	database, user := pgx.Identifier{s.Database}.Sanitize(), pgx.Identifier{s.User}.Sanitize()
	create, make := "CREATE DATABASE IF NOT EXISTS "+database, "CREATE USER IF NOT EXISTS "+user
	if srv.Product == server.PostgreSQL {
		create, make = "CREATE DATABASE "+database, "CREATE USER "+user
	}
	// Grants are not looked up: repeating one changes nothing.
	steps := []Step{
		{Object: "database " + s.Database, SQL: create, Done: haveDatabase},
		{Object: "user " + s.User, SQL: make, Done: haveUser},
		{Object: "grants on database " + s.Database, SQL: "GRANT ALL ON DATABASE " + database + " TO " + user},
	}
	if srv.Product == server.PostgreSQL {
		// From 15 on, only the owner may create tables in public.
		steps = append(steps, Step{Object: "grants on schema public", Database: s.Database, SQL: "GRANT ALL ON SCHEMA public TO " + user})
	}
	if !haveDatabase {
		return steps, nil
	}
	// Tables that another user created before, such as earlier loads by root.
	schemas, err := withTables(ctx, srv.Config.WithDatabase(s.Database))
	if err != nil {
		return nil, err
	}
	for _, schema := range schemas {
		in := pgx.Identifier{schema}
		if schema != "public" {
			steps = append(steps, Step{Object: "grants on schema " + schema, Database: s.Database, SQL: "GRANT ALL ON SCHEMA " + in.Sanitize() + " TO " + user})
		}
		sql := "GRANT ALL ON ALL TABLES IN SCHEMA " + in.Sanitize() + " TO " + user
		if srv.Product == server.CockroachDB {
			sql = "GRANT ALL ON TABLE " + pgx.Identifier{s.Database, schema}.Sanitize() + ".* TO " + user
		}
		steps = append(steps, Step{Object: "grants on the tables of schema " + schema, Database: s.Database, SQL: sql})
	}
	return steps, nil
}

// Apply executes the steps that are not done, each outside a transaction: some are not allowed
// in one. It calls after for each step, executed or not.
func (s Setup) Apply(ctx context.Context, srv *server.Server, steps []Step, after func(Step)) error {
	for _, step := range steps {
		if !step.Done {
			cfg := srv.Config
			if step.Database != "" {
				cfg = cfg.WithDatabase(step.Database)
			}
			err := server.With(ctx, cfg, func(conn *pgx.Conn) error {
				_, err := conn.Exec(ctx, step.SQL, pgx.QueryExecModeSimpleProtocol)
				return err
			})
			if err != nil && !alreadyThere(err) {
				return &server.CreateError{Kind: "the set-up's", Name: step.Object, Err: err}
			}
		}
		after(step)
	}
	return nil
}

// alreadyThere reports whether somebody else created the same object meanwhile.
func alreadyThere(err error) bool {
	switch server.Code(err) {
	case pgerrcode.DuplicateDatabase, pgerrcode.DuplicateObject, pgerrcode.UniqueViolation: // the last: two concurrent creates
		return true
	}
	return false
}

func exists(ctx context.Context, cfg *server.Config, from, name string) (bool, error) {
	var there bool
	err := server.With(ctx, cfg, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM "+from+")", name).Scan(&there)
	})
	if err != nil {
		return false, asIs("look for what is there", err)
	}
	return there, nil
}

// withTables returns the schemas of a database that have tables, except system schemas.
func withTables(ctx context.Context, cfg *server.Config) ([]string, error) {
	var schemas []string
	err := server.With(ctx, cfg, func(conn *pgx.Conn) error {
		found, err := conn.Query(ctx, `SELECT DISTINCT table_schema::TEXT AS s FROM information_schema.tables
			WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema', 'crdb_internal', 'pg_extension')
			AND table_schema NOT LIKE 'pg\_temp%' ORDER BY s`)
		if err != nil {
			return err
		}
		schemas, err = pgx.CollectRows(found, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, asIs("look for tables", err)
	}
	return schemas, nil
}

// asIs adds the step to an error, unless the error says itself that connecting failed.
func asIs(step string, err error) error {
	var connect *server.ConnectError
	if errors.As(err, &connect) {
		return err
	}
	return server.Failed(step, err)
}

// A ClientCertificate is the log-in of a user of a secure CockroachDB cluster.
type ClientCertificate struct {
	Binary   string // path of the cockroach binary
	CertsDir string // holds ca.crt; Create adds client.USER.crt and client.USER.key
	CAKey    string // path of the authority's key
	User     string
}

// Command returns the command that Create runs to make the certificate, also for display. No
// argument is a secret.
func (c ClientCertificate) Command() []string {
	return []string{c.Binary, "cert", "create-client", c.User, "--certs-dir=" + c.CertsDir, "--ca-key=" + c.CAKey}
}

// Files returns the paths of the certificate and its key.
func (c ClientCertificate) Files() (cert, key string) {
	base := filepath.Join(c.CertsDir, "client."+c.User)
	return base + ".crt", base + ".key"
}

// Exists reports whether the certificate and its key exist.
func (c ClientCertificate) Exists() bool {
	cert, key := c.Files()
	_, certErr := os.Stat(cert)
	_, keyErr := os.Stat(key)
	return certErr == nil && keyErr == nil
}

// Create makes the certificate. It never overwrites an existing one.
func (c ClientCertificate) Create(ctx context.Context) error {
	command := c.Command()
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
	if err == nil {
		return nil
	}
	said := strings.TrimPrefix(strings.TrimSpace(string(out)), "ERROR: ")
	said, _, _ = strings.Cut(said, "\n")
	return fmt.Errorf("make the certificate of %s with cockroach: %s (%w)", c.User, said, err)
}
