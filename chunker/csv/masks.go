package csv

import "encoding/binary"

// This file holds the masks of a block of text: for each byte, whether it is a certain character.

// blockBytes is the number of bytes in a block, which is scanned as eight words. The result is
// a mask: bit j of its byte i stands for byte i of word j. In this order the comparison results
// of the words combine into one mask by shifts alone.
const blockBytes = 64

// places returns the mask of the bytes equal to c.
func places(b *[blockBytes]byte, c byte) uint64 {
	pattern := 0x0101010101010101 * uint64(c)
	le := binary.LittleEndian
	return ^(others(le.Uint64(b[0:])^pattern)>>7 |
		others(le.Uint64(b[8:])^pattern)>>6 |
		others(le.Uint64(b[16:])^pattern)>>5 |
		others(le.Uint64(b[24:])^pattern)>>4 |
		others(le.Uint64(b[32:])^pattern)>>3 |
		others(le.Uint64(b[40:])^pattern)>>2 |
		others(le.Uint64(b[48:])^pattern)>>1 |
		others(le.Uint64(b[56:])^pattern))
}

// threePlaces returns the masks of three characters, and loads each word only once.
func threePlaces(b *[blockBytes]byte, x, y, z byte) (mx, my, mz uint64) {
	const each = 0x0101010101010101
	px, py, pz := each*uint64(x), each*uint64(y), each*uint64(z)
	le := binary.LittleEndian
	var w uint64
	if ascii(b) && (x|y|z) < 0x80 {
		const low, high = 0x7f7f7f7f7f7f7f7f, 0x8080808080808080
		w = le.Uint64(b[0:])
		mx |= ((w ^ px) + low) & high >> 7
		my |= ((w ^ py) + low) & high >> 7
		mz |= ((w ^ pz) + low) & high >> 7
		w = le.Uint64(b[8:])
		mx |= ((w ^ px) + low) & high >> 6
		my |= ((w ^ py) + low) & high >> 6
		mz |= ((w ^ pz) + low) & high >> 6
		w = le.Uint64(b[16:])
		mx |= ((w ^ px) + low) & high >> 5
		my |= ((w ^ py) + low) & high >> 5
		mz |= ((w ^ pz) + low) & high >> 5
		w = le.Uint64(b[24:])
		mx |= ((w ^ px) + low) & high >> 4
		my |= ((w ^ py) + low) & high >> 4
		mz |= ((w ^ pz) + low) & high >> 4
		w = le.Uint64(b[32:])
		mx |= ((w ^ px) + low) & high >> 3
		my |= ((w ^ py) + low) & high >> 3
		mz |= ((w ^ pz) + low) & high >> 3
		w = le.Uint64(b[40:])
		mx |= ((w ^ px) + low) & high >> 2
		my |= ((w ^ py) + low) & high >> 2
		mz |= ((w ^ pz) + low) & high >> 2
		w = le.Uint64(b[48:])
		mx |= ((w ^ px) + low) & high >> 1
		my |= ((w ^ py) + low) & high >> 1
		mz |= ((w ^ pz) + low) & high >> 1
		w = le.Uint64(b[56:])
		mx |= ((w ^ px) + low) & high >> 0
		my |= ((w ^ py) + low) & high >> 0
		mz |= ((w ^ pz) + low) & high >> 0
		return ^mx, ^my, ^mz
	}
	w = le.Uint64(b[0:])
	mx |= others(w^px) >> 7
	my |= others(w^py) >> 7
	mz |= others(w^pz) >> 7
	w = le.Uint64(b[8:])
	mx |= others(w^px) >> 6
	my |= others(w^py) >> 6
	mz |= others(w^pz) >> 6
	w = le.Uint64(b[16:])
	mx |= others(w^px) >> 5
	my |= others(w^py) >> 5
	mz |= others(w^pz) >> 5
	w = le.Uint64(b[24:])
	mx |= others(w^px) >> 4
	my |= others(w^py) >> 4
	mz |= others(w^pz) >> 4
	w = le.Uint64(b[32:])
	mx |= others(w^px) >> 3
	my |= others(w^py) >> 3
	mz |= others(w^pz) >> 3
	w = le.Uint64(b[40:])
	mx |= others(w^px) >> 2
	my |= others(w^py) >> 2
	mz |= others(w^pz) >> 2
	w = le.Uint64(b[48:])
	mx |= others(w^px) >> 1
	my |= others(w^py) >> 1
	mz |= others(w^pz) >> 1
	w = le.Uint64(b[56:])
	mx |= others(w^px) >> 0
	my |= others(w^py) >> 0
	mz |= others(w^pz) >> 0
	return ^mx, ^my, ^mz
}

// ascii reports whether no byte of the block is beyond ASCII. Then a sum of two bytes carries into
// no other one, which saves operations.
func ascii(b *[blockBytes]byte) bool {
	le := binary.LittleEndian
	all := le.Uint64(b[0:]) | le.Uint64(b[8:]) | le.Uint64(b[16:]) | le.Uint64(b[24:]) |
		le.Uint64(b[32:]) | le.Uint64(b[40:]) | le.Uint64(b[48:]) | le.Uint64(b[56:])
	return all&0x8080808080808080 == 0
}

// others returns the high bit of each nonzero byte of x.
func others(x uint64) uint64 {
	const low, high = 0x7f7f7f7f7f7f7f7f, 0x8080808080808080
	return (x&low + low | x) & high
}

// odd returns the mask of the bytes with an odd number of bits of m up to and including their
// own.
func odd(m uint64) uint64 {
	// 1. Within each word, for all words at once.
	m ^= m << 8
	m ^= m << 16
	m ^= m << 32
	// 2. The last byte of each word has the parity of the whole word. Add the parities of the
	// words before.
	words := m >> 56
	words ^= words << 1
	words ^= words << 2
	words ^= words << 4
	return m ^ words<<1&0xff*0x0101010101010101
}

// inOrder returns a mask whose bit i stands for byte i of the block. It transposes a matrix of
// 8 by 8 bits (Warren, Hacker's Delight, 7-3).
func inOrder(m uint64) uint64 {
	t := (m ^ m>>7) & 0x00aa00aa00aa00aa
	m ^= t ^ t<<7
	t = (m ^ m>>14) & 0x0000cccc0000cccc
	m ^= t ^ t<<14
	t = (m ^ m>>28) & 0x00000000f0f0f0f0
	return m ^ t ^ t<<28
}
