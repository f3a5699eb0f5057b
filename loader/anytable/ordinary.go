package anytable

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// normal returns the name of a column in small letters, with _ between its words.
func normal(name string) string {
	var b strings.Builder
	var before rune
	for _, r := range name {
		switch {
		case unicode.IsUpper(r):
			if unicode.IsLower(before) || unicode.IsDigit(before) {
				b.WriteByte('_')
			}
			b.WriteRune(unicode.ToLower(r))
		case r == ' ' || r == '-' || r == '.':
			b.WriteByte('_')
		default:
			b.WriteRune(r)
		}
		before = r
	}
	return b.String()
}

// named reports whether one of the words is in a column's name: whole, or within it if it has a
// star in front.
func named(name string, list ...string) bool {
	padded := "_" + name + "_"
	for _, w := range list {
		if part, ok := strings.CutPrefix(w, "*"); ok && strings.Contains(name, part) || strings.Contains(padded, "_"+w+"_") {
			return true
		}
	}
	return false
}

// A textRule is a pattern for texts, by the names of their columns.
type textRule struct {
	names   []string
	pattern string
}

// textRules are tried in order. A star in front of a word finds it within others.
var textRules = []textRule{
	{[]string{"*email", "*e_mail", "mail"}, "{first|plain}.{last|plain}###@example.com"},
	{[]string{"first_name", "firstname", "fname", "given_name", "forename"}, "{first}"},
	{[]string{"last_name", "lastname", "lname", "surname", "family_name"}, "{last}"},
	{[]string{"*username", "user_name", "login", "nick", "*nickname", "handle"}, "{first|plain}_{last|plain}##"},
	{[]string{"full_name", "fullname", "contact_name", "customer_name", "author", "person", "owner", "contact", "assignee", "reporter", "director", "actor"}, "{first} {last}"},
	{[]string{"company", "*company", "employer", "vendor", "supplier", "organization", "organisation", "publisher", "shipper"}, "{company}"},
	{[]string{"*phone", "mobile", "fax", "tel", "telephone"}, "+1-555-###-####"},
	{[]string{"zip", "*postal", "*postcode", "plz", "zipcode"}, "#####"},
	{[]string{"country_code", "iso2", "iso"}, "{country2}"},
	{[]string{"country"}, "{country}"},
	{[]string{"city", "town"}, "{city}"},
	{[]string{"state", "province", "region", "district"}, "{state}"},
	{[]string{"*street", "address", "address1", "address_1", "addr"}, "{int900} {street}"},
	{[]string{"address2", "address_2"}, "Apt. ##"},
	{[]string{"*url", "website", "link", "homepage", "uri", "avatar", "image", "photo"}, "https://example.com/{word}/{hex8}"},
	{[]string{"user_agent", "*agent", "browser"}, "{agent}/##.#"},
	{[]string{"ip", "ip_address", "ipaddress", "*ip_addr", "host"}, "10.{int256}.{int256}.{int256}"},
	{[]string{"*password", "*hash", "*token", "digest", "checksum", "sha", "fingerprint", "secret"}, "{hex64}"},
	{[]string{"guid", "uuid"}, "{uuid}"},
	{[]string{"slug"}, "{word}-{word}-{hex6}"},
	{[]string{"currency"}, "{currency}"},
	{[]string{"language", "lang"}, "{language}"},
	{[]string{"locale"}, "{locale}"},
	{[]string{"timezone", "time_zone", "tz"}, "{zone}"},
	{[]string{"color", "colour"}, "{color}"},
	{[]string{"mime", "mime_type", "content_type", "media_type"}, "{mime}"},
	{[]string{"file", "filename", "file_name", "path", "filepath"}, "{word}/{word}-{hex6}.{extension}"},
	{[]string{"sku", "isbn", "ean", "barcode", "serial", "code", "reference", "number", "no"}, "??-#####"},
	{[]string{"job", "job_title", "position", "role", "occupation", "contact_title"}, "{job}"},
	{[]string{"department", "category", "genre"}, "{category}"},
	{[]string{"status"}, "{word}"},
	{[]string{"gender", "sex"}, "{prefix}"},
	{[]string{"brand", "manufacturer", "make"}, "{maker}"},
	{[]string{"product", "item", "product_name", "item_name"}, "{adjective} {product}"},
	{[]string{"album", "book"}, "{book}"},
	{[]string{"song", "track"}, "{song}"},
	{[]string{"artist", "band"}, "{artist}"},
	{[]string{"film", "movie"}, "{movie}"},
	{[]string{"bank"}, "{bank}"},
	{[]string{"title", "subject", "headline", "summary"}, "{adjective} {word} {word}"},
	{[]string{"*description", "comment", "comments", "*note", "notes", "remarks", "message", "*text", "bio", "review", "excerpt", "content", "details", "instructions"}, "{sentence}"},
	{[]string{"body"}, "{text}"},
	{[]string{"type", "kind", "tag", "label", "level", "group", "unit"}, "{word}"},
	{[]string{"name", "*name"}, "{adjective} {product}"},
}

