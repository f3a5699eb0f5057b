package bank_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader"
	"bulkload/loader/bank"
	"bulkload/loader/loadertest"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

func TestMain(m *testing.M) { loadertest.Main(m) }

// fill makes n accounts with ids 10, 20, … and the same balance, and returns them.
func fill(t *testing.T, url string, n, balance int64) map[int64]int64 {
	t.Helper()
	loadertest.Exec(t, url, "CREATE TABLE accounts (id INT8 PRIMARY KEY, balance INT8)",
		fmt.Sprintf("INSERT INTO accounts (id, balance) SELECT 10 * g, %d FROM generate_series(1, %d) AS g", balance, n))
	accounts := map[int64]int64{}
	for i := range n {
		accounts[10*(i+1)] = balance
	}
	return accounts
}

// open opens the bank at url.
func open(t *testing.T, url string, o bank.Options) *bank.Bank {
	t.Helper()
	b, err := tryOpen(t, url, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tryOpen(t *testing.T, url string, o bank.Options) (*bank.Bank, error) {
	t.Helper()
	if o.RetryFor == 0 {
		o.RetryFor = 20 * time.Second
	}
	b, err := bank.Open(context.Background(), loadertest.Open(t, url), o)
	if err == nil {
		t.Cleanup(b.Close)
	}
	return b, err
}

// A ledger keeps what the client was told: the balances that must be there.
type ledger struct {
	accounts map[int64]int64
	made     []bank.Transfer
}

func (l *ledger) observe(t bank.Transfer) {
	l.accounts[t.Source] -= t.Amount
	l.accounts[t.Sink] += t.Amount
	l.made = append(l.made, t)
}

// follow adds what a later run has made, which began with l's accounts.
func (l *ledger) follow(later *ledger) {
	l.accounts, l.made = later.accounts, append(l.made, later.made...)
}

// rows yields the balances for CheckTable.
func (l *ledger) rows() iter.Seq2[int64, []any] {
	return func(yield func(int64, []any) bool) {
		for _, id := range slices.Sorted(maps.Keys(l.accounts)) {
			if !yield(id, []any{l.accounts[id]}) {
				return
			}
		}
	}
}

var accountsTable = loadertest.Table{Name: pgx.Identifier{"accounts"}, Columns: []string{"balance"}}

// checkBank checks the table against what the client was told, and verifies it.
func checkBank(t *testing.T, url string, l *ledger) {
	t.Helper()
	loadertest.CheckTable(t, url, accountsTable, l.rows())
	v, err := open(t, url, bank.Options{}).Verify(context.Background())
	if err == nil {
		err = v.Err()
	}
	if err != nil {
		t.Error(err)
	}
	if v.Transfers != int64(len(l.made)) {
		t.Errorf("the history has %d transfers, the client was told of %d", v.Transfers, len(l.made))
	}
}

func TestTransfers(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		l := &ledger{accounts: fill(t, url, 10, 1000)}
		b := open(t, url, bank.Options{Workers: 4, Observe: l.observe})
		res, err := b.Run(context.Background(), 300)
		if err != nil {
			t.Fatal(err)
		}
		if res.Transfers != 300 || res.P50 <= 0 || res.P99 < res.P50 {
			t.Errorf("got %+v", res)
		}
		if res.Before.Balance != "10000" || *res.After != *res.Before {
			t.Errorf("sum before %+v, after %+v, want 10000 both times", res.Before, res.After)
		}
		checkBank(t, url, l)
		b.Close()
	})
}

// TestOneTransfer compares one transfer with what the tutorial says it is.
func TestOneTransfer(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		fill(t, url, 2, 1001)
		var got bank.Transfer
		b := open(t, url, bank.Options{Observe: func(t bank.Transfer) { got = t }})
		if _, err := b.Run(context.Background(), 1); err != nil {
			t.Fatal(err)
		}
		if got.Amount != 500 || got.Source+got.Sink != 30 {
			t.Errorf("moved %d from %d to %d, want 500 between 10 and 20", got.Amount, got.Source, got.Sink)
		}
		if n := loadertest.Value[int64](t, url, "SELECT balance FROM accounts WHERE id = $1", got.Source); n != 501 {
			t.Errorf("the source has %d, want 501", n)
		}
	})
}

// TestSchemaOfOthers has a schema loader that is another program's: no history is made in it,
// and no transfer.
func TestSchemaOfOthers(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		fill(t, url, 2, 1000)
		loadertest.Exec(t, url, "CREATE SCHEMA loader", "CREATE TABLE loader.jobs (id INT8 PRIMARY KEY)")
		_, err := open(t, url, bank.Options{}).Run(context.Background(), 1)
		var schema *registry.SchemaError
		if !errors.As(err, &schema) || !strings.Contains(err.Error(), "it holds jobs") {
			t.Errorf("got %v, want a SchemaError that names what the schema holds", err)
		}
		if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'loader'"); n != 1 {
			t.Errorf("schema loader has %d tables, want 1", n)
		}
	})
}

