package server

import "strings"

// A createItem is one item that SHOW CREATE TABLE prints between the outer brackets: a column,
// an index, a family or a constraint.
type createItem struct {
	kind string // "index", "family", "" for all others
	// prefix holds the words before INDEX, such as "UNIQUE" or "INVERTED"; rest is the text
	// after the name.
	prefix, name, rest string
}

// createItems parses the output of CockroachDB's SHOW CREATE TABLE. It splits the text at
// commas outside brackets, quotes and strings. Line breaks differ between versions and do not
// matter; nor does a comma inside a name.
func createItems(text string) []createItem {
	var items []createItem
	for _, part := range cutCreate(text) {
		item := createItem{}
		rest := strings.TrimSpace(part)
		var words []string
		for {
			word, behind, _ := strings.Cut(rest, " ")
			words = append(words, word)
			rest = strings.TrimSpace(behind)
			if word == "INDEX" || word == "FAMILY" || rest == "" || len(words) > 2 || strings.HasPrefix(word, `"`) {
				break
			}
		}
		switch last := words[len(words)-1]; {
		case last == "INDEX":
			item.kind, item.prefix = "index", strings.Join(words[:len(words)-1], " ")
		case last == "FAMILY" && len(words) == 1:
			item.kind = "family"
		default:
			continue
		}
		item.name, item.rest = cutIdentifier(rest)
		items = append(items, item)
	}
	return items
}

// cutIdentifier cuts a name, quoted or plain, from the start of text.
func cutIdentifier(text string) (name, rest string) {
	if strings.HasPrefix(text, `"`) {
		name, rest, _ = cutQuoted(text)
	} else {
		i := strings.IndexAny(text, " (,")
		if i < 0 {
			i = len(text)
		}
		name, rest = text[:i], text[i:]
	}
	return name, strings.TrimSpace(rest)
}

// identifiers parses a list of names in brackets: (a, "B,c").
func identifiers(text string) []string {
	text = strings.TrimPrefix(strings.TrimSpace(text), "(")
	var names []string
	for {
		name, rest := cutIdentifier(strings.TrimSpace(text))
		name = strings.TrimSuffix(name, ")")
		if name == "" {
			return names
		}
		names = append(names, name)
		if text = strings.TrimPrefix(rest, ","); text == rest {
			return names
		}
	}
}

// cutCreate returns the parts between the outer brackets of a CREATE TABLE.
func cutCreate(text string) []string {
	var parts []string
	depth, start := 0, 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			_, rest, _ := cutQuoted(text[i:])
			i = len(text) - len(rest) - 1
		case '\'':
			i = stringEnd(text, i)
		case '(', '[', '{':
			if depth++; depth == 1 {
				start = i + 1
			}
		case ')', ']', '}':
			if depth--; depth == 0 {
				return append(parts, text[start:i])
			}
		case ',':
			if depth == 1 {
				parts = append(parts, text[start:i])
				start = i + 1
			}
		}
	}
	return parts
}

// stringEnd returns the position of the quote that ends the string starting at i. In a string
// prefixed with e, a backslash escapes the next character.
func stringEnd(text string, i int) int {
	escapes := i > 0 && (text[i-1] == 'e' || text[i-1] == 'E')
	for i++; i < len(text); i++ {
		switch {
		case escapes && text[i] == '\\':
			i++
		case text[i] == '\'' && strings.HasPrefix(text[i+1:], "'"):
			i++
		case text[i] == '\'':
			return i
		}
	}
	return len(text)
}

// cutWhere returns the condition at the end of an index definition: the text after a WHERE
// outside brackets, quotes and strings. It returns "" if there is none.
func cutWhere(rest string) string {
	depth := 0
	for i := 0; i < len(rest); i++ {
		switch rest[i] {
		case '"':
			_, behind, _ := cutQuoted(rest[i:])
			i = len(rest) - len(behind) - 1
		case '\'':
			i = stringEnd(rest, i)
		case '(':
			depth++
		case ')':
			depth--
		case 'W':
			if where, ok := strings.CutPrefix(rest[i:], "WHERE "); depth == 0 && ok {
				return strings.TrimSpace(where)
			}
		}
	}
	return ""
}
