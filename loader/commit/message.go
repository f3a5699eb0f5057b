package commit

// FixedMessageBytes bounds the part of a message without rows, in bytes: the statement and the
// array headers.
const FixedMessageBytes = 1024

// Tolerates reports whether refused rows become rejects.
func (c *Committer) Tolerates() bool { return c.Tolerate != nil }
