package bench

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader/dataset"
	"bulkload/loader/load"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// scratch makes and drops the tables that runs load into. The table names contain the id of
// the measurement, as does the name of its session. That distinguishes the leftovers of a
// killed measurement from tables in use.
type scratch struct {
	*Bench
	id       string
	pool     *pgxpool.Pool
	registry *registry.Registry // nil with NoRegistry
	asked    pgx.Identifier     // the named table as requested
	like     *server.Table      // the named table; nil if it does not exist
	target   string             // name of the named table in the registry
	made     int
	there    []string // tables made and not dropped yet
	notes    []string
}

const scratchPrefix = "loader_bench_"

// scratchName matches the name of a scratch table: the id of its measurement, and a number.
var scratchName = regexp.MustCompile(`loader_bench_([0-9a-z]{8})_\d+`)

// sessionName returns the application_name of a measurement's own session.
func sessionName(id string) string { return "loader bench " + id }

// cleanTimeout bounds each clean-up step, also after the user's second Ctrl-C.
const cleanTimeout = 30 * time.Second

// openScratch describes the named table and removes the leftovers of dead measurements.
func openScratch(ctx context.Context, b *Bench) (*scratch, error) {
	req := b.Request()
	s := &scratch{Bench: b, id: registry.NewID()}
	name := req.Table
	if name == "" {
		name = req.Dataset.Facts().Table
	}
	var err error
	if s.asked, err = server.ParseTable(name); err != nil {
		return nil, &load.TableError{Reason: err.Error()}
	}
	if s.pool, err = b.Server.Pool(ctx, server.Sessions{Name: sessionName(s.id), Max: 2}); err != nil {
		return nil, err
	}
	if err := s.describe(ctx, req); err != nil {
		server.ClosePool(s.pool)
		return nil, err
	}
	return s, nil
}

// describe finds the table that the scratch table is to be like, opens the registry, and drops the
// scratch tables of dead benches.
func (s *scratch) describe(ctx context.Context, req load.Request) error {
	var err error
	s.like, err = server.Describe(ctx, s.pool, s.Server.Info, s.asked)
	switch {
	case errors.Is(err, server.ErrNoTable):
		s.like = nil
		if refused := s.creatable(ctx, req); refused != nil {
			return &load.TableError{Reason: fmt.Sprintf("%v; %v", err, refused)}
		}
	case err != nil:
		return err
	default:
		s.target = s.like.Display()
	}
	if !req.NoRegistry {
		if s.registry, err = registry.Create(ctx, s.pool, s.Server.Info); err != nil {
			return err
		}
	}
	return s.sweep(ctx)
}

// creatable returns the reason why a load cannot create its table, or nil.
func (s *scratch) creatable(ctx context.Context, req load.Request) error {
	d := req.Dataset.Fresh()
	defer d.Close()
	if err := d.Inspect(ctx, &dataset.Opening{DB: s.pool, Info: s.Server.Info, Stop: s.Stop, Note: func(string) {}}); err != nil {
		return err
	}
	_, _, err := d.Create(ctx, s.Server.Product, s.asked)
	return err
}

// sweep drops the scratch tables of measurements whose session has ended.
func (s *scratch) sweep(ctx context.Context) error {
	found, err := s.pool.Query(ctx, `SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND c.relname LIKE 'loader\_bench\_%'`)
	if err != nil {
		return fmt.Errorf("look for scratch tables: %w", err)
	}
	var schema, name string
	var tables []pgx.Identifier
	if _, err = pgx.ForEachRow(found, []any{&schema, &name}, func() error {
		tables = append(tables, pgx.Identifier{schema, name})
		return nil
	}); err != nil {
		return fmt.Errorf("look for scratch tables: %w", err)
	}
	if len(tables) == 0 && s.registry == nil {
		return nil
	}
	alive, err := s.alive(ctx)
	if err != nil {
		return err
	}
	dead := func(text string) bool {
		m := scratchName.FindStringSubmatch(text)
		return m != nil && !slices.Contains(alive, sessionName(m[1]))
	}
	// The records first: forgetting a load ends the sessions that may still lock its table.
	if s.registry != nil {
		list, err := s.registry.List(ctx)
		if err != nil {
			return err
		}
		for _, l := range list {
			if dead(l.Target) {
				if err := s.forget(ctx, l.ID); err != nil {
					return err
				}
			}
		}
	}
	for _, t := range tables {
		if !dead(t[1]) {
			continue
		}
		if err := s.dropTable(ctx, t); err != nil {
			s.note(fmt.Sprintf("scratch table %s of an earlier bench cannot be dropped: %s", server.Display(t), server.Reason(err)))
			continue
		}
		s.note(fmt.Sprintf("dropped %s, left by an earlier bench", server.Display(t)))
	}
	return nil
}

