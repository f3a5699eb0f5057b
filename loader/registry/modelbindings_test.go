package registry_test

// A binding says which steps of the model stand for a statement of the code.
type binding struct {
	// sql is the statement, blanks as one, … for what the code puts in; where it has no
	// steps, what it begins with.
	sql   string
	steps []string // none: why says why it is outside of the model
	why   string
}

const (
	crashes     = "is of servers that lose what they have confirmed, which the model's does not"
	whoSees     = "tells whether the sessions of a run are in the list that is read: the variant blind"
	mends       = "is of a load whose file was mended, which no run works on and whose runs are fenced: its positions get other names"
	announces   = "comes before the rows and says which part of a lease a dead run may have sent: the model takes all of the lease for that part"
	makesTables = "makes or upgrades the tables of the registry, before any load"
	onlyReads   = "reads for people, and decides nothing"
	notOfRows   = "is kept for other purposes than which rows are in"
)

// bindings are all statements of the registry, and those of package commit on its tables.
var bindings = []binding{
	// A claim, a release, a takeover, an end.
	{sql: "SELECT positions, done, …, state, … FROM loader.loads WHERE id = $1…",
		steps: []string{"read-claims", "lock", "lock-cancelled", "lock-ended", "mark", "mark-all"}},
	{sql: "SELECT lo, hi, run, done, EXTRACT(epoch FROM now() - beat)::FLOAT8, … FROM loader.claims WHERE load = $1 ORDER BY lo",
		steps: []string{"read-claims", "read-own-claim", "read", "read-lost", "mark-all"}},
	{sql: "INSERT INTO loader.claims (load, lo, hi, run, announced) SELECT $1, $2::INT8, $3::INT8, $4, $5::BOOL WHERE NOT EXISTS (SELECT 1 FROM loader.runs WHERE load = $1 AND run = $4 AND fenced)",
		steps: []string{"insert-claim", "insert-claim-and-no-reply"}},
	{sql: "UPDATE loader.claims SET done = …, beat = now() WHERE load = $1 AND lo = $2 AND run = $3 AND successor IS NULL",
		steps: []string{"checkpoint"}},
	{sql: "DELETE FROM loader.claims WHERE load = $1 AND lo = $2",
		steps: []string{"delete-claims"}},
	{sql: "DELETE FROM loader.claims WHERE load = $1 AND lo = $2 AND run = $3 AND successor IS NULL",
		steps: []string{"delete-claims"}},
	{sql: "SELECT lo, hi FROM loader.ledger WHERE load = $1 AND lo >= $2 AND lo < $3",
		steps: []string{"read-ledger"}},
	{sql: "WITH gone AS (DELETE FROM loader.ledger WHERE load = $1 AND lo >= $2 AND lo < $3 RETURNING lo, hi, hash, records) INSERT INTO loader.ranges (load, lo, hi, hash, records) SELECT $1, lo, hi, hash, records FROM gone WHERE hash <> '' ON CONFLICT (load, lo) DO UPDATE SET hi = excluded.hi, hash = excluded.hash, records = excluded.records",
		steps: []string{"delete-ledger"}},
	{sql: "UPDATE loader.loads SET done = $2, open = $3, state = CASE WHEN … THEN 'loading' ELSE $4 END… WHERE id = $1",
		steps: []string{"update-load", "update-load-and-no-reply"}},
	{sql: "UPDATE loader.claims SET successor = $3 WHERE load = $1 AND run = $2", steps: []string{"mark", "mark-and-no-reply", "mark-all"}},
	{sql: "INSERT INTO loader.runs (load, run, fenced) VALUES ($1, $2, true) ON CONFLICT (load, run) DO UPDATE SET fenced = true",
		steps: []string{"mark", "mark-and-no-reply", "mark-all"}},
	{sql: "UPDATE loader.runs SET fenced = true WHERE load = $1", steps: []string{"mark-all"}},
	{sql: "UPDATE loader.loads SET state = $2 WHERE id = $1", steps: []string{"mark-all"}},
	{sql: "SELECT CASE WHEN EXISTS (SELECT 1 FROM loader.loads WHERE id = %[1]s AND state <> 'cancelled') AND NOT EXISTS (SELECT 1 FROM loader.runs WHERE load = %[1]s AND run = %[2]s AND fenced) THEN 'yes' ELSE 'no' END",
		steps: []string{"is-refused"}},
	{sql: "SELECT pid::TEXT, application_name, COALESCE(usename::TEXT, '') FROM pg_catalog.pg_stat_activity WHERE left(application_name, length($1::TEXT)) = $1::TEXT AND pid <> pg_backend_pid()",
		steps: []string{"sessions-of-the-dead", "sessions"}},
	{sql: "SELECT session_id, application_name, user_name FROM [SHOW CLUSTER SESSIONS] WHERE left(application_name, length($1::TEXT)) = $1::TEXT",
		steps: []string{"sessions-of-the-dead", "sessions"}},
	{sql: "SELECT pg_terminate_backend($1::INT)", steps: []string{"end-session", "end-session-fails"}},
	{sql: "CANCEL SESSION IF EXISTS $1", steps: []string{"end-session", "end-session-fails"}},
	{sql: "DELETE FROM loader.claims WHERE load = $1", steps: []string{"delete-claims"}},
	{sql: "DELETE FROM loader.ledger WHERE load = $1", steps: []string{"delete-ledger", "purge-ledger"}},
	{sql: "UPDATE loader.loads SET done = $2 WHERE id = $1", steps: []string{"update-done"}},
	{sql: "DELETE FROM loader.loads WHERE id = $1", steps: []string{"remove-load"}},
	{sql: "DELETE FROM loader.runs WHERE load = $1", steps: []string{"remove-load"}},
	{sql: "SELECT … FROM loader.loads WHERE id = $1", steps: []string{"read-state"}},
	// A chunk, in package commit.
	{sql: "INSERT INTO loader.ledger (load, lo, hi, hash, records) SELECT $1, $2::INT8, $3::INT8, $5::TEXT, $6::INT8 WHERE EXISTS (…) ON CONFLICT (load, lo) DO NOTHING",
		steps: []string{"ledger"}},
	{sql: "INSERT INTO loader.ledger (load, lo, hi, hash, records) VALUES ((…), $2::INT8, $3::INT8, $5::TEXT, $6::INT8)", steps: []string{"ledger"}},
	{sql: "SELECT load FROM loader.claims WHERE load = $1 AND run = $4 AND lo <= $2::INT8 AND hi >= $3::INT8 AND successor IS NULL…", steps: []string{"ledger"}},
	{sql: "SELECT hi FROM loader.ledger WHERE load = $1 AND lo = $2", steps: []string{"covering"}},
	// A chunk of the statement way that was decided by looking.
	{sql: "INSERT INTO loader.doubts (load, lo, hi, looked) VALUES ($1, $2, $3, $4) ON CONFLICT (load, lo, hi) DO UPDATE SET looked = loader.doubts.looked OR excluded.looked",
		steps: []string{"doubt"}},
	{sql: "SELECT lo, hi FROM loader.doubts WHERE load = $1 AND (looked OR NOT $2::BOOL)", steps: []string{"settle"}},
	{sql: "DELETE FROM loader.doubts WHERE load = $1", steps: []string{"settle"}},
	{sql: "UPDATE loader.loads SET state = $2, finished_at = COALESCE(finished_at, now()) WHERE id = $1", steps: []string{"settle"}},
	{sql: "WITH gone AS (DELETE FROM loader.doubts WHERE load = $1 AND NOT looked RETURNING 1), hashes AS (DELETE FROM loader.ranges WHERE load = $1 RETURNING 1), sent AS (DELETE FROM loader.sent WHERE load = $1 RETURNING 1)", steps: []string{"update-load"}},
	{sql: "INSERT INTO loader.doubts (load, lo, hi, looked) VALUES ($1, $2, $3, false)", why: crashes},
	{sql: "SELECT pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a WHERE left(a.application_name, length($1::TEXT)) = $1::TEXT AND a.pid <> pg_backend_pid() AND a.wait_event_type = 'Client' AND a.state_change < now() - $2 * INTERVAL '1 millisecond' AND EXISTS (SELECT 1 FROM pg_catalog.pg_locks l WHERE l.pid = a.pid AND l.relation = 'loader.loads'::REGCLASS)",
		steps: []string{"loses-session"}},
	// Whose sessions are seen.
	{sql: "INSERT INTO loader.runs (load, run, username) ", why: whoSees},
	{sql: "SELECT COALESCE(max(username), '') FROM loader.runs ", why: whoSees},
	{sql: "SELECT run FROM loader.runs WHERE load = $1 AND username <> ''", why: whoSees},
	{sql: "SELECT session_user", why: whoSees},
	{sql: "SELECT rolsuper FROM pg_catalog.pg_roles ", why: whoSees},
	{sql: "SELECT crdb_internal.has_role_option(", why: whoSees},
	{sql: "SELECT has_system_privilege(", why: whoSees},
	{sql: "SELECT count(*) > 0 FROM [SHOW CLUSTER SESSIONS] WHERE user_name <> current_user", why: whoSees},
	// What was announced before it was sent.
	{sql: "INSERT INTO loader.sent (load, lo, hi, hash) SELECT $1, $2::INT8, $3::INT8, $5 WHERE EXISTS ", why: announces},
	{sql: "SELECT lo, hi FROM loader.sent ", why: announces},
	{sql: "DELETE FROM loader.sent WHERE load = $1 AND lo >= $2 ", why: announces},
	{sql: "WITH kept AS (… RETURNING 1)", why: mends},
	// A file that was mended.
	{sql: "SELECT lo, hi, hash, 0::INT8 FROM loader.sent ", why: mends},
	{sql: "SELECT lo, hi, looked FROM loader.doubts ", why: mends},
	{sql: "DELETE FROM loader.sent WHERE load = $1", why: mends},
	{sql: "INSERT INTO loader.sent (load, lo, hi, hash) SELECT $1, lo, hi, hash FROM unnest(", why: mends},
	{sql: "SELECT lo, hi, hash, records FROM loader.ranges ", why: mends},
	{sql: "DELETE FROM loader.ranges ", why: mends},
	{sql: "INSERT INTO loader.ranges ", why: mends}, // of a mended file, and at a release
	{sql: "SELECT spec FROM loader.loads ", why: mends},
	{sql: "UPDATE loader.loads SET positions = $2, ", why: mends},
	{sql: "UPDATE loader.rejects SET position = ", why: mends},
	// Outside.
	{sql: "SELECT (SELECT COALESCE(sum(records), 0) FROM loader.ranges ", why: onlyReads},
	{sql: "SELECT … FROM loader.loads WHERE target = $1 ", why: onlyReads},
	{sql: "SELECT … FROM loader.loads WHERE … AND state = 'loading'", why: onlyReads},
	{sql: "INSERT INTO loader.rejects ", why: "in the transaction of its chunk: as its rows"},
	{sql: "INSERT INTO loader.moved ", why: "in the transaction of its chunk: as its rows"},
	{sql: "INSERT INTO loader.loads ", why: "once, before the first run"},
	{sql: "UPDATE loader.loads SET … WHERE id = $1 AND EXISTS (SELECT 1 FROM loader.claims", why: "of IMPORT, whose rows one job of the server makes"},
	{sql: "CREATE UNLOGGED TABLE IF NOT EXISTS loader.markers ", why: crashes},
	{sql: "DELETE FROM loader.markers ", why: crashes},
	{sql: "INSERT INTO loader.markers ", why: crashes},
	{sql: "SELECT 1 FROM loader.markers ", why: crashes},
	{sql: "UPDATE loader.loads SET spec = $3 WHERE id = $1 AND spec = $2", why: notOfRows},
	{sql: "DELETE FROM loader.moved ", why: notOfRows},
	{sql: "DELETE FROM loader.rejects ", why: notOfRows},
	{sql: "DELETE FROM loader.indexes ", why: notOfRows},
	{sql: "INSERT INTO loader.indexes ", why: notOfRows},
	{sql: "INSERT INTO loader.tuning ", why: notOfRows},
	{sql: "SELECT target, what, chunk, ", why: notOfRows},
	{sql: "SELECT name, ddl FROM loader.indexes ", why: notOfRows},
	{sql: "SELECT count(*) FROM loader.indexes ", why: notOfRows},
	{sql: "SELECT load, lo, hi FROM loader.ledger", why: onlyReads},
	{sql: "SELECT load, done FROM loader.claims", why: onlyReads},
	{sql: "SELECT count(*) FROM loader.rejects ", why: onlyReads},
	{sql: "SELECT position, file, ", why: onlyReads},
	{sql: "SELECT row_number, id FROM loader.moved ", why: onlyReads},
	{sql: "SELECT … FROM loader.loads ORDER BY ", why: onlyReads},
	{sql: "SELECT c.relname::TEXT, ", why: makesTables},
	{sql: "ALTER TABLE loader.", why: makesTables},
	{sql: "SELECT COALESCE(max(number), 0) FROM loader.version", why: makesTables},
	{sql: "SELECT COALESCE(max(v.number), 0) FROM loader.version ", why: makesTables},
	{sql: "INSERT INTO loader.version ", why: makesTables},
	{sql: "CREATE SCHEMA IF NOT EXISTS loader", why: makesTables},
	{sql: "CREATE TABLE IF NOT EXISTS loader.", why: makesTables},
}
