package badinput

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	keys       = 64
	valueBytes = 16 << 10
	// Places in the data that are tried, spread over the part that was certainly written.
	places = 12
)

func valueOf(i int) string {
	return strings.Repeat(fmt.Sprintf("value %d ", i), valueBytes/8)
}

// A byte that is not what was written is never served: either the start fails and names the file, or the read of that
// one key fails and says that it is damaged, and every other key has its value.
func TestAFlippedByteIsNamedAndNeverServed(t *testing.T) {
	s := start(t)
	for i := range keys {
		s.mustPut(fmt.Sprintf("key%02d", i), valueOf(i))
	}
	s.Stop()
	file, size := largest(t, s.DataDir)
	// What is behind the data may be space that is only set aside.
	written := min(size, keys*valueBytes)
	for place := range places {
		offset := int64(64) + int64(place)*(written-64)/places
		t.Run(fmt.Sprintf("%s at %d", filepath.Base(file), offset), func(t *testing.T) {
			flip(t, file, offset)
			defer flip(t, file, offset)
			s.with(t).requireDamageNamed(file)
		})
	}
	s.Restart()
	for i := range keys {
		s.mustHave(fmt.Sprintf("key%02d", i), valueOf(i))
	}
}

func (s *store) requireDamageNamed(file string) {
	s.t.Helper()
	if end := s.TryRestart(); end != nil {
		requireRefused(s.t, *end, exitFailed, "the data file "+file+" is damaged at offset", "restore the directory from a backup")
		return
	}
	defer s.Kill9()
	damaged := 0
	for i := range keys {
		key := fmt.Sprintf("key%02d", i)
		got, err := s.get(key)
		switch {
		case err == nil && got == valueOf(i):
		case status.Code(err) == codes.DataLoss:
			damaged++
			if message := status.Convert(err).Message(); !strings.Contains(message, key) {
				s.t.Errorf("the error does not name the key %s: %s", key, message)
			}
		default:
			s.t.Fatalf("%s: neither its value nor a clear error: %.60q %v", key, got, err)
		}
	}
	if damaged != 1 {
		s.t.Fatalf("%d damaged keys were reported after one byte was flipped", damaged)
	}
}

func flip(t *testing.T, path string, offset int64) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	one := make([]byte, 1)
	if _, err := file.ReadAt(one, offset); err != nil {
		t.Fatal(err)
	}
	one[0] ^= 0x10
	if _, err := file.WriteAt(one, offset); err != nil {
		t.Fatal(err)
	}
}

// largest returns the file of a data directory that holds the data.
func largest(t *testing.T, dir string) (string, int64) {
	t.Helper()
	var path string
	var size int64
	err := filepath.WalkDir(dir, func(candidate string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(candidate, ".seg") {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Size() > size {
			path, size = candidate, info.Size()
		}
		return err
	})
	if err != nil || path == "" {
		t.Fatalf("no segment file in %s: %v", dir, err)
	}
	return path, size
}

// A file cut short is damage too, unless what is missing was never acknowledged.
func TestAMissingDataFileIsNamed(t *testing.T) {
	s := start(t)
	s.mustPut("a", "1")
	s.Stop()
	file, _ := largest(t, s.DataDir)
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	requireRefused(t, serve(t, s.DataDir), exitFailed, filepath.Dir(file))
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	s.mustHave("a", "1")
}
