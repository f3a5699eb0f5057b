package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"bulkload/chunker"
	"bulkload/chunker/keysize"
)

// record makes TestProof write down what it has proved, for the tests of package
// chunker, which have no server: go test ./loader/server -run TestProof -record
var record = flag.Bool("record", false, "write testdata/plans")

// plansFile is where the plans recorded from a version of the server are.
func plansFile(version string) string {
	return filepath.Join("..", "..", "testdata", "plans", "cockroachdb-"+version+".json")
}

// A recordedPlan is a schema as a server described it, and what the server itself said
// and did with its rows.
type recordedPlan struct {
	Name        string
	Server      string
	DDL         string
	Schema      keysize.Schema
	RowInfo     keysize.RowInfo
	RecordBytes int64
	Bytes, KVs  int64 // of a row: by encode_key, and by the metric of condensed transactions
	Exact       bool
	Budget      int64 // kv.transaction.max_intents_bytes at that time
	Rows        int64 // in a transaction that was not condensed; with one more it was
	Limits      chunker.Limits
}

// readPlans returns the plans recorded from a version; nil where there are none.
func readPlans(t *testing.T, version string) map[string]recordedPlan {
	t.Helper()
	b, err := os.ReadFile(plansFile(version))
	if errors.Is(err, fs.ErrNotExist) || *record {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var list []recordedPlan
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	m := map[string]recordedPlan{}
	for _, p := range list {
		m[p.Name] = p
	}
	return m
}

// writePlans writes one plan a line.
func writePlans(t *testing.T, version string, list []recordedPlan) {
	t.Helper()
	plansFile := plansFile(version)
	var b bytes.Buffer
	for i, p := range list {
		line, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(map[bool]string{true: "[\n", false: ",\n"}[i == 0])
		b.Write(line)
	}
	b.WriteString("\n]\n")
	if err := os.MkdirAll(filepath.Dir(plansFile), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(plansFile, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// check compares a plan with the one recorded, but for the number of the table.
func (p recordedPlan) check(t *testing.T, recorded map[string]recordedPlan) {
	t.Helper()
	want, ok := recorded[p.Name]
	if !ok {
		t.Errorf("%s is not recorded", p.Name)
		return
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var got recordedPlan
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	got.Schema.TableID, want.Schema.TableID = 0, 0
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nrecorded %+v", got, want)
	}
}
