package server_test

import (
	"strings"
	"testing"

	"bulkload/loader/failure"
	"bulkload/loader/server"
)

// TestServersThatSayPostgreSQL holds that version() tells PostgreSQL from servers that begin with
// its name and do otherwise. The texts are those that the servers' documentation shows.
func TestServersThatSayPostgreSQL(t *testing.T) {
	for text, want := range map[string]string{
		"PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu, compiled by gcc (Debian 12.2.0-14) 12.2.0, 64-bit":       "PostgreSQL 15.18",
		"PostgreSQL 18beta1 on aarch64-apple-darwin24, compiled by clang, 64-bit":                                                   "PostgreSQL 18beta1",
		"PostgreSQL 16.1 on aarch64-unknown-linux-gnu, compiled by aarch64-unknown-linux-gnu-gcc (GCC) 9.5.0, 64-bit":               "PostgreSQL 16.1",
		"CockroachDB CCL v21.1.5 (x86_64-unknown-linux-gnu, built 2021/07/02 04:03:50, go1.15.11)":                                  "CockroachDB 21.1.5",
		"PostgreSQL 11.2-YB-2.18.4.0-b0 on x86_64-pc-linux-gnu, compiled by clang version 15.0.3, 64-bit":                           "YugabyteDB",
		"PostgreSQL 15.2-YB-2025.1.0.1-b3 on x86_64-pc-linux-gnu, compiled by clang version 17.0.6, 64-bit":                         "YugabyteDB",
		"PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017 (Red Hat 3.4.2-6.fc3), Redshift 1.0.28965": "Amazon Redshift",
		"PostgreSQL 13.14.0-RisingWave-2.1.0 (d9d4ae4)":                                                                             "RisingWave",
		"PostgreSQL 12.3, compiled by Visual C++ build 1914, 64-bit, QuestDB":                                                       "QuestDB",
		"Dolt 1.2": "neither CockroachDB nor PostgreSQL",
	} {
		info, err := server.ParseInfo(text)
		switch {
		case err == nil:
			if info.String() != want {
				t.Errorf("%s: %s, want %s", text, info, want)
			}
		case !strings.Contains(err.Error(), want), failure.Of(err) != failure.Target && !strings.Contains(want, "neither"):
			t.Errorf("%s: %v of kind %v, want %s", text, err, failure.Of(err), want)
		}
	}
}