func (s *scratch) note(text string) {
	if s.Note != nil {
		s.Note(text)
	}
}

// alive returns the session names of the running measurements.
func (s *scratch) alive(ctx context.Context) ([]string, error) {
	q := `SELECT COALESCE(application_name, '') FROM pg_catalog.pg_stat_activity WHERE application_name LIKE 'loader bench %'`
	if s.Server.Product == server.CockroachDB {
		q = `SELECT application_name FROM [SHOW CLUSTER SESSIONS] WHERE application_name LIKE 'loader bench %'`
	}
	found, err := s.pool.Query(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("list the sessions of other benches: %w", err)
	}
	list, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list the sessions of other benches: %w", err)
	}
	return list, nil
}

// identifier returns the full name of a scratch table, in the schema of the named table.
func (s *scratch) identifier(table string) pgx.Identifier {
	if s.like != nil {
		return pgx.Identifier{s.like.Name[0], table}
	}
	return append(slices.Clone(s.asked[:len(s.asked)-1]), table)
}

// name returns the full name of a scratch table as a request takes it.
func (s *scratch) name(table string) string { return s.identifier(table).Sanitize() }

// make creates an empty table like the named table. If that does not exist, make only reserves
// the name: the load creates the table.
func (s *scratch) make(ctx context.Context) (string, error) {
	s.made++
	table := fmt.Sprintf("%s%s_%d", scratchPrefix, s.id, s.made)
	s.there = append(s.there, table)
	if s.like == nil {
		return table, nil
	}
	to := s.identifier(table).Sanitize()
	ddl := "CREATE TABLE " + to + " (LIKE " + s.like.Name.Sanitize() + " INCLUDING ALL)"
	if s.Server.Product == server.CockroachDB {
		// On CockroachDB, LIKE omits column families and foreign keys.
		var create string
		if err := s.pool.QueryRow(ctx, `SELECT create_statement FROM [SHOW CREATE TABLE `+s.like.Name.Sanitize()+`]`).Scan(&create); err != nil {
			return table, fmt.Errorf("read the definition of table %s: %w", s.target, err)
		}
		ddl = "CREATE TABLE " + to + " " + body(create)
	}
	if _, err := s.pool.Exec(ctx, ddl); err != nil {
		return table, &server.CreateError{Kind: "scratch table", Name: server.Display(s.identifier(table)), Err: err}
	}
	if s.Server.Product == server.PostgreSQL {
		for _, f := range s.like.ForeignKeys {
			if _, err := s.pool.Exec(ctx, "ALTER TABLE "+to+" ADD "+f.Definition); err != nil {
				s.once(fmt.Sprintf("the scratch table lacks foreign key %s, which makes real loads slower: %s", f.Name, server.Reason(err)))
			}
		}
	}
	if len(s.like.Triggers) > 0 {
		s.once(fmt.Sprintf("the scratch table lacks the triggers of %s, which make real loads slower", s.target))
	}
	if s.like.Kind == "p" {
		s.once(fmt.Sprintf("the scratch table lacks the partitions of %s", s.target))
	}
	return table, nil
}

// once adds a note to the report, unless it is already there.
func (s *scratch) once(text string) {
	if !slices.Contains(s.notes, text) {
		s.notes = append(s.notes, text)
		s.note(text)
	}
}

