package registry_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// TestStatementsHaveSteps compares the statements of the code with the steps of the model:
// a new statement is a new step, or it is said why not.
func TestStatementsHaveSteps(t *testing.T) {
	found := map[string]string{} // statement → place
	statementsIn(t, ".", found, nil)
	statementsIn(t, filepath.Join("..", "commit"), found, regexp.MustCompile(`loader\.`))
	// What is sent for the rows themselves stands for "commit" and "statement".
	bound := map[string]bool{}
	for _, sql := range slices.Sorted(maps.Keys(found)) {
		i := slices.IndexFunc(bindings, func(b binding) bool {
			return b.sql == sql || len(b.steps) == 0 && strings.HasPrefix(sql, b.sql)
		})
		if i < 0 {
			t.Errorf("%s: a statement without a step in the model: %s", found[sql], sql)
			continue
		}
		bound[bindings[i].sql] = true
	}
	taken := map[string]bool{}
	for _, statement := range []bool{false, true} {
		for _, p := range now(loadertest.PostgreSQL, statement).variants() {
			_, _, some := p.explore(exploreLimit())
			maps.Copy(taken, some)
		}
	}
	for _, b := range bindings {
		if !bound[b.sql] {
			t.Errorf("the model has a step for a statement that is not there: %s", b.sql)
		}
		if (len(b.steps) == 0) == (b.why == "") {
			t.Errorf("either steps or a reason: %s", b.sql)
		}
		for _, step := range b.steps {
			if !taken[step] {
				t.Errorf("the model never takes the step %s of: %s", step, b.sql)
			}
		}
	}
}

// verb is how a statement begins.
var verb = regexp.MustCompile(`^(SELECT|INSERT|UPDATE|UPSERT|DELETE|WITH|CREATE|ALTER|DROP|TRUNCATE|COMMENT|COPY|SET|SHOW|CANCEL|LOCK|BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|DO|CALL|MERGE|VALUES|TABLE|GRANT|REVOKE|LISTEN|NOTIFY|PREPARE|EXECUTE|DISCARD|RESET) `)

// statementsIn adds the statements of a package that match which, or all if it is nil:
// string constants that begin as one, joined where the code joins them. A constant that is
// handed to the server and begins otherwise fails the test.
func statementsIn(t *testing.T, dir string, found map[string]string, which *regexp.Regexp) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		add := func(x ast.Expr, handed bool) {
			sql := strings.TrimLeft(strings.Join(strings.Fields(constant(x)), " "), "…")
			switch {
			case which != nil && !which.MatchString(sql):
			case verb.MatchString(sql):
				found[sql] = set.Position(x.Pos()).String()
			case handed && strings.Trim(sql, "… ") != "":
				t.Errorf("%s: not known as a statement: %s", set.Position(x.Pos()), sql)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.CallExpr:
				f, ok := x.Fun.(*ast.SelectorExpr)
				if ok && slices.Contains([]string{"Exec", "Query", "QueryRow", "exec", "Queue"}, f.Sel.Name) {
					for _, arg := range x.Args[:min(2, len(x.Args))] {
						if constant(arg) != "…" {
							add(arg, f.Sel.Name != "Queue")
						}
					}
				}
			case *ast.BinaryExpr:
				if x.Op == token.ADD && constant(x) != "…" {
					add(x, false)
					return false // its parts are no statements
				}
			case *ast.BasicLit:
				if x.Kind == token.STRING {
					add(x, false)
				}
			}
			return true
		})
	}
}

// constant returns the text of an expression of string constants; … stands for all else.
func constant(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.BasicLit:
		if s, err := strconv.Unquote(x.Value); err == nil && x.Kind == token.STRING {
			return s
		}
	case *ast.BinaryExpr:
		return constant(x.X) + constant(x.Y)
	case *ast.ParenExpr:
		return constant(x.X)
	}
	return "…"
}
