package anytable

import (
	"regexp"
	"slices"
	"strings"
)

// A node is a part of an SQL condition. op is an operator, "column", "literal", "length" or
// "other" for what is not known.
type node struct {
	op   string
	text string
	args []*node
}

// tokens are those of SQL conditions, as the servers print them.
var tokens = regexp.MustCompile(`\s*(?:([eE]'(?:[^'\\]|\\.|'')*'|[bB]?'(?:[^']|'')*')|("(?:[^"]|"")*")|([0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)|([A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*)|(:::?|<=|>=|<>|!=|!~~\*?|!~\*?|~~\*?|~\*?|\|\||&&|->>?|@>|<@|.))`)

type token struct {
	kind byte // s string, q quoted name, n number, w word, o operator, 0 end
	text string
}

type conditionParser struct {
	list  []token
	at    int
	value string // the column that VALUE means
	lost  bool   // something was not understood
}

// parseCondition parses a condition. value is the column that a domain's VALUE means. ok is false
// if the end was not reached.
func parseCondition(expr, value string) (n *node, ok bool) {
	p := &conditionParser{value: value}
	for _, m := range tokens.FindAllStringSubmatch(expr, -1) {
		for i, kind := range []byte("sqnwo") {
			if m[i+1] != "" {
				p.list = append(p.list, token{kind, m[i+1]})
				break
			}
		}
	}
	n = p.or()
	return n, !p.lost && p.at >= len(p.list)
}

func (p *conditionParser) peek() token {
	if p.at < len(p.list) {
		return p.list[p.at]
	}
	return token{}
}

// word consumes words in any case.
func (p *conditionParser) word(words ...string) bool {
	for i, w := range words {
		if p.at+i >= len(p.list) || p.list[p.at+i].kind != 'w' || !strings.EqualFold(p.list[p.at+i].text, w) {
			return false
		}
	}
	p.at += len(words)
	return true
}

func (p *conditionParser) op(text string) bool {
	if t := p.peek(); t.kind == 'o' && t.text == text {
		p.at++
		return true
	}
	return false
}

func (p *conditionParser) or() *node {
	n := p.and()
	if !p.word("OR") {
		return n
	}
	all := &node{op: "or", args: []*node{n, p.and()}}
	for p.word("OR") {
		all.args = append(all.args, p.and())
	}
	return all
}

func (p *conditionParser) and() *node {
	n := p.not()
	if !p.word("AND") {
		return n
	}
	all := &node{op: "and", args: []*node{n, p.not()}}
	for p.word("AND") {
		all.args = append(all.args, p.not())
	}
	return all
}

func (p *conditionParser) not() *node {
	if p.word("NOT") {
		return &node{op: "not", args: []*node{p.not()}}
	}
	return p.comparison()
}

func (p *conditionParser) comparison() *node {
	n := p.sum()
	for {
		switch {
		case p.word("IS", "NOT", "NULL"):
			n = &node{op: "is not null", args: []*node{n}}
		case p.word("IS", "NULL"):
			n = &node{op: "is null", args: []*node{n}}
		case p.word("IS", "TRUE"):
		case p.word("IS", "FALSE"):
			n = &node{op: "not", args: []*node{n}}
		case p.word("BETWEEN"):
			low := p.sum()
			if !p.word("AND") {
				p.lost = true
				return other()
			}
			high := p.sum()
			n = &node{op: "and", args: []*node{{op: ">=", args: []*node{n, low}}, {op: "<=", args: []*node{n, high}}}}
		case p.word("IN"):
			n = &node{op: "in", args: append([]*node{n}, p.items()...)}
		case p.word("NOT", "IN"):
			all := &node{op: "and"}
			for _, v := range p.items() {
				all.args = append(all.args, &node{op: "<>", args: []*node{n, v}})
			}
			n = all
		case p.word("LIKE"), p.word("ILIKE"), p.word("NOT", "LIKE"), p.word("SIMILAR", "TO"):
			p.sum()
			n = other()
		default:
			t := p.peek()
			if t.kind != 'o' || !slices.Contains([]string{"=", "<>", "!=", "<", "<=", ">", ">=", "~", "~*", "~~", "~~*", "!~", "!~*", "!~~", "@>", "<@", "&&"}, t.text) {
				return n
			}
			p.at++
			op := t.text
			if op == "!=" {
				op = "<>"
			}
			if p.word("ANY") || p.word("SOME") {
				n = &node{op: "in", args: append([]*node{n}, flat(p.items())...)}
				if op != "=" {
					n = other()
				}
				continue
			}
			if p.word("ALL") {
				all := &node{op: "and"}
				for _, v := range flat(p.items()) {
					all.args = append(all.args, &node{op: op, args: []*node{n, v}})
				}
				n = all
				continue
			}
			n = &node{op: op, args: []*node{n, p.sum()}}
		}
	}
}

// items parses a list in brackets.
func (p *conditionParser) items() []*node {
	if !p.op("(") {
		p.lost = true
		return nil
	}
	var list []*node
	for !p.op(")") {
		if p.at >= len(p.list) {
			p.lost = true
			return list
		}
		list = append(list, p.or())
		if !p.op(",") && p.peek().text != ")" {
			p.lost = true
			return list
		}
	}
	return list
}

// flat returns the elements of an array.
func flat(list []*node) []*node {
	if len(list) == 1 && list[0].op == "array" {
		return list[0].args
	}
	if len(list) == 1 && list[0].op == "literal" && strings.HasPrefix(list[0].text, "{") {
		var all []*node
		for v := range strings.SplitSeq(strings.Trim(list[0].text, "{}"), ",") {
			all = append(all, &node{op: "literal", text: strings.Trim(strings.TrimSpace(v), `"`)})
		}
		return all
	}
	return list
}