// TestSameSeedSamePairs runs the same seed on both servers: the pairs depend on the
// accounts alone, whatever the number of workers.
func TestSameSeedSamePairs(t *testing.T) {
	var want []bank.Transfer
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		for _, workers := range []int{1, 4} {
			url := s.NewDatabase(t)
			l := &ledger{accounts: fill(t, url, 20, 1<<40)}
			b := open(t, url, bank.Options{Seed: 7, Workers: workers, Observe: l.observe})
			if _, err := b.Run(context.Background(), 100); err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(l.made, func(a, b bank.Transfer) int { return cmp.Compare(a.N, b.N) })
			if want == nil {
				want = l.made
			}
			for i, got := range l.made {
				if w := want[i]; got.Source != w.Source || got.Sink != w.Sink {
					t.Fatalf("%d workers: transfer %d goes from %d to %d, before from %d to %d", workers, i, got.Source, got.Sink, w.Source, w.Sink)
				}
				if got.Source == got.Sink {
					t.Fatalf("transfer %d goes from %d to itself", i, got.Source)
				}
			}
		}
	})
}

func TestTablesWithoutTransfers(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		for _, test := range []struct {
			name, create string
			want         error
			text         string
		}{
			{"empty", "CREATE TABLE accounts (id INT8 PRIMARY KEY, balance INT8)", bank.ErrFew, "public.accounts is empty; loader accounts fills it"},
			{"one account", "CREATE TABLE accounts (id INT8 PRIMARY KEY, balance INT8); INSERT INTO accounts VALUES (7, 100)", bank.ErrFew, "has only one, id 7"},
			{"no funds", "CREATE TABLE accounts (id INT8 PRIMARY KEY, balance INT8); INSERT INTO accounts VALUES (7, 1), (8, 0), (9, -5), (10, NULL)", bank.ErrFunds, "had a balance of 2 or more"},
		} {
			t.Run(test.name, func(t *testing.T) {
				url := s.NewDatabase(t)
				loadertest.Exec(t, url, test.create)
				_, err := open(t, url, bank.Options{}).Run(context.Background(), 1)
				if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
					t.Errorf("got %v, want %v with %q", err, test.want, test.text)
				}
			})
		}
		for _, test := range []struct{ create, text string }{
			{"CREATE TABLE other (id INT8 PRIMARY KEY)", "no such table: accounts"},
			{"CREATE TABLE accounts (id INT8 PRIMARY KEY)", "column balance is missing"},
			{"CREATE TABLE accounts (id INT8 PRIMARY KEY, balance TEXT)", "column balance is text, not a whole number"},
			{"CREATE TABLE accounts (id INT8, balance INT8, PRIMARY KEY (id, balance))", "the primary key is (id, balance), not (id)"},
		} {
			url := s.NewDatabase(t)
			loadertest.Exec(t, url, test.create)
			_, err := tryOpen(t, url, bank.Options{})
			var target *server.TargetError
			if !errors.As(err, &target) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%s: got %v, want a TargetError with %q", test.create, err, test.text)
			}
		}
	})
}

// TestOtherTables: narrower types, NULL balances beside others, ids at both ends.
func TestOtherTables(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url,
			`CREATE TABLE "My Bank" (id INT4 PRIMARY KEY, balance DECIMAL(20))`, `INSERT INTO "My Bank" VALUES (1, 10), (2, 20), (3, NULL), (4, 0)`,
			"CREATE TABLE ends (id INT8 PRIMARY KEY, balance INT2)", "INSERT INTO ends VALUES (-9223372036854775808, 100), (9223372036854775807, 100)")
		for _, table := range []string{`"My Bank"`, "ends"} {
			b := open(t, url, bank.Options{Table: table, Workers: 1})
			if _, err := b.Run(context.Background(), 10); err != nil {
				t.Errorf("%s: %v", table, err)
			}
			v, err := b.Verify(context.Background())
			if err != nil || v.Err() != nil || v.Transfers != 10 {
				t.Errorf("%s: %+v, %v, %v", table, v, err, v.Err())
			}
		}
	})
}

// TestLargeTables samples a table of more accounts than a run holds.
func TestLargeTables(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		l := &ledger{accounts: fill(t, url, 5*bank.MaxSampled, 1000)}
		b := open(t, url, bank.Options{Seed: 5, Observe: l.observe})
		if _, err := b.Run(context.Background(), 200); err != nil {
			t.Fatal(err)
		}
		if b.All || b.Sampled > bank.MaxSampled+2 || b.Sampled < bank.MaxSampled/2 {
			t.Errorf("%d accounts sampled, all of them: %t", b.Sampled, b.All)
		}
		checkBank(t, url, l)
		if s.Cockroach {
			return // thousands of probes, and pairs are drawn without the server
		}
		first := l.made
		l.made = nil
		if _, err := open(t, url, bank.Options{Seed: 5, Observe: l.observe}).Run(context.Background(), 200); err != nil {
			t.Fatal(err)
		}
		pairs := func(list []bank.Transfer) map[[3]int64]bool {
			m := map[[3]int64]bool{}
			for _, t := range list {
				m[[3]int64{t.N, t.Source, t.Sink}] = true
			}
			return m
		}
		if !maps.Equal(pairs(first), pairs(l.made)) {
			t.Error("the same seed gives other pairs from a sampled table")
		}
	})
}

