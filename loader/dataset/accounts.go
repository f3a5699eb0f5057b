package dataset

import (
	"context"
	"encoding/json"
	"fmt"

	"bulkload/chunker/keysize"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/server"
)

// AccountsDatabase is the tutorial's database of accounts.
const (
	BankDatabase = "bank"
	BankTable    = "accounts"
)

// Accounts are the tutorial's bank accounts: an id and a balance.
type Accounts struct{ Generated }

// NewAccounts returns n accounts of a seed.
func NewAccounts(n int64, seed uint64) *Accounts {
	return &Accounts{Generated{
		Kind: BankTable, Database: BankDatabase, Rows: n, Seed: seed,
		Columns: AccountSource{}.Columns(),
		DDL: map[server.Product]string{
			server.CockroachDB: "id INT PRIMARY KEY, balance INT",
			server.PostgreSQL:  "id BIGINT PRIMARY KEY, balance BIGINT",
		},
		IDs:      keysize.IntRange{First: 0, Last: AccountIDs - 1},
		RowBytes: 76,
	}}
}

// openAccounts returns the accounts of a record.
func openAccounts(record json.RawMessage, positions int64) (Dataset, error) {
	var r seedRecord
	if err := json.Unmarshal(record, &r); err != nil {
		return nil, err
	}
	return NewAccounts(positions, r.Seed), nil
}

// Fresh implements Dataset.
func (a *Accounts) Fresh() Dataset { return NewAccounts(a.Rows, a.Seed) }

func (a *Accounts) source() AccountSource { return AccountSource{Seed: a.Seed, Rows: a.Rows} }

// Source implements Dataset.
func (a *Accounts) Source() loader.Source { return a.source() }

// crowded is the share of all account ids above which a load first counts the rows of the
// table. Below it, drawing again soon finds a free id.
const crowded = 0.5

// Reserve implements Dataset: it refuses more accounts than there are free ids.
func (a *Accounts) Reserve(ctx context.Context, o *Opening) error {
	if a.Rows > AccountIDs {
		return Refuse("%d accounts need more ids than there are (%d)", a.Rows, int64(AccountIDs))
	}
	if float64(a.Rows) < crowded*AccountIDs {
		return nil
	}
	var there int64
	err := o.DB.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM %s WHERE id >= 0 AND id < $1", o.Table.Name.Sanitize()), int64(AccountIDs)).Scan(&there)
	if err != nil {
		return fmt.Errorf("count the existing accounts: %w", err)
	}
	if free := AccountIDs - there; a.Rows > free {
		return Refuse("%d accounts need more ids than are free (%d)", a.Rows, free)
	}
	return nil
}

// Check implements Checker.
func (a *Accounts) Check(asked Asked) []string {
	if asked.Mode != commit.Statement {
		return nil
	}
	return []string{noStatements}
}

const noStatements = "accounts need --commit transaction, because an id that is taken is drawn again"

// Choose implements Dataset.
func (a *Accounts) Choose(ctx context.Context, o *Opening, asked Choice) (Choice, error) {
	if asked.Mode == commit.Statement {
		return asked, Contradict(noStatements)
	}
	return a.Generated.Choose(ctx, o, asked)
}

// Options implements Dataset: a row whose id is taken draws another one.
func (a *Accounts) Options() commit.Options {
	opts := a.Generated.Options()
	opts.Redraw = a.source().Redraw
	return opts
}

// Import implements Dataset.
func (a *Accounts) Import() Import {
	m := a.Generated.Import()
	m.IntoRows = "whose ids accounts may collide with"
	return m
}
