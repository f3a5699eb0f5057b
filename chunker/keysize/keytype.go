package keysize

import (
	"strconv"
	"strings"
)

// keyKinds maps type names to kinds: CockroachDB's own names (information_schema, SHOW CREATE)
// and those of format_type.
var keyKinds = map[string]KeyKind{
	"int": KeyInt, "int8": KeyInt, "bigint": KeyInt, "int64": KeyInt, "integer": KeyInt, "int4": KeyInt,
	"int2": KeyInt, "smallint": KeyInt,
	"bool": KeyBool, "boolean": KeyBool, "date": KeyDate,
	"time": KeyTime, "time without time zone": KeyTime,
	"timetz": KeyTimeTZ, "time with time zone": KeyTimeTZ,
	"timestamp": KeyTimestamp, "timestamp without time zone": KeyTimestamp,
	"timestamptz": KeyTimestamp, "timestamp with time zone": KeyTimestamp,
	"interval": KeyInterval,
	"float":    KeyFloat, "float8": KeyFloat, "float4": KeyFloat, "double precision": KeyFloat, "real": KeyFloat,
	"decimal": KeyDecimal, "numeric": KeyDecimal, "dec": KeyDecimal,
	"string": KeyString, "text": KeyString, "varchar": KeyString, "character varying": KeyString,
	"char": KeyString, "character": KeyString, "bpchar": KeyString, `"char"`: KeyString, "name": KeyString, "citext": KeyString,
	"bytes": KeyBytes, "bytea": KeyBytes, "blob": KeyBytes,
	"uuid": KeyUUID, "inet": KeyINet,
	"bit": KeyBit, "varbit": KeyBit, "bit varying": KeyBit,
	"oid": KeyOID, "regclass": KeyOID, "regtype": KeyOID, "regproc": KeyOID, "regprocedure": KeyOID, "regnamespace": KeyOID, "regrole": KeyOID,
	"json": KeyJSON, "jsonb": KeyJSON,
	"geometry": KeyGeo, "geography": KeyGeo, "box2d": KeyBox2D,
	"tsvector":             KeyTSVector,
	"crdb_internal_region": KeyEnum,
}

// ColumnOf returns the column with the given name and SQL type, nullable and ascending. It sets
// only the fields that determine key sizes. It reads the names that CockroachDB prints
// (STRING(7), INT8[], DECIMAL(10,2), STRING COLLATE en) and those of format_type. Unknown
// types, including names of ENUMs, get kind KeyOther.
func ColumnOf(name, sqlType string) KeyColumn {
	c := KeyColumn{Name: name, Nullable: true}
	t := strings.TrimSpace(strings.ToLower(sqlType))
	if elem, ok := strings.CutSuffix(t, "[]"); ok {
		e := ColumnOf("", elem)
		c.Kind, c.Elem = KeyArray, e.Kind
		return c
	}
	t, _, collated := strings.Cut(t, " collate ")
	// The size is in parentheses after the first word: time(3) without time zone.
	if open := strings.IndexByte(t, '('); open >= 0 {
		inside, behind, _ := strings.Cut(t[open+1:], ")")
		first, _, _ := strings.Cut(inside, ",")
		c.Width, _ = strconv.ParseInt(strings.TrimSpace(first), 10, 64)
		t = t[:open] + behind
	}
	c.Kind = keyKinds[t]
	switch {
	case collated:
		c.Kind, c.Width = KeyCollated, 0
	case c.Kind == KeyInt:
		c.Width = map[string]int64{"int2": 2, "smallint": 2, "int4": 4, "integer": 4}[t]
	case c.Kind == KeyString && c.Width == 0 && (t == "char" || t == "character" || t == `"char"`):
		c.Width = 1
	case c.Kind == KeyBit && c.Width == 0 && t == "bit":
		c.Width = 1
	case c.Kind != KeyDecimal && c.Kind != KeyString && c.Kind != KeyBit:
		c.Width = 0 // a precision of a time type, or a kind of shape
	}
	return c
}
