package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// The scripts ask the command itself, by urfave/cli's --generate-bash-completion.
const (
	bashCompletion = `_loader() {
  local words=("${COMP_WORDS[@]:0:COMP_CWORD}") cur="${COMP_WORDS[COMP_CWORD]}"
  case "$cur" in -*) words+=("$cur") ;; esac
  COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o bashdefault -o default -F _loader loader
`
	zshCompletion = `#compdef loader
_loader() {
  local -a opts
  opts=("${(@f)$(_CLI_ZSH_AUTOCOMPLETE_HACK=1 ${words[@]:0:#words[@]-1} --generate-bash-completion 2>/dev/null)}")
  _describe 'values' opts
}
compdef _loader loader
`
)

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
				text, err := c.App.ToFishCompletion()
				if err != nil {
					return err
				}
				fmt.Fprint(p.stdout, text)
			default:
				return &usageError{"completion takes bash, zsh or fish"}
			}
			return nil
		},
	}
}
