package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/urfave/cli/v2"

	"bulkload/loader/bank"
	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// maxListed is the maximum number of transfers listed one by one; the history has them all.
const maxListed = 20

func (p *program) transferCommand() *cli.Command {
	return &cli.Command{
		Name:  "transfer",
		Usage: "move money between accounts: half of one balance to another account, each transfer exactly once",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "n", Value: "1", Usage: "transfers to make"},
			&cli.StringFlag{Name: "workers", Value: "auto", Usage: "transfers made at once, or auto"},
			&cli.StringFlag{Name: "seed", Usage: "seed of the choice of accounts (default: a random one, which is printed)"},
			&cli.StringFlag{Name: "table", Value: dataset.BankTable, Usage: "table of accounts (id, balance)"},
			&cli.DurationFlag{Name: "retry-for", Value: bank.DefaultRetryFor, Usage: "maximum time of all attempts at a transfer"},
			&cli.BoolFlag{Name: "verify", Usage: "compare all balances with the recorded transfers; without --n, make none"},
		}, p.commonFlags()...),
		Description: `The transaction of each transfer also writes a row of table loader.transfers. A transfer
whose reply was lost is looked up there, not made again.
Examples:
   loader transfer
   loader transfer --n 1000 --workers 4
   loader transfer --verify`,
		Action: p.transfer,
	}
}

func (p *program) transfer(c *cli.Context) error {
	if err := p.begin(c); err != nil {
		return err
	}
	n, o, err := p.transferOptions(c)
	if err != nil {
		return err
	}
	srv, done, err := p.existing(c, dataset.BankDatabase)
	if err != nil {
		return err
	}
	defer done()
	var r *reporter
	var list []bank.Transfer
	o.Note = func(text string) { r.note(text) }
	o.Observe = func(t bank.Transfer) {
		r.add(1, t.Retries)
		if len(list) < maxListed {
			list = append(list, t)
		}
	}
	b, err := bank.Open(c.Context, srv, o)
	if errors.Is(err, server.ErrNoTable) {
		table := ""
		if c.IsSet("table") {
			table = " --table " + shellWord(c.String("table"))
		}
		p.note("loader accounts --n 100%s creates and fills it", table)
	}
	if err != nil {
		return err
	}
	defer b.Close()
	p.noteTarget(srv, b.Accounts)
	out := transferJSON{Server: srv.Info.String(), Host: srv.Config.Host(), Database: srv.Config.Database(), Table: b.Accounts.Display()}
	if n > 0 {
		p.note("%s, seed %d, run %s; %s", counted(n, "transfer", "transfers"), b.Seed, b.ID, counted(min(int64(b.Workers), n), "worker", "workers"))
		r = p.report(n, 0, "transfers")
		res, err := b.Run(c.Context, n)
		r.end()
		if err != nil {
			if res.Transfers > 0 {
				p.note("%d transfers were confirmed by this run", res.Transfers)
			}
			return err
		}
		out.made(b, res, list)
		if !p.json {
			p.printTransfers(b, res, list)
		}
	}
	if c.Bool("verify") {
		v, err := b.Verify(c.Context)
		if err == nil {
			err = v.Err()
		}
		if err != nil {
			return err
		}
		out.verified(v)
		if !p.json {
			p.printVerified(v)
		}
	}
	if p.json {
		return p.printJSON(out)
	}
	return nil
}

// transferOptions reads the flags of transfer: the number of transfers to make, which is zero with
// --verify alone, and how they are made.
func (p *program) transferOptions(c *cli.Context) (n int64, o bank.Options, err error) {
	if c.Args().Present() {
		return 0, o, &usageError{fmt.Sprintf("transfer takes no argument %q", c.Args().First())}
	}
	if n, err = number("n", c.String("n"), 1, math.MaxInt64); err != nil {
		return 0, o, err
	}
	o = bank.Options{Table: c.String("table"), RetryFor: c.Duration("retry-for"), Stop: p.stop}
	if o.RetryFor <= 0 {
		return 0, o, &usageError{"--retry-for must be greater than 0"}
	}
	if o.Workers, err = readWorkers(c); err != nil {
		return 0, o, err
	}
	if o.Seed, err = readSeed(c); err != nil {
		return 0, o, err
	}
	if c.Bool("verify") && !c.IsSet("n") {
		if c.IsSet("workers") || c.IsSet("seed") {
			return 0, o, &usageError{"--workers and --seed need --n: --verify alone makes no transfers"}
		}
		n = 0
	}
	return n, o, nil
}

