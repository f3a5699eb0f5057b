//go:build !linux

package loadertest

import "context"

func startPostgreSQL(context.Context) (string, func() error, error) { return "", nil, errNoServer }

func startCockroach(context.Context) (string, func() error, error) { return "", nil, errNoServer }
