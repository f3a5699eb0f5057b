package bench

import (
	"slices"
	"strings"

	"bulkload/loader/commit"
	"bulkload/loader/load"
)

// refusals collects the combinations that the server does not support.
type refusals struct {
	grid        Grid
	commitModes []Setting
	errs        []error
}

func (f *refusals) add(way Setting, err error) {
	f.commitModes, f.errs = append(f.commitModes, way), append(f.errs, err)
}

// judge returns an error if something that the user asked for cannot be measured in any
// combination, or if nothing can be measured.
func (f *refusals) judge(some bool) error {
	if len(f.errs) > 0 && !some {
		return f.errs[0]
	}
	per := len(f.grid.CommitModes) * len(f.grid.Indexes)
	for _, via := range f.grid.Methods {
		n := per
		if via == Import {
			n = len(f.grid.Indexes)
		}
		if err := f.all(n, func(s Setting) bool { return s.Method == via }); err != nil && f.grid.Asked.Methods {
			return err
		}
	}
	for _, way := range f.grid.CommitModes {
		n := len(f.grid.Indexes) * len(slices.DeleteFunc(slices.Clone(f.grid.Methods), func(v commit.Method) bool { return v == Import }))
		if err := f.all(n, func(s Setting) bool { return s.CommitMode == way && s.Method != Import }); err != nil && f.grid.Asked.CommitModes {
			return err
		}
	}
	return nil
}

// all returns the first error of the refused combinations that of selects, if there are at
// least n of them.
func (f *refusals) all(n int, of func(Setting) bool) error {
	var first error
	for i, s := range f.commitModes {
		if !of(s) {
			continue
		}
		n--
		if first == nil {
			first = f.errs[i]
		}
	}
	if n > 0 {
		return nil
	}
	return first
}

// notes describes what was left out.
func (f *refusals) notes() []string {
	var list []string
	for i, s := range f.commitModes {
		what := []string{"--via " + string(s.Method)}
		if s.CommitMode != "" {
			what = append(what, "--commit "+string(s.CommitMode))
		}
		if s.Indexes == load.DeferIndexes {
			what = append(what, "--indexes defer")
		}
		list = append(list, strings.Join(what, " ")+" is left out: "+f.errs[i].Error())
	}
	return list
}