func other() *node { return &node{op: "other"} }

func (p *conditionParser) sum() *node {
	n := p.unary()
	for {
		t := p.peek()
		if t.kind != 'o' || !slices.Contains([]string{"+", "-", "*", "/", "%", "||", "->", "->>", "&", "|", "#", "^"}, t.text) {
			return n
		}
		p.at++
		p.unary()
		n = other()
	}
}

func (p *conditionParser) unary() *node {
	if p.op("-") {
		n := p.unary()
		if n.op == "literal" {
			return &node{op: "literal", text: "-" + n.text}
		}
		return other()
	}
	n := p.primary()
	for {
		switch {
		case p.op("::"), p.op(":::"):
			p.typeName()
		case p.word("COLLATE"):
			p.primary()
		case p.peek().text == "[" && n.op != "array":
			p.skip("[", "]")
			n = other()
		default:
			return n
		}
	}
}

// typeWords may follow the first word of a type's name.
var typeWords = []string{"varying", "precision", "without", "with", "time", "zone"}

func (p *conditionParser) typeName() {
	p.at++
	for p.op(".") {
		p.at++
	}
	for range 2 {
		for t := p.peek(); t.kind == 'w' && slices.Contains(typeWords, strings.ToLower(t.text)); t = p.peek() {
			p.at++
		}
		if p.peek().text == "(" && p.peek().kind == 'o' {
			p.skip("(", ")")
		}
	}
	for p.peek().text == "[" && p.at+1 < len(p.list) && p.list[p.at+1].text == "]" {
		p.at += 2
	}
}

// skip passes over brackets and what is between them.
func (p *conditionParser) skip(open, end string) {
	depth := 0
	for ; p.at < len(p.list); p.at++ {
		switch t := p.list[p.at]; {
		case t.kind != 'o':
		case t.text == open:
			depth++
		case t.text == end:
			if depth--; depth == 0 {
				p.at++
				return
			}
		}
	}
}

func (p *conditionParser) primary() *node {
	t := p.peek()
	p.at++
	switch t.kind {
	case 's':
		return &node{op: "literal", text: unquote(t.text)}
	case 'n':
		return &node{op: "literal", text: t.text}
	case 'q':
		return p.name(strings.ReplaceAll(t.text[1:len(t.text)-1], `""`, `"`))
	case 'w':
		return p.named(t.text)
	case 'o':
		if t.text == "(" {
			n := p.or()
			if !p.op(")") { // a row, or something else
				p.at--
				for p.at >= 0 && !(p.list[p.at].kind == 'o' && p.list[p.at].text == "(") {
					p.at--
				}
				p.skip("(", ")")
				return other()
			}
			return n
		}
	}
	p.lost = true
	return other()
}

// unquote returns the text of a string literal.
func unquote(s string) string {
	escaped := s[0] == 'e' || s[0] == 'E'
	s = strings.ReplaceAll(s[strings.IndexByte(s, '\'')+1:len(s)-1], "''", "'")
	if !escaped {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
			if at := strings.IndexByte("ntr", s[i]); at >= 0 {
				b.WriteByte("\n\t\r"[at])
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func (p *conditionParser) named(word string) *node {
	switch strings.ToUpper(word) {
	case "TRUE":
		return &node{op: "literal", text: "true"}
	case "FALSE":
		return &node{op: "literal", text: "false"}
	case "NULL":
		return other()
	case "ARRAY":
		if p.op("[") {
			n := &node{op: "array"}
			for !p.op("]") {
				if p.at >= len(p.list) {
					p.lost = true
					return n
				}
				n.args = append(n.args, p.or())
				p.op(",")
			}
			return n
		}
	case "VALUE":
		if p.value != "" {
			return &node{op: "column", text: p.value}
		}
	case "CASE":
		for depth := 1; p.at < len(p.list) && depth > 0; p.at++ {
			switch t := p.list[p.at]; {
			case t.kind == 'w' && strings.EqualFold(t.text, "CASE"):
				depth++
			case t.kind == 'w' && strings.EqualFold(t.text, "END"):
				depth--
			}
		}
		return other()
	case "CURRENT_DATE", "CURRENT_TIMESTAMP", "LOCALTIMESTAMP", "CURRENT_TIME":
		return other()
	case "CAST":
		if p.op("(") {
			n := p.or()
			if p.word("AS") {
				p.typeName()
			}
			p.op(")")
			return n
		}
	}
	return p.name(word)
}

// name returns a column or a call of a function.
func (p *conditionParser) name(name string) *node {
	for p.op(".") {
		name = p.peek().text
		p.at++
	}
	if p.peek().text != "(" || p.peek().kind != 'o' {
		return &node{op: "column", text: name}
	}
	start := p.at
	args := p.items()
	if p.lost {
		p.lost, p.at = false, start
		p.skip("(", ")")
		return other()
	}
	switch strings.ToLower(name) {
	case "length", "char_length", "character_length", "octet_length":
		if len(args) == 1 {
			return &node{op: "length", args: args}
		}
	case "date", "text", "btrim", "trim", "rtrim", "ltrim", "upper", "lower":
		// A value of a list of small or capital letters is what lower and upper return for it.
		if len(args) == 1 && args[0].op == "column" {
			return args[0]
		}
	}
	return other()
}
