package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"bulkload/loader/commit"
	"bulkload/loader/failure"
	"bulkload/loader/load"
	"bulkload/loader/server"
)

// Import is the method without chunks: the server reads the rows itself. Its cells have no
// chunk size, workers or commit mode.
const Import = load.Import

// A Grid lists the settings to measure: every combination of its lists. Asked marks the lists
// that the user gave. If an entry of such a list cannot be measured in any combination, that
// is an error; otherwise it is left out with a note.
type Grid struct {
	Chunks      []int64 // rows; nil means sizes around the server's limits
	Workers     []int   // zero means the default of a load
	Methods     []commit.Method
	CommitModes []commit.Mode // empty means the default of a load
	Indexes     []load.Indexes
	Asked       struct{ Methods, CommitModes bool }
}

// A GridError reports a grid that cannot be measured.
type GridError struct{ Reason string }

// ErrorKind implements failure.Kinded.
func (e *GridError) ErrorKind() failure.Kind { return failure.Usage }

func (e *GridError) Error() string { return e.Reason }

// check returns the faults that can be found without a server.
func (g Grid) check() error {
	for _, list := range []struct {
		name string
		n    int
	}{{"workers", len(g.Workers)}, {"ways to send rows", len(g.Methods)}, {"ways to commit", len(g.CommitModes)}, {"choices for indexes", len(g.Indexes)}} {
		if list.n == 0 {
			return &GridError{fmt.Sprintf("nothing to measure: there are no %s", list.name)}
		}
	}
	if g.Chunks != nil && len(g.Chunks) == 0 {
		return &GridError{"nothing to measure: there are no chunk sizes"}
	}
	return nil
}

// A Setting is one cell of a grid: the parameters of a load.
type Setting struct {
	Chunk      int64         `json:"chunk"` // rows; zero if there are no chunks
	Workers    int           `json:"workers"`
	Method     commit.Method `json:"via"`
	CommitMode commit.Mode   `json:"commit"`
	Indexes    load.Indexes  `json:"indexes"`
}

// String returns the setting as flags of a load.
func (s Setting) String() string {
	if s.Method == Import {
		return "--via import"
	}
	text := fmt.Sprintf("--workers %d --via %s", s.Workers, s.Method)
	if s.Chunk > 0 {
		text = fmt.Sprintf("--chunk %d ", s.Chunk) + text
	}
	if s.CommitMode != "" {
		text += " --commit " + string(s.CommitMode)
	}
	if s.Indexes == load.DeferIndexes {
		text += " --indexes defer"
	}
	return text
}

// commitMode returns the setting without chunk size and workers.
func (s Setting) commitMode() Setting {
	return Setting{Method: s.Method, CommitMode: s.CommitMode, Indexes: s.Indexes}
}

// line returns the setting without its chunk size.
func (s Setting) line() Setting { s.Chunk = 0; return s }

// Name returns the name of a setting's line, for display.
func (s Setting) Name() string {
	name := string(s.Method)
	if s.Method == Import {
		return name
	}
	if s.CommitMode != "" {
		name += ", " + string(s.CommitMode)
	}
	if s.Indexes == load.DeferIndexes {
		name += ", indexes deferred"
	}
	if s.Workers == 1 {
		return name + ", 1 worker"
	}
	return fmt.Sprintf("%s, %d workers", name, s.Workers)
}

// cells tries the grid's settings on an empty scratch table. It returns the cells that the
// server supports, including the one of the current setting.
func (r *bench) cells(ctx context.Context) ([]Cell, error) {
	table, err := r.scratch.make(ctx)
	if err != nil {
		return nil, err
	}
	defer r.scratch.drop(ctx, table)
	// 1. The default settings of a load, or those found earlier.
	auto, err := r.resolve(ctx, table, Setting{Indexes: load.KeepIndexes})
	if err != nil {
		return nil, err
	}
	if err := r.scratch.resolved(ctx, table); err != nil {
		return nil, err
	}
	r.report.auto, r.report.Table = auto.Setting, r.scratch.target
	r.report.Rows = max(r.report.Rows, auto.rows)
	current, err := r.current(ctx, auto.Setting)
	if err != nil {
		return nil, err
	}
	// 2. The grid.
	var list []Cell
	refused := refusals{grid: r.Grid}
	for _, way := range r.commitModes(auto.Setting) {
		of := table
		if way.Indexes == load.DeferIndexes {
			if of, err = r.scratch.makeBare(ctx); err != nil {
				return nil, err
			}
		}
		cells, err := r.cellsOf(ctx, of, way, auto.Setting)
		if of != table {
			r.scratch.drop(ctx, of)
		}
		var table *load.TableError
		switch {
		case errors.As(err, &table):
			refused.add(way, err)
		case err != nil:
			return nil, err
		default:
			for _, c := range cells {
				if !slices.ContainsFunc(list, func(x Cell) bool { return x.Setting == c.Setting }) {
					list = append(list, c)
				}
			}
		}
	}
	if err := refused.judge(len(list) > 0); err != nil {
		return nil, err
	}
	for _, text := range refused.notes() {
		r.note(text)
		r.report.Notes = append(r.report.Notes, text)
	}
	// 3. The current setting, for comparison.
	if i := slices.IndexFunc(list, func(c Cell) bool { return c.Setting == current }); i >= 0 {
		list[i].Current = true
		return list, nil
	}
	c, err := r.resolve(ctx, table, current)
	if err != nil {
		return nil, err
	}
	c.Current = true
	return append(list, c), nil
}

