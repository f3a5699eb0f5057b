package commit

// FixedMessageBytes bounds what a message holds beside the rows: the statement and the
// heads of the arrays.
const FixedMessageBytes = 1024

// Tolerates reports whether rows that the server refuses become rejects.
func (c *Committer) Tolerates() bool { return c.Tolerate != nil }
