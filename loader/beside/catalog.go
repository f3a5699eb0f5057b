package beside

// The queries take the names of the two tables, as SQL: $1 of the old one, $2 of the new one.

// createLike composes CREATE TABLE. LIKE brings neither the access method nor the tablespace.
const createLike = `SELECT format('CREATE TABLE %s (LIKE %s INCLUDING ALL)', $2::TEXT, $1::TEXT)
		|| COALESCE(' USING ' || quote_ident(m.amname), '') || COALESCE(' TABLESPACE ' || quote_ident(s.spcname), '')
	FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace
	WHERE c.oid = $1::TEXT::REGCLASS`

// volatileClass and volatileIndex are the columns of pg_class and pg_index that differ between a
// table and its like, or that are only statistics.
const (
	volatileClass = `ARRAY['oid', 'reltype', 'relfilenode', 'relpages', 'reltuples', 'relallvisible', 'relallfrozen', 'reltoastrelid', 'relhasindex', 'relnatts',
		'relhasrules', 'relhastriggers', 'relhassubclass', 'relfrozenxid', 'relminmxid', 'relacl', 'relrewrite', 'reloptions']`
	volatileIndex = `ARRAY['indexrelid', 'indrelid', 'indkey', 'indcheckxmin', 'indexprs', 'indpred']`
)

// pairs are the indexes of both tables that are alike: LIKE chooses other names.
const pairs = `WITH keyed AS (
		SELECT x.indrelid, x.indexrelid, c.relname, x.indisclustered, x.indisreplident, (to_jsonb(x) - ` + volatileIndex + ` - ARRAY['indisclustered', 'indisreplident'])::TEXT
			|| ARRAY(SELECT pg_get_indexdef(x.indexrelid, n, false) FROM generate_series(1, x.indnatts::INT) n ORDER BY n)::TEXT
			|| COALESCE(pg_get_expr(x.indpred, x.indrelid), '') || ' ' || c.relam || ' ' || c.reltablespace || ' ' || COALESCE(c.reloptions::TEXT, '')
			|| COALESCE(k.contype::TEXT || k.condeferrable::TEXT || k.condeferred::TEXT, '') || COALESCE(obj_description(c.oid, 'pg_class'), '')
			|| COALESCE(obj_description(k.oid, 'pg_constraint'), '') AS key
		FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
			LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = c.oid AND k.conrelid = x.indrelid AND k.contype IN ('p', 'u', 'x')
		WHERE x.indrelid IN ($1::TEXT::REGCLASS, $2::TEXT::REGCLASS)
	), numbered AS (SELECT *, row_number() OVER (PARTITION BY indrelid, key ORDER BY relname) AS n FROM keyed
	), pair AS (SELECT o.relname AS name, o.indisclustered AS clustered, o.indisreplident AS identity, n.indexrelid::REGCLASS::TEXT AS now, n.relname AS now_name
		FROM numbered o JOIN numbered n USING (key, n) WHERE o.indrelid = $1::TEXT::REGCLASS AND n.indrelid = $2::TEXT::REGCLASS) `

