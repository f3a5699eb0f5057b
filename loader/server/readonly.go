package server

import (
	"context"
	"fmt"
	"net"
	"time"
)

// WhyReadOnly says why the server refuses writes, after an error for which IsReadOnly holds, and
// what to name instead: the primary of a standby, as far as the user may see it.
func WhyReadOnly(ctx context.Context, c *Config) string {
	const (
		several = "several hosts with target_session_attrs=read-write"
		setting = "default_transaction_read_only is on, for the user, the database or the connection; turn it off"
	)
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second) // the error itself must not wait for it
	defer cancel()
	value := func(statement string) []string {
		_, rows, err := Run(ctx, c, statement)
		if err != nil || len(rows) == 0 {
			return nil
		}
		return rows[0]
	}
	switch standby := value("SELECT pg_is_in_recovery()"); {
	case standby == nil:
		return "the server is a standby, or default_transaction_read_only is on; name the primary, or " + several
	case standby[0] == "f":
		return setting
	}
	// Hidden from users who are not in pg_monitor, and empty where no primary is connected.
	if from := value("SELECT sender_host, sender_port FROM pg_stat_wal_receiver WHERE sender_host IS NOT NULL"); from != nil {
		return fmt.Sprintf("the server is a standby of %s; name that server, or %s", net.JoinHostPort(from[0], from[1]), several)
	}
	return "the server is a standby; name its primary, or " + several
}