// printTransfers prints the transfers of a run.
func (p *program) printTransfers(b *bank.Bank, res bank.Result, list []bank.Transfer) {
	out := p.stdout
	if res.Transfers <= maxListed {
		for _, t := range list {
			fmt.Fprintf(out, "moved %d from account %d to account %d\n", t.Amount, t.Source, t.Sink)
		}
	}
	fmt.Fprintf(out, "made %s, %s in all, in %.2f s: %.0f transfers/s\n", counted(res.Transfers, "transfer", "transfers"), res.Amount, res.Elapsed.Seconds(), res.PerSecond())
	fmt.Fprintf(out, "%.1f ms each (p50), %.1f ms (p99); %d retries, %d uncertain outcomes looked up", ms(res.P50), ms(res.P99), res.Retries, res.LookUps)
	if res.Skipped > 0 {
		fmt.Fprintf(out, "; skipped %d pairs (insufficient funds or deleted account)", res.Skipped)
	}
	fmt.Fprintln(out)
	switch {
	case res.Before == nil:
		fmt.Fprintf(out, "sums of more than %d accounts are not compared here; loader transfer --verify compares them\n", bank.MaxSummed)
	case res.Before.Accounts != res.After.Accounts:
		fmt.Fprintf(out, "the number of accounts changed from %d to %d, so their sums cannot be compared; loader transfer --verify compares balances\n", res.Before.Accounts, res.After.Accounts)
	default:
		fmt.Fprintf(out, "%d accounts hold %s, as before\n", res.After.Accounts, res.After.Balance)
	}
	fmt.Fprintf(out, "seed %d, run %s\n", b.Seed, b.ID)
}

// printVerified prints a successful result of Verify.
func (p *program) printVerified(v bank.Verification) {
	sums := "no earlier run to compare the sum with"
	if v.Compared > 0 {
		sums = "as before " + map[bool]string{true: "the run", false: fmt.Sprintf("each of %d runs", v.Compared)}[v.Compared == 1]
	}
	fmt.Fprintf(p.stdout, "verified: %d accounts hold %s, %s\n", v.Accounts, v.Balance, sums)
	fmt.Fprintf(p.stdout, "verified: the balances of %d accounts follow from %s of %s, each made once\n", v.Touched, counted(v.Transfers, "transfer", "transfers"), counted(v.Runs, "run", "runs"))
}

// transferJSON is the JSON form of transfer's result.
type transferJSON struct {
	Server   string        `json:"server"`
	Host     string        `json:"host"`
	Database string        `json:"database"`
	Table    string        `json:"table"`
	Run      *runJSON      `json:"run,omitempty"`
	Verified *verifiedJSON `json:"verified,omitempty"`
}

type runJSON struct {
	ID        string      `json:"id"`
	Seed      string      `json:"seed"`
	Workers   int         `json:"workers"`
	Transfers int64       `json:"transfers"`
	Amount    json.Number `json:"amount"`
	Retries   int64       `json:"retries"`
	LookUps   int64       `json:"looked_up"`
	Skipped   int64       `json:"passed_by"`
	Seconds   float64     `json:"seconds"`
	Rate      float64     `json:"transfers_per_second"`
	P50       float64     `json:"p50_ms"`
	P99       float64     `json:"p99_ms"`
	Accounts  *int64      `json:"accounts,omitempty"`
	Before    string      `json:"sum_before,omitempty"`
	After     string      `json:"sum_after,omitempty"`
	First     []moveJSON  `json:"first_transfers"`
}

type moveJSON struct {
	N      int64 `json:"n"`
	Source int64 `json:"source"`
	Sink   int64 `json:"sink"`
	Amount int64 `json:"amount"`
}

type verifiedJSON struct {
	Accounts  int64  `json:"accounts"`
	Sum       string `json:"sum"`
	Runs      int64  `json:"runs"`
	Transfers int64  `json:"transfers"`
	Touched   int64  `json:"touched"`
	Compared  int64  `json:"sums_compared"`
}

func (j *transferJSON) made(b *bank.Bank, res bank.Result, list []bank.Transfer) {
	j.Run = &runJSON{
		ID: b.ID, Seed: strconv.FormatUint(b.Seed, 10), Workers: b.Workers, Transfers: res.Transfers, Amount: json.Number(res.Amount.String()),
		Retries: res.Retries, LookUps: res.LookUps, Skipped: res.Skipped,
		Seconds: res.Elapsed.Seconds(), Rate: math.Round(res.PerSecond()), P50: ms(res.P50), P99: ms(res.P99),
	}
	if res.After != nil {
		j.Run.Accounts, j.Run.Before, j.Run.After = &res.After.Accounts, res.Before.Balance, res.After.Balance
	}
	for _, t := range list {
		j.Run.First = append(j.Run.First, moveJSON{t.N, t.Source, t.Sink, t.Amount})
	}
}

func (j *transferJSON) verified(v bank.Verification) {
	j.Verified = &verifiedJSON{v.Accounts, v.Balance, v.Runs, v.Transfers, v.Touched, v.Compared}
}