// copyRest composes what LIKE does not bring. The owner comes first: the privileges are his.
const copyRest = pairs + `SELECT sql FROM (
	SELECT 1 AS step, format('ALTER TABLE %s OWNER TO %s', $2::TEXT, o.relowner::REGROLE) AS sql
		FROM pg_catalog.pg_class o, pg_catalog.pg_class n WHERE o.oid = $1::TEXT::REGCLASS AND n.oid = $2::TEXT::REGCLASS AND o.relowner <> n.relowner
	UNION ALL SELECT DISTINCT 2, format('REVOKE ALL ON %s FROM %s', $2::TEXT, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE COALESCE(NULLIF(a.grantee, n.relowner), o.relowner)::REGROLE::TEXT END)
		FROM pg_catalog.pg_class o, pg_catalog.pg_class n, aclexplode(COALESCE(n.relacl, acldefault('r', n.relowner))) a
		WHERE o.oid = $1::TEXT::REGCLASS AND n.oid = $2::TEXT::REGCLASS AND (o.relacl IS NOT NULL OR n.relacl IS NOT NULL)
	UNION ALL SELECT 3, format('GRANT %s ON %s TO %s%s', a.privilege_type, $2::TEXT, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::REGROLE::TEXT END, CASE WHEN a.is_grantable AND a.grantee <> o.relowner THEN ' WITH GRANT OPTION' ELSE '' END)
		FROM pg_catalog.pg_class o, pg_catalog.pg_class n, aclexplode(COALESCE(o.relacl, acldefault('r', o.relowner))) a
		WHERE o.oid = $1::TEXT::REGCLASS AND n.oid = $2::TEXT::REGCLASS AND (o.relacl IS NOT NULL OR n.relacl IS NOT NULL)
	UNION ALL SELECT 3, format('GRANT %s (%I) ON %s TO %s%s', a.privilege_type, c.attname, $2::TEXT, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::REGROLE::TEXT END, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
		FROM pg_catalog.pg_attribute c, aclexplode(c.attacl) a WHERE c.attrelid = $1::TEXT::REGCLASS AND NOT c.attisdropped
	UNION ALL SELECT 4, format('COMMENT ON TABLE %s IS %L', $2::TEXT, obj_description($1::TEXT::REGCLASS, 'pg_class')) WHERE obj_description($1::TEXT::REGCLASS, 'pg_class') IS NOT NULL
	UNION ALL SELECT 4, format('ALTER TABLE %s SET (%I = %L)', $2::TEXT, p.option_name, p.option_value)
		FROM pg_catalog.pg_class o, pg_options_to_table(o.reloptions) p WHERE o.oid = $1::TEXT::REGCLASS
	UNION ALL SELECT 4, format('ALTER TABLE %s SET (toast.%I = %L)', $2::TEXT, p.option_name, p.option_value)
		FROM pg_catalog.pg_class o JOIN pg_catalog.pg_class t ON t.oid = o.reltoastrelid, pg_options_to_table(t.reloptions) p WHERE o.oid = $1::TEXT::REGCLASS
	UNION ALL SELECT 4, format('ALTER TABLE %s REPLICA IDENTITY %s', $2::TEXT, CASE relreplident WHEN 'n' THEN 'NOTHING' WHEN 'f' THEN 'FULL' ELSE 'USING INDEX ' || quote_ident(now_name) END)
		FROM pg_catalog.pg_class LEFT JOIN pair ON identity WHERE oid = $1::TEXT::REGCLASS AND (relreplident IN ('n', 'f') OR relreplident = 'i' AND now IS NOT NULL)
	UNION ALL SELECT 4, format('ALTER TABLE %s CLUSTER ON %I', $2::TEXT, now_name) FROM pair WHERE clustered
	UNION ALL SELECT 4, format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', $2::TEXT, attname, attstattarget) FROM pg_catalog.pg_attribute
		WHERE attrelid = $1::TEXT::REGCLASS AND attnum > 0 AND NOT attisdropped AND attstattarget >= 0
	UNION ALL SELECT 4, format('ALTER TABLE %s ALTER COLUMN %I SET (%I = %L)', $2::TEXT, attname, p.option_name, p.option_value)
		FROM pg_catalog.pg_attribute, pg_options_to_table(attoptions) p WHERE attrelid = $1::TEXT::REGCLASS AND attnum > 0 AND NOT attisdropped
	UNION ALL SELECT 5, ` + advance + `
) list ORDER BY step`

// sequences are the sequences that a column of a table owns: deptype is i for that of an identity
// column, which LIKE makes anew, and a for others, which the columns of both tables share.
const sequences = `(SELECT a.attname, s.oid::REGCLASS::TEXT AS name, s.relname, d.deptype, q.seqincrement
	FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
		JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
	WHERE d.classid = 'pg_class'::REGCLASS AND d.refclassid = 'pg_class'::REGCLASS AND d.deptype IN ('a', 'i') AND d.refobjid = `

// advance composes what moves the sequence of a new identity column up to the old one's value,
// and never back. A rollback does not take that back, which does no harm.
const advance = `format('SELECT setval(%L, v, c) FROM (SELECT last_value AS v, is_called AS c FROM %s UNION ALL SELECT last_value, is_called FROM %s) s ORDER BY v %s, c DESC LIMIT 1',
		n.name, o.name, n.name, CASE WHEN o.seqincrement > 0 THEN 'DESC' ELSE 'ASC' END)
	FROM ` + sequences + `$1::TEXT::REGCLASS) o JOIN ` + sequences + `$2::TEXT::REGCLASS) n ON n.attname = o.attname AND n.deptype = 'i' AND o.deptype = 'i'`

// moveSequences composes what gives the sequences of the old table to the new one. An old
// identity's sequence is altered, so that nobody draws from it meanwhile.
const moveSequences = `SELECT sql FROM (
	SELECT 1 AS step, format('ALTER SEQUENCE %s OWNED BY %s.%I', o.name, $2::TEXT, o.attname) AS sql FROM ` + sequences + `$1::TEXT::REGCLASS) o WHERE o.deptype = 'a'
	UNION ALL SELECT 1, format('ALTER SEQUENCE %s INCREMENT %s', o.name, o.seqincrement) FROM ` + sequences + `$1::TEXT::REGCLASS) o WHERE o.deptype = 'i'
	UNION ALL SELECT 2, ` + advance + `
) list ORDER BY step`

// renames composes what gives the new table's indexes and identity sequences the old names.
const renames = pairs + `SELECT format('ALTER INDEX %s RENAME TO %I', now, name) FROM pair WHERE name <> now_name
	UNION ALL SELECT format('ALTER SEQUENCE %s RENAME TO %I', n.name, o.relname)
	FROM ` + sequences + `$1::TEXT::REGCLASS) o JOIN ` + sequences + `$2::TEXT::REGCLASS) n ON n.attname = o.attname AND n.deptype = 'i' AND o.deptype = 'i' AND n.relname <> o.relname`

// privileges lists an access list, or the default one.
const privileges = `(SELECT jsonb_agg(x ORDER BY x) FROM (SELECT format('%s %s %s %s', a.grantor::REGROLE, a.grantee, a.privilege_type, a.is_grantable) AS x FROM aclexplode(`

