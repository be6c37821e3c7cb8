package proto

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

const (
	rpctypesPath = "go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	listFile     = "../../crates/server/src/error/etcd_errors.tsv"
	listHead     = "# etcd's errors: name, gRPC code, text. Written by `go test -run Errors -update ./...` in tests/proto.\n"
)

var update = flag.Bool("update", false, "write the list of etcd's errors instead of comparing it")

// etcdError is one row of etcd's table of errors.
type etcdError struct {
	name string
	code codes.Code
	text string
}

func (e etcdError) line() string {
	return fmt.Sprintf("%s\t%s\t%s\n", e.name, e.code, e.text)
}

// etcdErrors reads the table from the source of the rpctypes package, because a program cannot list a package's
// variables, in the order of the source. Aliases of other rows are left out.
func etcdErrors(t *testing.T) []etcdError {
	t.Helper()
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", rpctypesPath).Output()
	if err != nil {
		t.Fatalf("cannot find %s: %v", rpctypesPath, err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "error.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var rows []etcdError
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "ErrGRPC") {
			return true
		}
		call, ok := spec.Values[0].(*ast.CallExpr)
		if !ok {
			return true
		}
		rows = append(rows, row(t, strings.TrimPrefix(spec.Names[0].Name, "ErrGRPC"), call))
		return false
	})
	return rows
}

// row reads `status.Error(codes.Code, "text")`.
func row(t *testing.T, name string, call *ast.CallExpr) etcdError {
	t.Helper()
	code, isSelector := call.Args[0].(*ast.SelectorExpr)
	literal, isLiteral := call.Args[1].(*ast.BasicLit)
	if !isSelector || !isLiteral {
		t.Fatalf("%s is not declared as status.Error(codes.Code, \"text\")", name)
	}
	text, err := strconv.Unquote(literal.Value)
	if err != nil {
		t.Fatal(err)
	}
	for number := codes.OK; number <= codes.Unauthenticated; number++ {
		if number.String() == code.Sel.Name {
			return etcdError{name, number, text}
		}
	}
	t.Fatalf("%s has the unknown code %s", name, code.Sel.Name)
	return etcdError{}
}

func TestTheListOfErrorsIsEtcds(t *testing.T) {
	var want strings.Builder
	want.WriteString(listHead)
	for _, e := range etcdErrors(t) {
		want.WriteString(e.line())
	}
	if *update {
		if err := os.WriteFile(listFile, []byte(want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(listFile)
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.SplitAfter(string(got), "\n")
	for i, line := range strings.SplitAfter(want.String(), "\n") {
		if i >= len(listed) {
			t.Fatalf("the list ends before line %d, where etcd has %q", i+1, line)
		}
		if listed[i] != line {
			t.Fatalf("line %d: etcd has %q, the list %q", i+1, line, listed[i])
		}
	}
	if string(got) != want.String() {
		t.Fatal("the list has more lines than etcd has errors")
	}
}

// What the source says is what the compiled package does: the client turns the text of a row back into the error with
// the row's code, except for those that it does not know.
func TestEtcdsClientRecognisesTheErrors(t *testing.T) {
	unknown := map[string]bool{
		"InvalidClientAPIVersion": true, "WatchCanceled": true, "PermissionNotGiven": true,
		"TimeoutWaitAppliedIndex": true, "Canceled": true, "DeadlineExceeded": true,
	}
	for _, e := range etcdErrors(t) {
		recognised, ok := rpctypes.Error(status.Error(e.code, e.text)).(rpctypes.EtcdError)
		switch {
		case ok == unknown[e.name]:
			t.Errorf("%s: recognised by the client: %v", e.name, ok)
		case ok && (recognised.Code() != e.code || recognised.Error() != e.text):
			t.Errorf("%s: the client reads %s %q", e.name, recognised.Code(), recognised.Error())
		}
	}
}
