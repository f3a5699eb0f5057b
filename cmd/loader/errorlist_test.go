package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// walkedPackages are those whose errors reach the user of a command. The others' come wrapped
// in theirs, or are the server's.
var walkedPackages = []string{"cmd/loader", "loader", "loader/load", "loader/files", "loader/registry", "loader/dataset", "loader/anytable", "loader/importer", "loader/commit", "loader/server", "loader/bank", "loader/bench", "loader/localdb"}

// makers are the functions that make an error of a text, and which of their arguments that is.
var makers = map[string]int{
	"errors.New": 0, "fmt.Errorf": 0, "failure.New": 1, "dataset.Refuse": 0, "dataset.Contradict": 0, "Refuse": 0, "Contradict": 0, "server.Failed": 0,
	"say": 1, // of Check: a contradiction
}

// errorTypes are the types of errors that are made of a text: by a field, or the first one.
var errorTypes = []string{"usageError", "TableError", "ResumeError", "SchemaError"}

// madeErrors returns the texts of all errors that the code of a package makes, as their formats
// stand there.
func madeErrors(t *testing.T, root, pkg string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, pkg))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	var code []*ast.File
	texts := map[string]ast.Expr{} // constants
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, pkg, e.Name()), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		code = append(code, file)
		for _, d := range file.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
				for _, s := range g.Specs {
					for i, v := range s.(*ast.ValueSpec).Values {
						texts[s.(*ast.ValueSpec).Names[i].Name] = v
					}
				}
			}
		}
	}
	literalOf := func(e ast.Expr) string {
		if id, ok := e.(*ast.Ident); ok && texts[id.Name] != nil {
			e = texts[id.Name]
		}
		return literalOf(e)
	}
	for _, file := range code {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if at, ok := makers[exprName(n.Fun)]; ok && at < len(n.Args) {
					list = append(list, literalOf(n.Args[at]))
				}
			case *ast.CompositeLit:
				if name := exprName(n.Type); slices.Contains(errorTypes, name[strings.LastIndex(name, ".")+1:]) && len(n.Elts) > 0 {
					text := n.Elts[0]
					if kv, ok := text.(*ast.KeyValueExpr); ok {
						text = kv.Value
					}
					list = append(list, literalOf(text))
				}
			}
			return true
		})
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// exprName returns the name of a function or type: errors.New.
func exprName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return exprName(e.X) + "." + e.Sel.Name
	}
	return ""
}

// literalOf returns the literal text of an expression, with … for what is put in: it is a
// literal, a sum, or a call of fmt.Sprintf. What has none is empty.
func literalOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil {
			return strings.Join(strings.Fields(text), " ")
		}
	case *ast.BinaryExpr:
		a, b := literalOf(e.X), literalOf(e.Y)
		if a == "" {
			a = "…"
		}
		if b == "" {
			b = "…"
		}
		return a + b
	case *ast.CallExpr:
		if exprName(e.Fun) == "fmt.Sprintf" {
			return literalOf(e.Args[0])
		}
	}
	return ""
}

// An errorRow is a row of testdata/errors.tsv: what an error of the code means, and what leads on.
type errorRow struct {
	pkg, text string
	// kind is one of failure's, or: rejected; step, of what stands in front of an error that has
	// its own row; library, of what only a program that calls the package can meet.
	kind string
	// leads is what leads on: itself (the message names the flag or command, or what is to be
	// changed), hint (a command is printed below), cause (what it wraps does), again (the same
	// command), files (of rejects), none (nothing does).
	leads string
	walk  string // the step of TestWalk that meets it; empty: none does yet
}

// errorRows reads the table.
func errorRows(t *testing.T) []errorRow {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "errors.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	var list []errorRow
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) != 5 {
			t.Fatalf("a row of %d fields: %q", len(f), line)
		}
		list = append(list, errorRow{f[0], f[1], f[2], f[3], f[4]})
	}
	return list[1:]
}

// TestEveryErrorHasARow: each error that the code can make stands in the table, with its kind and
// what leads on, and the table has no other.
func TestEveryErrorHasARow(t *testing.T) {
	rows := map[string]errorRow{}
	for _, r := range errorRows(t) {
		if _, ok := rows[r.pkg+"\t"+r.text]; ok {
			t.Errorf("two rows: %s: %s", r.pkg, r.text)
		}
		rows[r.pkg+"\t"+r.text] = r
		wraps := r.kind == "step" || r.kind == "library"
		if _, ok := kindCodes[r.kind]; !ok && !wraps {
			t.Errorf("%s: %s: no kind %q", r.pkg, r.text, r.kind)
		}
		if leads := slices.Contains([]string{"itself", "hint", "cause", "again", "files", "none"}, r.leads); leads == wraps {
			t.Errorf("%s: %s: it is of kind %s, and what leads on is %q", r.pkg, r.text, r.kind, r.leads)
		}
		if r.walk != "" && !slices.ContainsFunc(allSteps(), func(s walkStep) bool { return s.name == r.walk }) {
			t.Errorf("%s: %s: the walk has no step %q", r.pkg, r.text, r.walk)
		}
	}
	for _, pkg := range walkedPackages {
		for _, text := range madeErrors(t, filepath.Join("..", ".."), pkg) {
			if text == "" {
				continue // it has the text of another
			}
			if _, ok := rows[pkg+"\t"+text]; !ok {
				t.Errorf("no row in testdata/errors.tsv: %s\t%s", pkg, text)
			}
			delete(rows, pkg+"\t"+text)
		}
	}
	for _, r := range rows {
		t.Errorf("nothing makes this error: %s: %s", r.pkg, r.text)
	}
}
