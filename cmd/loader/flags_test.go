package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// A reader of flags is a function of this package, as its syntax tree has it.
type flagReader struct {
	reads map[string]bool // names of flags
	calls map[string]bool // names of functions and methods
}

func (r flagReader) join(o flagReader) flagReader {
	all := flagReader{map[string]bool{}, map[string]bool{}}
	for _, x := range []flagReader{r, o} {
		maps.Copy(all.reads, x.reads)
		maps.Copy(all.calls, x.calls)
	}
	return all
}

// flagReaders returns the functions of this package: those with a name by it, literals by
// the line on which they begin; and what is given to a function that makes the command of a
// name, by that.
func flagReaders(t *testing.T) (named, literals, given map[string]flagReader) {
	t.Helper()
	fset := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	named, literals, given = map[string]flagReader{}, map[string]flagReader{}, map[string]flagReader{}
	read := func(n ast.Node) flagReader {
		r := flagReader{map[string]bool{}, map[string]bool{}}
		ast.Inspect(n, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.BasicLit: // c.String("chunk"), number("chunk", …): whatever reads it names it
				if x.Kind == token.STRING {
					r.reads[strings.Trim(x.Value, `"`)] = true
				}
			case *ast.SelectorExpr:
				r.calls[x.Sel.Name] = true
			case *ast.Ident:
				r.calls[x.Name] = true
			}
			return true
		})
		return r
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
				// What declares flags names them too, and reads none.
				if f.Type.Results == nil || !strings.Contains(types(f.Type.Results), "Flag") && !strings.Contains(types(f.Type.Results), "Command") {
					named[f.Name.Name] = named[f.Name.Name].join(read(f.Body))
				}
				ast.Inspect(f, func(n ast.Node) bool {
					switch x := n.(type) {
					case *ast.FuncLit:
						at := fset.Position(x.Pos())
						literals[position(at.Filename, at.Line)] = read(x.Body)
					case *ast.CallExpr:
						if len(x.Args) < 2 {
							break
						}
						if name, ok := x.Args[0].(*ast.BasicLit); ok && name.Kind == token.STRING {
							r := flagReader{map[string]bool{}, read(x.Args[len(x.Args)-1]).calls}
							given[strings.Trim(name.Value, `"`)] = r.join(given[strings.Trim(name.Value, `"`)])
						}
					}
					return true
				})
			}
		}
	}
	return named, literals, given
}

func types(list *ast.FieldList) string {
	var b strings.Builder
	ast.Inspect(list, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			b.WriteString(id.Name + " ")
		}
		return true
	})
	return b.String()
}

func position(file string, line int) string {
	_, name, _ := strings.Cut("/"+file, "/")
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		name = name[i+1:]
	}
	return name + ":" + strings.Repeat("i", line)
}

// TestEveryFlagIsRead finds each declared flag among what the command's action reads, so
// that none is taken without a word.
func TestEveryFlagIsRead(t *testing.T) {
	named, literals, given := flagReaders(t)
	// plan takes the flags of the load that it stands in front of. This one says where a load
	// writes, and a plan writes nothing.
	unread := map[string]bool{"loader plan csv --rejects": true}
	seen := 0
	var walk func(path string, list []*cli.Command)
	walk = func(path string, list []*cli.Command) {
		for _, c := range list {
			at := path + " " + c.Name
			walk(at, c.Subcommands)
			if c.Action == nil || len(c.Subcommands) > 0 && len(c.Flags) > 0 && &c.Flags[0] == &c.Subcommands[0].Flags[0] {
				continue // it is its first subcommand
			}
			f := runtime.FuncForPC(reflect.ValueOf(c.Action).Pointer())
			name := f.Name()[strings.LastIndexByte(f.Name(), '.')+1:]
			start, ok := named[strings.TrimSuffix(name, "-fm")]
			if !ok {
				file, line := f.FileLine(f.Entry())
				if start, ok = literals[position(file, line)]; !ok {
					t.Errorf("%s: the action %s is not found in the code", at, f.Name())
					continue
				}
			}
			reads, done := map[string]bool{}, map[string]bool{}
			queue := []flagReader{start.join(given[c.Name])}
			for len(queue) > 0 {
				r := queue[0]
				queue = queue[1:]
				for n := range r.reads {
					reads[n] = true
				}
				for n := range r.calls {
					if next, ok := named[n]; ok && !done[n] {
						done[n] = true
						queue = append(queue, next)
					}
				}
			}
			for _, flag := range c.Flags {
				seen++
				if n := flag.Names()[0]; !reads[n] && !unread[at+" --"+n] {
					t.Errorf("%s --%s is declared, and nothing reads it", at, n)
				}
			}
		}
	}
	walk("loader", (&program{}).app().Commands)
	if seen < 100 {
		t.Errorf("%d flags were found", seen)
	}
}
