package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// reorder moves the flags of each command in front of its arguments, so that they may stand
// anywhere before "--": urfave/cli, like package flag, silently takes everything behind the
// first argument for arguments. The flag tables say which flags take a value. A last flag
// without its value is a usage error: once moved, it would take an argument for its value.
func reorder(app *cli.App, args []string) ([]string, error) {
	if len(args) == 0 {
		return args, nil
	}
	out := []string{args[0]}
	commands, flags := app.Commands, app.Flags
	var pending []string // flags seen before their command
	rest := args[1:]
	// Walk down the commands; flags may stand in front of a subcommand.
	for {
		var name string
		var at int
		for at = 0; at < len(rest); at++ {
			a := rest[at]
			if a == "--" || !strings.HasPrefix(a, "-") || a == "-" {
				break
			}
			pending = append(pending, a)
			if takesValue(allFlags(flags, commands), a) {
				if at++; at == len(rest) {
					return nil, valueMissing(a)
				}
				pending = append(pending, rest[at])
			}
		}
		if at >= len(rest) || rest[at] == "--" {
			rest = rest[min(at, len(rest)):]
			break
		}
		name = rest[at]
		var next *cli.Command
		for _, c := range commands {
			if c.HasName(name) {
				next = c
			}
		}
		if next == nil {
			rest = rest[at:]
			break
		}
		out = append(out, name)
		rest, commands, flags = rest[at+1:], next.Subcommands, next.Flags
	}
	var arguments []string
	for i := 0; i < len(rest); i++ {
		a := rest[i]
		if a == "--" {
			arguments = append(arguments, rest[i:]...)
			break
		}
		if !strings.HasPrefix(a, "-") || a == "-" {
			arguments = append(arguments, a)
			continue
		}
		pending = append(pending, a)
		if takesValue(allFlags(flags, commands), a) {
			if i++; i == len(rest) {
				return nil, valueMissing(a)
			}
			pending = append(pending, rest[i])
		}
	}
	return append(append(out, pending...), arguments...), nil
}

// valueMissing returns the error of a last argument that is a flag without its value.
func valueMissing(flag string) error {
	return &usageError{fmt.Sprintf("%s needs a value", printable(flag))}
}

// allFlags returns the flags of a command and of all its subcommands.
func allFlags(flags []cli.Flag, commands []*cli.Command) []cli.Flag {
	all := append([]cli.Flag(nil), flags...)
	for _, c := range commands {
		all = append(all, allFlags(c.Flags, c.Subcommands)...)
	}
	return all
}

// takesValue reports whether the argument is a flag whose value is the next argument.
func takesValue(flags []cli.Flag, arg string) bool {
	name := strings.TrimLeft(arg, "-")
	if strings.Contains(name, "=") {
		return false
	}
	for _, f := range flags {
		for _, n := range f.Names() {
			if n == name {
				d, ok := f.(cli.DocGenerationFlag)
				return ok && d.TakesValue()
			}
		}
	}
	return false
}