// people are the tables whose column name is a person's.
var people = []string{"user", "users", "customer", "customers", "person", "people", "employee", "employees", "staff", "actor", "contact", "contacts", "member", "members", "client", "clients", "student", "students", "patient", "patients", "account_holder", "author", "authors"}

// textPattern returns the pattern of a text's column.
func (p *planner) textPattern(f *field) string {
	name := normal(f.Name)
	if name == "name" && slices.Contains(people, normal(p.tableName())) {
		return "{first} {last}"
	}
	for _, r := range textRules {
		if named(name, r.names...) {
			return r.pattern
		}
	}
	return "{words}"
}

// ordinary makes the rule of a column that belongs to no key.
func (p *planner) ordinary(f *field) error {
	r := &rule{Column: f.Name, Group: f.Name, Pick: pick{Kind: uniformly}}
	if list := f.allowed(); list != nil {
		if len(list) == 0 {
			return dataset.Refuse("table %s: no value of column %s can meet its CHECK constraints", p.table.Display(), f.Name)
		}
		r.Form, r.Pick.N, r.Why = form{Kind: asList, List: list}, uint64(len(list)), "one of a list"
		f.rule = r
		p.nullable(f)
		return nil
	}
	switch f.class() {
	case ofInts, ofDecimals, ofFloats, ofDates, ofTimes, ofTimestamps:
		low, high, err := p.usual(f)
		if err != nil {
			return err
		}
		r.Form = f.unit()
		r.Form.Min, r.Pick.N, r.Why = low, uint64(high-low)+1, "in a range"
		if f.class() == ofInts && named(normal(f.Name), "quantity", "qty", "count", "views", "likes") {
			r.Pick.Kind, r.Why = skewed, "in a range, small ones more often"
		}
	case ofTexts:
		r.Form = form{Kind: asPattern, Pattern: p.textPattern(f), Max: f.length}
		if f.length > 0 && f.length < 4 {
			r.Form.Pattern = strings.Repeat("?", f.length)
		}
		if f.minLen > 0 {
			r.Form.Pattern = atLeast(r.Form.Pattern, f.minLen, f.length)
		}
		r.Why = "pattern " + r.Form.Pattern
	default:
		r.Form, r.Why = f.other(p), "of its type"
		if r.Form.Kind == "" {
			if f.NotNull && !f.Default {
				return dataset.Refuse("table %s: column %s, %s, is NOT NULL without a default, and loader cannot make values of its type", p.table.Display(), f.Name, f.Type)
			}
			f.left = true
			p.notes = append(p.notes, fmt.Sprintf("column %s gets its default, or NULL: loader cannot make values of type %s", f.Name, f.Type))
			return nil
		}
		r.Pick.N = r.Form.size()
		if r.Form.Kind == asAddress || r.Form.Kind == asNetwork || r.Form.Kind == asRange {
			r.Pick.N = min(f.capacity(), 1<<24)
		}
	}
	f.rule = r
	p.nullable(f)
	return nil
}

