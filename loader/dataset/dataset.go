// Package dataset computes the rows of a load from a seed: points and accounts. What row i
// holds depends on the seed and i alone. It writes to no database.
package dataset
