package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// completeFlag, as the last argument, asks for the words that may stand in place of the one
// before it, which may be empty. Only the completion scripts pass it.
const completeFlag = "--generate-bash-completion"

// The scripts pass all words up to the one under the cursor.
const (
	bashCompletion = `_loader() {
  local cur="${COMP_WORDS[COMP_CWORD]}"
  COMPREPLY=($(compgen -W "$("${COMP_WORDS[@]:0:COMP_CWORD+1}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o bashdefault -o default -F _loader loader
`
	zshCompletion = `#compdef loader
_loader() {
  local -a list
  list=("${(@f)$("${(@)words[1,CURRENT]}" --generate-bash-completion 2>/dev/null)}")
  if [[ -n "${list[1]}" ]]; then compadd -a list; else _files; fi
}
compdef _loader loader
`
	fishCompletion = `function __loader
  set -l words (commandline -opc) (commandline -ct | string collect --allow-empty)
  command $words --generate-bash-completion 2>/dev/null
end
complete -c loader -a '(__loader)'
`
)

// complete prints the words that may stand in place of the last one: flags, if it begins like
// one, else names of commands. After a flag that takes a value, and after "--", it prints
// nothing, and the shell offers files.
// Note: urfave/cli completes only where the last argument is not moved and none is "--";
// otherwise it runs the command, so that a TAB could start a load.
func (p *program) complete(app *cli.App, args []string) {
	at := &cli.Command{Subcommands: app.Commands, Flags: app.Flags}
	cursor := len(args) - 1
	for i := 0; i < cursor; i++ {
		switch a := args[i]; {
		case a == "--":
			return
		case strings.HasPrefix(a, "-") && a != "-":
			if takesValue(allFlags(at.Flags, at.Subcommands), a) {
				if i++; i == cursor {
					return
				}
			}
		default:
			if c := slices.IndexFunc(at.Subcommands, func(c *cli.Command) bool { return c.HasName(a) }); c >= 0 {
				at = at.Subcommands[c]
			}
		}
	}
	if strings.HasPrefix(args[cursor], "-") {
		for _, f := range append(at.Flags, cli.HelpFlag) {
			name := f.Names()[0]
			fmt.Fprintln(p.stdout, "-"+map[bool]string{true: "-"}[len(name) > 1]+name)
		}
		return
	}
	for _, c := range at.Subcommands {
		fmt.Fprintln(p.stdout, c.Name)
	}
	if strings.Contains(at.ArgsUsage, "|") {
		fmt.Fprintln(p.stdout, strings.ReplaceAll(at.ArgsUsage, "|", "\n"))
	}
}

func (p *program) completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a completion script for bash, zsh or fish",
		ArgsUsage: "bash|zsh|fish",
		Description: `Example:
   source <(loader completion bash)`,
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return &usageError{fmt.Sprintf("completion takes one shell, not also %q", c.Args().Get(1))}
			}
			switch shell := c.Args().First(); shell {
			case "bash":
				fmt.Fprint(p.stdout, bashCompletion)
			case "zsh":
				fmt.Fprint(p.stdout, zshCompletion)
			case "fish":
				fmt.Fprint(p.stdout, fishCompletion)
			default:
				return &usageError{"completion takes bash, zsh or fish"}
			}
			return nil
		},
	}
}