// atLeast returns a pattern whose texts have at least n characters.
func atLeast(pattern string, n, maxLen int) string {
	if n <= 1 {
		return pattern
	}
	if maxLen == n || n > 40 {
		return strings.Repeat("?", min(n, 13)) + strings.Repeat("#", max(n-13, 0))
	}
	return pattern + " " + strings.Repeat("?", n)
}

// A numberRule is a range of numbers, by the names of their columns.
type numberRule struct {
	names     []string
	low, high int64
}

var numberRules = []numberRule{
	{[]string{"year"}, 1970, 2025},
	{[]string{"age"}, 18, 90},
	{[]string{"month"}, 1, 12},
	{[]string{"day"}, 1, 28},
	{[]string{"hour"}, 0, 23},
	{[]string{"lat", "latitude"}, -89, 89},
	{[]string{"lon", "lng", "longitude"}, -179, 179},
	{[]string{"*percent", "pct", "discount", "progress", "tax_rate", "vat"}, 0, 99},
	{[]string{"rating", "stars", "score"}, 1, 5},
	{[]string{"quantity", "qty", "count", "units"}, 1, 100},
	{[]string{"*price", "*cost", "amount", "total", "subtotal", "fee", "freight"}, 1, 1000},
	{[]string{"balance", "salary", "income", "credit_limit"}, 1000, 100_000},
	{[]string{"duration", "length", "minutes", "milliseconds"}, 1, 1000},
	{[]string{"weight", "height", "width", "depth", "size"}, 1, 500},
	{[]string{"views", "likes", "visits", "hits"}, 0, 100_000},
	{[]string{"version", "revision", "priority", "position", "rank", "sort", "sort_order"}, 1, 10},
}

// usual returns the range of the values of an ordinary number or time, in units: what its name
// suggests, within what type and CHECKs allow.
func (p *planner) usual(f *field) (low, high int64, err error) {
	name := normal(f.Name)
	minimum, maximum, givenLow, givenHigh := f.bounds()
	if minimum > maximum {
		return 0, 0, dataset.Refuse("table %s: no value of column %s can meet its CHECK constraints", p.table.Display(), f.Name)
	}
	switch f.class() {
	case ofDates, ofTimestamps:
		unit := int64(1)
		if f.class() == ofDates {
			unit = day
		}
		low, high = years(2020)/unit, years(2026)/unit-1
		switch {
		case named(name, "*birth", "dob", "born"):
			low, high = years(1950)/unit, years(2005)/unit
		case named(name, "*expir", "due", "*until", "valid_to", "ends"):
			low, high = years(2026)/unit, years(2031)/unit
		}
	case ofTimes:
		low, high = 0, day-1
	default:
		low, high = 0, 1_000_000
		if f.class() != ofInts {
			high = 1000
		}
		for _, r := range numberRules {
			if named(name, r.names...) {
				low, high = r.low, r.high
				break
			}
		}
		scale := powersOfTen[f.unit().Scale]
		low, high = low*scale, (high+1)*scale-1
		if scale == 1 {
			high = max(high, low)
		}
	}
	// Where the usual range and what is allowed do not meet, CHECKs choose.
	if high < minimum || low > maximum {
		width := high - low
		switch {
		case givenHigh && !givenLow:
			low, high = max(maximum-width, minimum), maximum
		default:
			low, high = minimum, minimum+min(width, maximum-minimum)
		}
	}
	return max(low, minimum), min(high, maximum), nil
}

