package importer

import "github.com/jackc/pgx/v5"

// Scan is the reading of one row of the answer to IMPORT INTO.
func (a *Answer) Scan(found pgx.Rows) error { return a.scan(found) }
