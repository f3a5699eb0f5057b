package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"bulkload/loader/loadertest"
)

// TestTransfersKilledAtAnyMoment kills the command at random moments: no money is made
// or lost, and every balance follows from the transfers that are recorded.
func TestTransfersKilledAtAnyMoment(t *testing.T) {
	loadertest.Long(t)
	rng := newRandom(t)
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, bankDDL, "INSERT INTO accounts SELECT g, 1000000 FROM generate_series(1, 20) AS g")
		args := []string{"transfer", "--n", "100", "--workers", "4"}
		mustRun(t, url, "transfer") // makes the history, which takes its time
		start := time.Now()
		mustRun(t, url, args...)
		whole := time.Since(start)
		k := &killing{rng: rng, want: 50}
		for round := 0; k.kills < k.want; round++ {
			if round == 3*k.want {
				t.Fatalf("%d runs were killed %d times, want %d", round, k.kills, k.want)
			}
			if !killed(t, command(url, args...), k.moment(whole), exitOK) {
				continue
			}
			if k.kills++; k.kills%5 == 0 {
				checkTransfers(t, url, 20)
			}
		}
	})
}

const bankDDL = "CREATE TABLE accounts (id INT8 PRIMARY KEY, balance INT8)"

// checkTransfers fails the test unless the accounts, filled with a million each, hold
// together what they did, and their balances follow from the history.
func checkTransfers(t *testing.T, url string, accounts int64) {
	t.Helper()
	mustRun(t, url, "transfer", "--verify")
	if sum := loadertest.Value[int64](t, url, "SELECT sum(balance)::INT8 FROM accounts"); sum != accounts*1_000_000 {
		t.Fatalf("the accounts hold %d, want %d", sum, accounts*1_000_000)
	}
}

// TestTransferResult compares what the command says of its transfers with the history.
func TestTransferResult(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		mustRun(t, url, "accounts", "--n", "100", "--seed", "3")
		var first transferJSON
		if err := json.Unmarshal([]byte(mustRun(t, url, "transfer", "--n", "15", "--workers", "1", "--seed", "9", "--format", "json")), &first); err != nil {
			t.Fatal(err)
		}
		if first.Run.Transfers != 15 || len(first.Run.First) != 15 || first.Run.Before != first.Run.After || first.Run.P99 < first.Run.P50 {
			t.Errorf("got %+v", first.Run)
		}
		for _, m := range first.Run.First {
			if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM loader.transfers WHERE run = $1 AND n = $2 AND source = $3 AND sink = $4 AND amount = $5 AND amount = source_had / 2 - (source_had % 2) / 2",
				first.Run.ID, m.N, m.Source, m.Sink, m.Amount); n != 1 {
				t.Errorf("the history does not have transfer %+v", m)
			}
		}
		// The same seed on the same accounts draws the same pairs.
		url2 := s.NewDatabase(t)
		mustRun(t, url2, "accounts", "--n", "100", "--seed", "3")
		var second transferJSON
		if err := json.Unmarshal([]byte(mustRun(t, url2, "transfer", "--n", "15", "--workers", "1", "--seed", "9", "--format", "json")), &second); err != nil {
			t.Fatal(err)
		}
		for i, m := range second.Run.First {
			if m != first.Run.First[i] {
				t.Errorf("transfer %d: %+v, before %+v", i, m, first.Run.First[i])
			}
		}
		text := mustRun(t, url, "transfer", "--verify")
		if !strings.Contains(text, "verified: the balances of ") || !strings.Contains(text, "follow from 15 transfers of 1 run, each made once") {
			t.Errorf("verify says %s", text)
		}
		loadertest.Exec(t, url, "UPDATE accounts SET balance = balance + 1 WHERE id = (SELECT min(source) FROM loader.transfers)")
		cmd := command(url, "transfer", "--verify")
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != exitUnconfirmed || !strings.HasPrefix(string(out), "loader: the accounts do not add up: the balances of 1 accounts") {
			t.Errorf("exit code %d: %s", code, out)
		}
	})
}