// other returns the form of a type without an order; no kind: there is none.
func (f *field) other(p *planner) form {
	if f.array && len(f.labels) > 0 && p.info.Product == server.CockroachDB {
		return form{} // CockroachDB compares no arrays of an ENUM type: loads verify would fail
	}
	if f.array {
		base, _, _ := strings.Cut(f.Type, "[")
		if !strings.Contains(base, "(") { // CockroachDB's format_type leaves the length of elements out
			if from, to := strings.IndexByte(f.SQLType, '('), strings.IndexByte(f.SQLType, ')'); from >= 0 && to > from {
				base += f.SQLType[from : to+1]
			}
		}
		element := *f.Column
		element.Type, element.Base = strings.TrimSpace(base), ""
		inner := newField(&element, p.info.Product, f.labels, nil)
		inner.NotNull, inner.Default = true, true
		if inner.class() == ofTexts {
			return form{Kind: asArray, Length: 3, Of: &form{Kind: asPattern, Pattern: "{word}", Max: inner.length}}
		}
		sub := &planner{catalogue: p.catalogue, rows: p.rows, seed: p.seed, cond: newConditions()}
		if inner.class() == ofUnknown || sub.ordinary(inner) != nil || inner.rule == nil {
			return form{}
		}
		return form{Kind: asArray, Length: 3, Of: &inner.rule.Form}
	}
	number := &form{Kind: asNumber}
	switch f.base {
	case "uuid":
		return form{Kind: asUUID, Min: int64(dataset.Random(streamOf(p.seed, f.Name), 1) >> 2)}
	case "bytea":
		return form{Kind: asBytes, Length: 16}
	case "bit":
		return form{Kind: asBits, Length: max(f.length, 1)}
	case "bit varying", "varbit":
		if f.length == 0 {
			return form{Kind: asBits, Length: 62}
		}
		return form{Kind: asBits, Length: min(f.length, 62)}
	case "inet":
		return form{Kind: asAddress}
	case "cidr":
		return form{Kind: asNetwork}
	case "macaddr":
		return form{Kind: asMAC, Length: 6}
	case "macaddr8":
		return form{Kind: asMAC, Length: 8}
	case "json", "jsonb":
		return form{Kind: asJSON}
	case "xml":
		return form{Kind: asXML}
	case "interval":
		return form{Kind: asInterval}
	case "vector":
		if f.length == 0 {
			return form{Kind: asVector, Length: 3}
		}
		return form{Kind: asVector, Length: f.length}
	case "point":
		return form{Kind: asPoint, Template: "(%,%)"}
	case "lseg":
		return form{Kind: asPoint, Template: "[(%,%),(%,%)]"}
	case "box":
		return form{Kind: asPoint, Template: "(%,%),(%,%)"}
	case "path":
		return form{Kind: asPoint, Template: "[(%,%),(%,%),(%,%)]"}
	case "polygon":
		return form{Kind: asPoint, Template: "((%,%),(%,%),(%,%))"}
	case "circle":
		return form{Kind: asPoint, Template: "<(%,%),5>"}
	case "geometry", "geography":
		return form{Kind: asPoint, Template: "SRID=4326;POINT(% %)"}
	case "tsvector", "hstore", "ltree", "tsquery":
		pattern := map[string]string{"hstore": `{word}=>{word}`, "ltree": "{word}.{word}.{n}", "tsquery": "{word}"}[f.base]
		if pattern == "" {
			pattern = "{word} {word} {word}"
		}
		return form{Kind: asPattern, Pattern: pattern, Width: 6}
	case "int4range", "int8range", "numrange":
		return form{Kind: asRange, Of: number}
	case "daterange":
		return form{Kind: asRange, Of: &form{Kind: asDate, Min: years(2000) / day}}
	case "tsrange":
		return form{Kind: asRange, Of: &form{Kind: asTimestamp, Min: years(2000)}}
	case "tstzrange":
		return form{Kind: asRange, Of: &form{Kind: asTimestamp, Min: years(2000), Zone: "+00"}}
	}
	return form{}
}