// TestVerifyFinds changes what a run has left, in every way that Verify must see.
func TestVerifyFinds(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		for _, test := range []struct {
			name, sql string
			broken    int64
		}{
			{"money made", "UPDATE accounts SET balance = balance + 1 WHERE id = 10", 1},
			{"money moved by others", "UPDATE accounts SET balance = CASE id WHEN 10 THEN balance - 1 ELSE balance + 1 END WHERE id IN (10, 20)", 2},
			{"an account deleted", "DELETE FROM accounts WHERE id = 10", 1},
			{"a transfer that is only in the history", "INSERT INTO loader.transfers SELECT id, 1000000, 10, 20, 5, 10000, 10000 FROM loader.transfer_runs", 2},
			{"a transfer made twice", `UPDATE accounts SET balance = balance + CASE id WHEN t.source THEN -t.amount ELSE t.amount END
				FROM (SELECT source, sink, amount FROM loader.transfers WHERE n = 3) AS t WHERE id IN (t.source, t.sink)`, 2},
		} {
			t.Run(test.name, func(t *testing.T) {
				if s.Cockroach {
					loadertest.Long(t)
				}
				url := s.NewDatabase(t)
				fill(t, url, 4, 1000)
				b := open(t, url, bank.Options{Workers: 2})
				if _, err := b.Run(context.Background(), 60); err != nil {
					t.Fatal(err)
				}
				if v, err := b.Verify(context.Background()); err != nil || v.Err() != nil || v.Touched != 4 || v.Compared != 1 {
					t.Fatalf("before: %+v, %v, %v", v, err, v.Err())
				}
				loadertest.Exec(t, url, test.sql)
				v, err := b.Verify(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				if !errors.Is(v.Err(), bank.ErrMoney) || v.Broken != test.broken {
					t.Errorf("got %+v, %v; want %d broken accounts", v, v.Err(), test.broken)
				}
			})
		}
		t.Run("money made where no transfer was", func(t *testing.T) {
			url := s.NewDatabase(t)
			fill(t, url, 50, 1000)
			b := open(t, url, bank.Options{})
			if _, err := b.Run(context.Background(), 1); err != nil {
				t.Fatal(err)
			}
			loadertest.Exec(t, url, "UPDATE accounts SET balance = balance + 1 WHERE id NOT IN (SELECT source FROM loader.transfers UNION ALL SELECT sink FROM loader.transfers)")
			v, err := b.Verify(context.Background())
			if err != nil || !errors.Is(v.Err(), bank.ErrMoney) || v.Made == "" {
				t.Errorf("got %+v, %v, %v; want another sum than before the run", v, err, v.Err())
			}
		})
	})
}

// TestVerifyDuringTransfers reads the bank as Jepsen's test does, while money moves.
func TestVerifyDuringTransfers(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		l := &ledger{accounts: fill(t, url, 5, 1000)}
		reader := open(t, url, bank.Options{})
		b := open(t, url, bank.Options{Workers: 4, Observe: l.observe})
		ended := make(chan error, 1)
		n := int64(500)
		if s.Cockroach {
			n = 100 // a read of all accounts stands in the way of each
		}
		go func() {
			_, err := b.Run(context.Background(), n)
			ended <- err
		}()
		reads := 0
		for done := false; !done; {
			select {
			case err := <-ended:
				if err != nil {
					t.Fatal(err)
				}
				done = true
			default:
			}
			v, err := reader.Verify(context.Background())
			if err == nil {
				err = v.Err()
			}
			if err != nil || v.Balance != "5000" {
				t.Fatalf("read %d: sum %s, %v", reads, v.Balance, err)
			}
			reads++
		}
		t.Logf("%d reads", reads)
		checkBank(t, url, l)
	})
}

func TestStop(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		l := &ledger{accounts: fill(t, url, 10, 1000)}
		stop := make(chan struct{})
		b := open(t, url, bank.Options{Workers: 3, Stop: stop, Observe: func(tr bank.Transfer) {
			if l.observe(tr); len(l.made) == 20 {
				close(stop)
			}
		}})
		res, err := b.Run(context.Background(), 100_000)
		if !errors.Is(err, loader.ErrStopped) || res.Transfers < 20 || res.Transfers > 25 {
			t.Errorf("%d transfers, %v; want to stop after 20 or a few more", res.Transfers, err)
		}
		checkBank(t, url, l)
	})
}