// current returns the setting that loads of the named table use now.
func (r *bench) current(ctx context.Context, auto Setting) (Setting, error) {
	if r.scratch.registry == nil {
		return auto, nil
	}
	t, ok, err := r.scratch.registry.Tuning(ctx, r.report.Table, r.report.Kind)
	if err != nil || !ok {
		return auto, err
	}
	auto.Chunk, auto.Workers = t.Chunk, t.Workers
	if t.Origin == origin {
		if t.Method != "" {
			auto.Method = commit.Method(t.Method)
		}
		if t.CommitMode != "" {
			auto.CommitMode = commit.Mode(t.CommitMode)
		}
	}
	return auto, nil
}

// commitModes returns the combinations of the grid without chunk sizes and workers.
func (r *bench) commitModes(auto Setting) []Setting {
	var list []Setting
	for _, x := range r.Grid.Indexes {
		for _, via := range r.Grid.Methods {
			for _, way := range r.Grid.CommitModes {
				s := Setting{Method: via, CommitMode: way, Indexes: x}
				if via == Import {
					s.CommitMode = "" // it has none
				} else if way == "" && via == auto.Method {
					s.CommitMode = auto.CommitMode
				}
				if !slices.Contains(list, s) {
					list = append(list, s)
				}
			}
		}
	}
	return list
}

// cellsOf returns the cells of one combination. The error is a *load.TableError if the server
// does not support the combination, and a *GridError if a size is too large.
func (r *bench) cellsOf(ctx context.Context, table string, way, auto Setting) ([]Cell, error) {
	first, err := r.resolve(ctx, table, way)
	var refused *load.TableError
	if errors.As(err, &refused) && way.CommitMode == "" && way.Method != Import {
		// The default commit mode of a load does not suit every method.
		way.CommitMode = commit.Transaction
		if other, otherErr := r.resolve(ctx, table, way); otherErr == nil {
			first, err = other, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if way.CommitMode == "" {
		way.CommitMode = first.CommitMode
	}
	if way.Method == Import {
		return []Cell{first}, nil
	}
	chunks := r.Grid.Chunks
	if chunks == nil {
		chunks = sizes(first, r.report.Rows)
	}
	var list []Cell
	for _, workers := range r.Grid.Workers {
		if workers == 0 {
			workers = auto.Workers
		}
		for _, chunk := range chunks {
			s := way
			s.Chunk, s.Workers = chunk, workers
			if r.report.Rows > 0 && chunk > r.report.Rows {
				return nil, &GridError{fmt.Sprintf("chunks of %d rows cannot be measured with %d rows", chunk, r.report.Rows)}
			}
			c, err := r.resolve(ctx, table, s)
			if err != nil {
				return nil, err
			}
			if chunk > 0 && c.Chunk != chunk {
				return nil, &GridError{fmt.Sprintf("chunks of %d rows are larger than %s allows: %d, by %s", chunk, c.limitedBy, c.Chunk, way.Method)}
			}
			if !slices.ContainsFunc(list, func(x Cell) bool { return x.Setting == c.Setting }) {
				list = append(list, c)
			}
		}
	}
	return list, nil
}

// resolve returns the cell of a load with the setting, or an error if such a load is not
// possible. It replaces zero fields of the setting by the load's defaults.
func (r *bench) resolve(ctx context.Context, table string, s Setting) (Cell, error) {
	req := r.request(table, s)
	if s.Method != Import {
		// A registry is not needed for this, and no index may be dropped.
		req.NoRegistry, req.Indexes = true, load.KeepIndexes
	}
	l, err := load.New(ctx, r.Server, req)
	if err != nil {
		return Cell{}, err
	}
	l.Close()
	if err := r.scratch.forget(ctx, l.ID); err != nil {
		return Cell{}, err
	}
	c := Cell{Setting: s, rows: l.Dataset.Size().Rows}
	c.Method, c.CommitMode = l.Method, l.CommitMode
	if l.Method == Import {
		c.Chunk, c.Workers, c.CommitMode = 0, 0, ""
		return c, nil
	}
	if s.Method == Import {
		return Cell{}, &load.TableError{Reason: fmt.Sprintf("--via import: %s has none for this load; leave it out", r.Server.Info)}
	}
	if s.Workers == 0 {
		c.Workers = l.Workers.Start
	}
	preview, err := load.NewPreview(ctx, r.Server, r.request(table, s), "")
	if err != nil {
		return Cell{}, err
	}
	c.Chunk, c.limitedBy, c.Limits = l.Plan.RowsPerChunk, preview.LimitedBy, preview.Limits
	return c, nil
}

// request returns the load of a run.
func (r *bench) request(table string, s Setting) load.Request {
	req := r.Request()
	req.Table = r.scratch.name(table)
	req.Chunk, req.Workers, req.Method, req.CommitMode, req.Indexes = s.Chunk, s.Workers, s.Method, s.CommitMode, s.Indexes
	return req
}

// sizes returns chunk sizes around the limits of a cell.
func sizes(c Cell, rows int64) []int64 {
	list := []int64{100, 500, 1000, 2000, 5000, 20_000}
	for _, l := range c.Limits {
		if l.MaxRows > 0 && l.Name == server.OnePhase {
			list = append(list, l.MaxRows, l.MaxRows+1)
		}
	}
	var maxRows int64
	for _, l := range c.Limits {
		if l.MaxRows > 0 && !l.Soft && (maxRows == 0 || l.MaxRows < maxRows) {
			maxRows = l.MaxRows
		}
	}
	list = slices.DeleteFunc(list, func(n int64) bool {
		return maxRows > 0 && n > maxRows || rows > 0 && n*minChunks*int64(max(c.Workers, 1)) > rows
	})
	slices.Sort(list)
	if list = slices.Compact(list); len(list) == 0 {
		list = []int64{max(min(rows, c.Chunk), 1)}
	}
	return list
}

// minChunks is the minimum number of chunks per worker. With fewer, their number would matter
// more than their size.
const minChunks = 2
