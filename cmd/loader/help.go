package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// groupedFrom is the number of flags from which on a command's help groups them: fewer fit on a
// screen.
const groupedFrom = 12

// The groups of flags in help. Flags without a group come first: most people need only them.
// cli sorts groups by name.
var flagGroups = map[string][]string{
	"Bad and repeated records": {"max-errors", "rejects", "max-record-bytes", "short-rows", "on-conflict", "again", "any-time"},
	"Columns and the table":    {"nulls", "value", "columns", "map", "set", "types", "key", "indexes", "truncate", "replace"},
	"Connection":               {"certs-dir", "password-command", "echo"},
	"IMPORT":                   {"handoff", "serve-addr", "serve-cert", "serve-key", "streams"},
	"Output":                   {"out", "json", "csv", "html", "svg", "format", "quiet", "verbose"},
	"Reading files":            {"delimiter", "quote", "escape", "null", "skip", "encoding"},
	"Speed and safety":         {"commit", "chunk-timeout", "retry-for", "rate", "priority", "order", "no-registry"},
}

// groupFlags puts the flags of every command that has many into groups.
func groupFlags(commands []*cli.Command) {
	group := map[string]string{}
	for name, flags := range flagGroups {
		for _, f := range flags {
			group[f] = name
		}
	}
	for _, c := range commands {
		groupFlags(c.Subcommands)
		if len(c.Flags) < groupedFrom {
			continue
		}
		for _, flag := range c.Flags {
			name := group[flag.Names()[0]]
			switch f := flag.(type) {
			case *cli.StringFlag:
				f.Category = name
			case *cli.StringSliceFlag:
				f.Category = name
			case *cli.BoolFlag:
				f.Category = name
			case *cli.DurationFlag:
				f.Category = name
			default:
				panic(fmt.Sprintf("the help does not know flags of type %T", flag))
			}
		}
	}
}

// manCommand prints the manual page of the whole command, in the form that man reads.
func (p *program) manCommand() *cli.Command {
	return &cli.Command{
		Name:  "man",
		Usage: "print the manual page",
		Description: `Example:
   loader man > loader.1 && man ./loader.1`,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return &usageError{"man takes no argument"}
			}
			// Descriptions have examples, whose lines must not be filled. ToMan prints those of
			// commands as UsageText alone.
			c.App.Description = "```\n" + c.App.Description + "\n```"
			describe(c.App.Commands)
			text, err := c.App.ToManWithSection(1)
			if err != nil {
				return err
			}
			fmt.Fprint(p.stdout, text)
			return nil
		},
	}
}

// describe copies the descriptions of commands to where ToMan prints them.
func describe(commands []*cli.Command) {
	for _, c := range commands {
		c.UsageText = c.Description
		describe(c.Subcommands)
	}
}