// describeTable lists a table and what belongs to it or depends on it, without what may differ
// between a table and its like: numbers of objects, and statistics.
const describeTable = `WITH self AS (SELECT c.* FROM pg_catalog.pg_class c WHERE c.oid = $1::TEXT::REGCLASS
	), rels AS (
		SELECT c.* FROM pg_catalog.pg_class c WHERE c.oid IN (SELECT oid FROM self UNION SELECT indexrelid FROM pg_catalog.pg_index WHERE indrelid = (SELECT oid FROM self)
			UNION SELECT d.objid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S' WHERE d.classid = 'pg_class'::REGCLASS
				AND d.refclassid = 'pg_class'::REGCLASS AND d.refobjid = (SELECT oid FROM self) AND d.deptype IN ('a', 'i'))
	), parts AS (
		SELECT 'pg_class'::REGCLASS::OID AS class, oid, relkind = 'S' AS moved FROM rels
		UNION SELECT 'pg_type'::REGCLASS, t.oid, false FROM pg_catalog.pg_type t WHERE t.oid = (SELECT reltype FROM self) OR t.typelem = (SELECT reltype FROM self) AND t.typelem <> 0
		UNION SELECT 'pg_constraint'::REGCLASS, oid, false FROM pg_catalog.pg_constraint WHERE conrelid = (SELECT oid FROM self)
	)
	SELECT pg_describe_object('pg_class'::REGCLASS, c.oid, 0), to_jsonb(c) - ` + volatileClass + ` || jsonb_build_object('comment', obj_description(c.oid, 'pg_class'),
			'options', ARRAY(SELECT o FROM unnest(c.reloptions) o ORDER BY o), 'TOAST options', ARRAY(SELECT o FROM pg_catalog.pg_class t, unnest(t.reloptions) o WHERE t.oid = c.reltoastrelid ORDER BY o),
			'privileges', CASE WHEN c.relkind IN ('r', 'S') THEN ` + privileges + `COALESCE(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END, c.relowner))) a) p) END)
		FROM rels c
	UNION ALL SELECT pg_describe_object('pg_class'::REGCLASS, c.oid, a.attnum), (to_jsonb(a) - ARRAY['attrelid', 'attnum', 'attcacheoff', 'atthasmissing', 'attmissingval', 'attacl', 'attndims'])
			|| jsonb_build_object('place', row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), 'comment', col_description(c.oid, a.attnum), 'default', pg_get_expr(d.adbin, d.adrelid),
			'privileges', ` + privileges + `a.attacl) a) p))
		FROM self c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	UNION ALL SELECT pg_describe_object('pg_class'::REGCLASS, c.oid, 0), (to_jsonb(x) - ` + volatileIndex + `) || jsonb_build_object('definition', pg_get_indexdef(c.oid),
			'statistics targets', ARRAY(SELECT a.attstattarget FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 ORDER BY a.attnum))
		FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid WHERE x.indrelid = (SELECT oid FROM self)
	UNION ALL SELECT pg_describe_object('pg_constraint'::REGCLASS, k.oid, 0), jsonb_build_object('definition', pg_get_constraintdef(k.oid), 'kind', k.contype, 'deferrable', k.condeferrable, 'deferred', k.condeferred,
			'validated', k.convalidated, 'islocal', k.conislocal, 'inheritance', k.coninhcount, 'noinherit', k.connoinherit, 'comment', obj_description(k.oid, 'pg_constraint'))
		FROM pg_catalog.pg_constraint k WHERE k.conrelid = (SELECT oid FROM self)
	UNION ALL SELECT pg_describe_object('pg_class'::REGCLASS, s.seqrelid, 0), to_jsonb(s) - ARRAY['seqrelid'] FROM pg_catalog.pg_sequence s WHERE s.seqrelid IN (SELECT oid FROM rels)
	UNION ALL SELECT pg_describe_object(d.classid, d.objid, d.objsubid), jsonb_build_object('place', jsonb_agg(DISTINCT pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)))
		FROM pg_catalog.pg_depend d JOIN parts p ON p.class = d.refclassid AND p.oid = d.refobjid AND NOT p.moved
		WHERE NOT EXISTS (SELECT 1 FROM parts q WHERE q.class = d.classid AND q.oid = d.objid) AND NOT (d.classid = 'pg_class'::REGCLASS AND d.objid = (SELECT reltoastrelid FROM self))
			AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_trigger t WHERE d.classid = 'pg_trigger'::REGCLASS AND t.oid = d.objid AND t.tgisinternal)
		GROUP BY 1
	UNION ALL SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) || ' depending on ' || pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid), '{}'::JSONB
		FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_class'::REGCLASS AND d.objid = (SELECT oid FROM self)
	UNION ALL SELECT 'the security label of ' || l.provider, jsonb_build_object('text', l.label) FROM pg_catalog.pg_seclabel l WHERE l.classoid = 'pg_class'::REGCLASS AND l.objoid = (SELECT oid FROM self)`
