package files

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bulkload/loader/failure"
)

func isURL(name string) bool {
	return strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://")
}

// Expand returns the file names for arguments: a path, a pattern of path/filepath if no file
// has that very name, Stdin, a URL, or @list for a file with one of these a line. The names are
// absolute, and in the given order; the matches of a pattern are sorted.
func Expand(args []string) ([]string, error) {
	var names []string
	for _, a := range args {
		list, err := expand(a, true)
		if err != nil {
			return nil, err
		}
		names = append(names, list...)
	}
	seen := map[string]bool{}
	for _, n := range names {
		if seen[n] {
			return nil, failure.Reading(shown(n), errors.New("is named twice"))
		}
		seen[n] = true
	}
	return names, nil
}

func expand(arg string, lists bool) ([]string, error) {
	switch {
	case arg == Stdin || isURL(arg):
		return []string{arg}, nil
	case strings.Contains(arg, "://"):
		return nil, failure.Reading(arg[:strings.Index(arg, "://")+3]+"…", errors.New("only the server reads this location; name a local copy of the file, to compare with the loaded rows, and put the location into --handoff"))
	case lists && strings.HasPrefix(arg, "@"):
		text, err := os.ReadFile(arg[1:])
		if err != nil {
			return nil, failure.Reading(arg[1:], err)
		}
		var names []string
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			list, err := expand(line, false)
			if err != nil {
				return nil, err
			}
			names = append(names, list...)
		}
		if len(names) == 0 {
			return nil, failure.Reading(arg[1:], errors.New("names no file"))
		}
		return names, nil
	}
	pattern := strings.ContainsAny(arg, "*?[")
	if pattern {
		_, err := os.Stat(arg)
		pattern = err != nil
	}
	if pattern {
		list, err := filepath.Glob(arg)
		if err != nil {
			return nil, failure.Reading(arg, err)
		}
		if len(list) == 0 {
			return nil, failure.Reading(arg, errors.New("matches no file"))
		}
		for i := range list {
			if list[i], err = filepath.Abs(list[i]); err != nil {
				return nil, failure.Reading(list[i], err)
			}
		}
		slices.Sort(list)
		return list, nil
	}
	abs, err := filepath.Abs(arg)
	if err != nil {
		return nil, failure.Reading(arg, err)
	}
	return []string{abs}, nil
}

// sameFiles refuses two names of one file, by a hard or symbolic link: its rows would be loaded
// twice. Other faults of the names surface when the files are opened.
func sameFiles(names []string) error {
	var infos []os.FileInfo
	for i, name := range names {
		var info os.FileInfo
		if name != Stdin && !isURL(name) {
			info, _ = os.Stat(name)
		}
		infos = append(infos, info)
		if info == nil {
			continue
		}
		for j, other := range infos[:i] {
			if other != nil && os.SameFile(info, other) {
				return failure.Reading(name, fmt.Errorf("is the same file as %s; name it once, or copy it to load its rows twice", names[j]))
			}
		}
	}
	return nil
}