// makeBare is make without secondary indexes.
func (s *scratch) makeBare(ctx context.Context) (string, error) {
	table, err := s.make(ctx)
	if err != nil || s.like == nil {
		return table, err
	}
	t, err := server.Describe(ctx, s.pool, s.Server.Info, s.identifier(table))
	if err != nil {
		return table, err
	}
	for _, x := range t.Indexes {
		if x.Primary || x.Drop == "" {
			continue
		}
		if _, err := s.pool.Exec(ctx, x.Drop); err != nil {
			return table, fmt.Errorf("drop index %s of the scratch table: %w", x.Name, err)
		}
	}
	return table, nil
}

// resolved learns the schema from a scratch table if the named table does not exist.
func (s *scratch) resolved(ctx context.Context, table string) error {
	if s.target != "" {
		return nil
	}
	t, err := server.Describe(ctx, s.pool, s.Server.Info, s.identifier(table))
	if err != nil {
		return err
	}
	s.target = server.Display(pgx.Identifier{t.Name[0], s.asked[len(s.asked)-1]})
	return nil
}

// settle makes CockroachDB remove the rows of a dropped scratch table after a minute instead
// of a day. Without the privilege for that, they stay as long as those of any dropped table.
func (s *scratch) settle(ctx context.Context, table string) {
	if s.Server.Product == server.CockroachDB {
		ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
		defer cancel()
		_, _ = s.pool.Exec(ctx, "ALTER TABLE "+s.name(table)+" CONFIGURE ZONE USING gc.ttlseconds = 60")
	}
}

// drop drops a scratch table, even if ctx has ended.
func (s *scratch) drop(ctx context.Context, table string) {
	ctx = context.WithoutCancel(ctx)
	s.settle(ctx, table)
	if err := s.dropTable(ctx, s.identifier(table)); err != nil {
		s.note(fmt.Sprintf("scratch table %s cannot be dropped: %s; the next bench in this database drops it", table, server.Reason(err)))
		return
	}
	s.there = slices.DeleteFunc(s.there, func(t string) bool { return t == table })
}

func (s *scratch) dropTable(ctx context.Context, name pgx.Identifier) error {
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	return s.exec(ctx, "DROP TABLE IF EXISTS "+name.Sanitize())
}

// forget removes the record of a load into a scratch table, even if the load has not rebuilt
// its indexes.
func (s *scratch) forget(ctx context.Context, id string) error {
	if s.registry == nil || id == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	rec, err := s.registry.Get(ctx, id)
	if err != nil {
		return err
	}
	if rec.Job != 0 && rec.State != registry.Done {
		// An IMPORT that nobody waits for keeps its table offline. An error may only mean that
		// it has ended meanwhile.
		_, _ = s.pool.Exec(ctx, fmt.Sprintf("CANCEL JOB %d", rec.Job))
	}
	if err := s.registry.Restore(ctx, id, func(registry.Index) error { return nil }); err != nil {
		return err
	}
	return s.registry.Forget(ctx, id)
}

// close drops the remaining tables and closes the session.
func (s *scratch) close(ctx context.Context) {
	for _, t := range slices.Clone(s.there) {
		s.drop(ctx, t)
	}
	server.ClosePool(s.pool)
}

// offline is CockroachDB's SQLSTATE for a table that an IMPORT has taken offline.
const offline = pgerrcode.ObjectNotInPrerequisiteState

// exec executes a statement that is safe to repeat, with retries after transient errors.
func (s *scratch) exec(ctx context.Context, sql string) error {
	var failed error
	p := server.RetryPolicy{Judge: func(err error) bool { return server.MayPass(err) || server.Code(err) == offline }}
	err := p.Do(ctx, func() error {
		_, failed = s.pool.Exec(ctx, sql)
		return failed
	})
	if err != nil {
		err = failed // also if ctx ended meanwhile
	}
	return err
}

// body returns the text after the name in CockroachDB's CREATE TABLE, without the statements
// that may follow it.
func body(create string) string {
	quoted, start, depth := false, -1, 0
	var text byte // the quote of the current string, or 0
	for i := 0; i < len(create); i++ {
		c := create[i]
		switch {
		case text != 0:
			if c == text {
				text = 0
			}
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '\'':
			text = c
		case c == '(':
			if depth++; start < 0 {
				start = i
			}
		case c == ')':
			depth--
		case c == ';' && depth == 0 && start >= 0:
			return strings.TrimSpace(create[start:i])
		}
	}
	return strings.TrimSpace(create[max(start, 0):])
}
