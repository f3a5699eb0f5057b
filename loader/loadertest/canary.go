package loadertest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// A Canary is a password that must not come out anywhere. It holds two random
// words between characters that URLs, shells and SQL treat as their own, so that
// a part of it, or any quoted or encoded form, is found as well: both words are
// letters, which no quoting changes.
type Canary struct {
	words [2]string
}

// NewCanary draws a canary.
func NewCanary() Canary {
	var c Canary
	for i := range c.words {
		c.words[i] = strings.Map(func(r rune) rune {
			if r <= '9' { // base32 has the digits 2 to 7
				return r - '2' + 'a'
			}
			return r
		}, rand.Text()[:16])
	}
	return c
}

// Password returns the canary as it is.
func (c Canary) Password() string {
	return c.words[0] + "@x:/?#% '\"\\&=" + c.words[1]
}

// PlainPassword returns a canary without the special characters, for what cannot
// take them.
func (c Canary) PlainPassword() string { return c.words[0] + c.words[1] }

// Find returns in which forms the canary, or a half of it, occurs in the output;
// nothing if it does not.
func (c Canary) Find(output string) []string {
	lower := strings.ToLower(output)
	var found []string
	for i, w := range c.words {
		where := func(form string) { found = append(found, fmt.Sprintf("half %d %s", i+1, form)) }
		if strings.Contains(lower, strings.ToLower(w)) {
			where("as it is, quoted or URL-encoded")
		}
		if strings.Contains(lower, hex.EncodeToString([]byte(w))) {
			where("in hexadecimal")
		}
		// A text in base64 holds the word in one of three ways, by what stands before
		// it. The characters at the ends depend on its neighbours too: they are left out.
		for shift := range 3 {
			coded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", shift) + w))
			coded = coded[(shift*8+5)/6 : (shift+len(w))*8/6]
			if strings.Contains(output, coded) { // letters alone never give + or /: both alphabets agree
				where("in base64")
			}
		}
	}
	return found
}

// Check fails the test if the canary, or a half of it, occurs in the output, in
// any form that Find knows. The message names the output but does not repeat it.
func (c Canary) Check(t testing.TB, name, output string) {
	t.Helper()
	if found := c.Find(output); len(found) > 0 {
		t.Errorf("%s holds the password: %s", name, strings.Join(found, "; "))
	}
}
