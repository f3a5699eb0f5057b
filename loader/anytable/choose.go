package anytable

import (
	"context"
	"fmt"
	"slices"

	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// Reasons why a load of rows does not take a setting.
const (
	copyIsPlain = "--value COLUMN=sql(…) cannot be used with --via copy: COPY computes no columns"
	computed    = "cannot tell which rows are loaded: columns computed by --value COLUMN=sql(…) cannot be compared"
	noURLs      = "loader rows cannot import from URLs, since the rules may now draw other keys than those in the files; run the IMPORT statement that --out prints, or leave out --handoff"
)

// Check implements dataset.Checker.
func (d *Dataset) Check(asked dataset.Asked) (list []string) {
	if !slices.ContainsFunc(d.Values, Value.computed) {
		return nil
	}
	if asked.Mode == commit.Statement {
		list = append(list, "--commit statement "+computed)
	}
	if asked.Method == commit.Copy {
		list = append(list, copyIsPlain)
	}
	if asked.Import {
		list = append(list, "--via import: "+fmt.Sprintf(dataset.NotByImport, byExpression))
	}
	return list
}

// byExpression names the rule in messages.
const byExpression = "--value COLUMN=sql(…)"

// Choose implements dataset.Dataset.
func (d *Dataset) Choose(ctx context.Context, o *dataset.Opening, asked dataset.Choice) (dataset.Choice, error) {
	if asked.Method == "" {
		asked.Method = commit.Insert
		if d.info.Product == server.PostgreSQL && !d.table.RowSecurity && d.gen.store() == nil {
			asked.Method = commit.Copy
		}
	}
	switch {
	case asked.Method == commit.Copy && d.info.Product == server.CockroachDB:
		return asked, dataset.Contradict("loader rows cannot use --via copy on CockroachDB, where COPY reads some types differently than SQL; use --via insert")
	case asked.Method == commit.Copy && d.gen.store() != nil:
		return asked, dataset.Contradict(copyIsPlain)
	}
	d.choice = asked
	automatic := asked.Mode == "" || o.RecalledMode
	switch {
	case automatic && (asked.Mode == commit.Statement || asked.Mode == "" && d.info.Product == server.CockroachDB):
		asked.Why = dataset.AgainstStatements(o, d.table, d.columns())
		if why := d.unsure(); asked.Why == "" && why != "" {
			asked.Why = "--commit statement " + why
		}
	case automatic:
		asked.Mode = commit.Transaction
	case asked.Mode == commit.Statement:
		asked.Why = d.unsure()
	}
	if asked.Mode != commit.Transaction {
		d.choice.Mode = commit.Statement
		if asked.Why == "" {
			opts := d.Options()
			opts.Table, opts.Mode, opts.Method = d.table.Name, commit.Statement, asked.Method
			why, err := dataset.UnsureKeys(ctx, o, opts, &d.began)
			if err != nil {
				return asked, err
			}
			if asked.Why = why; why != "" && automatic {
				asked.Why = "--commit statement " + why
			}
		}
		switch {
		case asked.Why == "":
			asked.Mode, asked.Why = commit.Statement, provedExact
		case automatic:
			asked.Mode = commit.Transaction
		case o.Resumed != "":
			return asked, &dataset.ResumeError{Reason: fmt.Sprintf("load %s: --commit statement %s; run loader loads forget %s, delete its rows, and load again with --commit transaction", o.Resumed, asked.Why, o.Resumed)}
		default:
			return asked, dataset.Refuse("--commit statement %s; use --commit transaction", asked.Why)
		}
	}
	if o.Resumed == "" && d.began == "" {
		var err error
		if d.began, err = dataset.Began(ctx, o.DB, o.Info); err != nil {
			return asked, err
		}
	}
	if d.gen.store() != nil && o.Resumed == "" {
		opts := d.Options()
		opts.Table, opts.Mode, opts.Method = d.table.Name, asked.Mode, asked.Method
		if err := dataset.CheckStatement(ctx, o, opts, byExpression); err != nil {
			return asked, err
		}
	}
	if why := d.Ordered(); why != "" && o.Workers > 1 {
		o.Note(fmt.Sprintf("one worker, not %d: %s", o.Workers, why))
	}
	d.choice = asked
	return asked, nil
}

// provedExact says why an automatic choice took the statement mode.
const provedExact = "the table was empty, the rows have its whole primary key, and a look-up compares each value as it is stored; --commit transaction writes ledger rows instead"

// unsure returns why a look-up cannot prove which rows are in the table; empty if it can.
func (d *Dataset) unsure() string {
	switch {
	case len(d.keys()) == 0:
		return fmt.Sprintf("needs a primary key of %s that the server computes no part of", d.table.Display())
	case d.gen.store() != nil:
		return computed
	case d.Ordered() != "":
		return "cannot be used where chunks are committed one after the other: " + d.Ordered()
	}
	if why := dataset.UnsureTable(d.table); why != "" {
		return why
	}
	return dataset.UnsureColumns(d.table, d.info.Product, d.columns())
}
