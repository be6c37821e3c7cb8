// Package binaries builds the Kubernetes programs that the suite runs, and keeps them.
//
// The sources are the Go modules that this folder's go.mod names: k8s.io/kubernetes at Version, with
// every staging module at the matching release. The result is a pure function of go.mod, go.sum, the Go
// toolchain and the flags below, so a stamp over those decides whether what is there can be kept.
package binaries

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Version is the Kubernetes release that is built; it must be the one that go.mod requires.
const Version = "v1.37.2"

// Names lists the programs that Ensure provides.
var Names = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"}

const stampFile = "stamp"

// Dir is where the programs are kept: <target>/kube, where <target> is ORLOP_TARGET_DIR when that is set
// and the repository's own target folder otherwise.
func Dir(moduleDir string) (string, error) {
	target := os.Getenv("ORLOP_TARGET_DIR")
	if target == "" {
		target = filepath.Join(moduleDir, "..", "..", "target")
	}
	return filepath.Abs(filepath.Join(target, "kube"))
}

// ModuleDir is the folder of the go.mod that is in force where the process runs.
func ModuleDir(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD (is Go installed?): %w", err)
	}
	file := strings.TrimSpace(string(out))
	if file == "" || file == os.DevNull {
		return "", errors.New("not inside the module of tests/kube: run this from that folder")
	}
	return filepath.Dir(file), nil
}

// Ensure returns the folder that holds every program of Names, building them first when they are missing
// or were built from something else. A first build takes minutes and writes its progress to log.
func Ensure(ctx context.Context, log io.Writer) (string, error) {
	moduleDir, err := ModuleDir(ctx)
	if err != nil {
		return "", err
	}
	dir, err := Dir(moduleDir)
	if err != nil {
		return "", err
	}
	want, err := stamp(moduleDir)
	if err != nil {
		return "", err
	}
	if current(dir, want) {
		return dir, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	fmt.Fprintf(log, "building Kubernetes %s into %s (about five minutes on two cores, then kept)\n", Version, dir)
	if err := replace(ctx, moduleDir, dir, log); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, stampFile), []byte(want), 0o644)
}

// replace builds beside the programs that are there and then puts the new ones in their place, so that a
// run which is using them is not disturbed. The stamp is gone meanwhile: a broken build leaves none.
func replace(ctx context.Context, moduleDir, dir string, log io.Writer) error {
	if err := os.Remove(filepath.Join(dir, stampFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	fresh, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	if err := build(ctx, moduleDir, fresh, log); err != nil {
		return err
	}
	for _, name := range Names {
		if err := os.Rename(filepath.Join(fresh, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func build(ctx context.Context, moduleDir, dir string, log io.Writer) error {
	args := append(flags(), "-o", dir+string(filepath.Separator))
	for _, name := range Names {
		args = append(args, "k8s.io/kubernetes/cmd/"+name)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = moduleDir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build of Kubernetes %s in %s: %w", Version, moduleDir, err)
	}
	return nil
}

// flags make the programs report the release they were built from, as the official ones do.
func flags() []string {
	minor := strings.Split(strings.TrimPrefix(Version, "v"), ".")
	var ldflags strings.Builder
	ldflags.WriteString("-s -w")
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		fmt.Fprintf(&ldflags, " -X %s.gitVersion=%s -X %s.gitMajor=%s -X %s.gitMinor=%s -X %s.gitTreeState=clean",
			pkg, Version, pkg, minor[0], pkg, minor[1], pkg)
	}
	return []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags.String()}
}

// stamp identifies everything that decides what the programs are.
func stamp(moduleDir string) (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.Version(), runtime.GOOS, runtime.GOARCH, flags())
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(moduleDir, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n", name, len(content))
		sum.Write(content)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func current(dir, want string) bool {
	have, err := os.ReadFile(filepath.Join(dir, stampFile))
	if err != nil || string(have) != want {
		return false
	}
	for _, name := range Names {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}
