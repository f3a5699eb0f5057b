package commit

// FixedMessageBytes bounds what a message holds beside the rows: the statement and the
// heads of the arrays.
const FixedMessageBytes = 1024
