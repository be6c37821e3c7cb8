package apiserver

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	module = "k8s.io/apiserver"
	// The package that starts the suite's servers, in the module and in this one.
	serverPackage = "pkg/storage/etcd3/testserver"
	ourServer     = "testserver"
)

// prepare makes the copy of the module anew and returns its folder. That takes less than a second, so nothing of an
// earlier run has to be trusted.
func prepare(t *testing.T) string {
	t.Helper()
	target := os.Getenv(targetVariable)
	if target == "" {
		target = filepath.Join("..", "..", "target")
	}
	copied, err := filepath.Abs(filepath.Join(target, "apiserver-suite"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(copied); err != nil {
		t.Fatalf("removing the copy of an earlier run: %v", err)
	}
	copyFiles(t, released(t), copied, func(string) bool { return true })
	theirs := filepath.Join(copied, filepath.FromSlash(serverPackage))
	if err := os.RemoveAll(theirs); err != nil {
		t.Fatalf("removing the suite's own server: %v", err)
	}
	copyFiles(t, ourServer, theirs, func(name string) bool {
		return strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go")
	})
	return copied
}

// released returns the folder of the release that go.mod names in Go's module cache; go.sum vouches for its contents.
func released(t *testing.T) string {
	t.Helper()
	command := exec.Command("go", "mod", "download", "-json", module)
	command.Stderr = os.Stderr
	// A failure is described in the output, so it is read first.
	out, err := command.Output()
	var download struct{ Dir, Error string }
	if parseErr := json.Unmarshal(out, &download); parseErr != nil {
		t.Fatalf("%s: %v, output %q", command, err, out)
	}
	if err != nil || download.Dir == "" {
		t.Fatalf("%s: %v: %s", command, err, download.Error)
	}
	return download.Dir
}

// copyFiles copies the regular files that are wanted. The module cache is read-only, the copy is not.
func copyFiles(t *testing.T, from, to string, wanted func(name string) bool) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, relative), 0o755)
		}
		if !wanted(entry.Name()) {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, relative), content, 0o644)
	})
	if err != nil {
		t.Fatalf("copying %s to %s: %v", from, to, err)
	}
}
