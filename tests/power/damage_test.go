package power

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orlop/orlop/tests/harness"
	"github.com/orlop/orlop/tests/power/powerfs"
)

// damagesPerRun are tried in a plain run, of each kind.
const damagesPerRun = 8

// A byte that changed by itself, or a sector that the disk lost, is never served, wherever it is, in what several
// segments hold: the start fails and names the file, or a read of it fails and says so, or all is as it was written, as
// nothing needs that place any more.
func TestDamageIsNamedAndNeverServed(t *testing.T) {
	m := newMachine(t, harness.NewOrlop)
	m.mustBoot()
	m.check()
	load := m.load(func(l *load) { l.isLarge = true })
	eventually(t, "several segments are full", func() bool { return len(m.segments(m.disk)) >= 3 })
	load.end()
	m.check()
	m.store.Stop()
	base, notes := m.disk.Copy(), m.ledger
	segments := m.segments(base)
	found := map[string]int{}
	for kind, change := range map[string]func([]byte){
		"a flipped bit":   func(part []byte) { part[0] ^= 1 << (m.random.IntN(8)) },
		"a zeroed sector": func(part []byte) { clear(part) },
	} {
		for i := range damagesPerRun * rounds(t) {
			m.kill()
			disk := base.Copy()
			name := segments[i%len(segments)]
			length := disk.Files()[name]
			if name == segments[len(segments)-1] {
				// Behind its first pages may be space that is only set aside.
				length = 8 * powerfs.SectorBytes
			}
			offset := m.random.Int64N(length/powerfs.SectorBytes) * powerfs.SectorBytes
			if err := disk.Damage(name, offset, powerfs.SectorBytes, change); err != nil {
				t.Fatal(err)
			}
			m.replaceDisk(disk)
			m.ledger = notes.Copy()
			outcome := m.meetDamage(name)
			found[outcome]++
			t.Logf("%s in %s at %d: %s", kind, name, offset, outcome)
		}
	}
	if found["refused"] == 0 || found["told"] == 0 {
		t.Fatalf("damage was to be met both at the start and by a read: %v", found)
	}
}

// segments returns the names of the files that hold data.
func (m *machine) segments(disk *powerfs.Disk) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(disk.Files())), func(name string) bool { return !strings.HasSuffix(name, ".seg") })
}

// meetDamage starts the store on a damaged file and reads everything. It says how it met the damage.
func (m *machine) meetDamage(name string) string {
	m.Helper()
	before := len(m.logSoFar())
	if _, ended := m.tryBoot(); ended {
		if said := m.logSoFar()[before:]; !strings.Contains(said, name+" is damaged at offset") {
			m.Fatalf("a store with damage in %s does not start and does not say why:\n%s", name, said)
		}
		return "refused"
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	c := m.connect()
	defer c.close()
	seen, err := c.observe(ctx, m.ledger)
	if err != nil {
		if !strings.Contains(err.Error(), "corrupt") || status.Code(err) != codes.DataLoss {
			m.Fatalf("damage in %s is told as %v", name, err)
		}
		return "told"
	}
	if problems := m.ledger.Judge(seen); len(problems) > 0 {
		m.Fatalf("damage in %s was served: %v", name, problems)
	}
	return "not needed any more"
}
