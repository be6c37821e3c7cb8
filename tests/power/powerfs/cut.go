package powerfs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
)

// Fate is what a power cut does with what was not durable.
type Fate int

const (
	// Lost: nothing of it is there.
	Lost Fate = iota
	// Kept: all of it is there, as after a kill.
	Kept
	// Torn: of the sectors that were written each is old or new or was so in between, in any order; the names of a
	// directory are those after some of the operations, in their order.
	Torn
	// Garbled: as Torn, but some sectors hold garbage where they were being written, and of the names each made it or
	// not, in any order, so that a rename may have lost both names or left both.
	Garbled
	// Fates is how many there are.
	Fates = iota
)

func (f Fate) String() string {
	return [...]string{"lost", "kept", "torn", "garbled"}[f]
}

// AnyFate draws one.
func AnyFate(random *rand.Rand) Fate {
	return Fate(random.IntN(Fates))
}

// Cut cuts the power, and returns the disk that the next life finds. This one stays frozen. What is decided for one file
// does not depend on the others, so that the same disk, fate and seed give the same result.
func (d *Disk) Cut(fate Fate, seed uint64) *Disk {
	d.Freeze()
	return d.after(fate, seed)
}

// Copy returns an independent disk on which everything that processes see now is durable.
func (d *Disk) Copy() *Disk {
	return d.after(Kept, 0)
}

func (d *Disk) after(fate Fate, seed uint64) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := New()
	next.capacity = d.capacity
	cutter := &cutter{fate: fate, seed: seed, next: next, done: map[*inode]*inode{d.root: next.root}}
	cutter.dir(d.root, next.root)
	return next
}

type cutter struct {
	fate Fate
	seed uint64
	next *Disk
	done map[*inode]*inode
}

func (c *cutter) random(node uint64) *rand.Rand {
	return rand.New(rand.NewPCG(c.seed, node))
}

func (c *cutter) dir(was, is *inode) {
	names := was.dir.after(c.fate, c.random(was.number))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		is.dir.now[name] = c.inode(name, names[name])
	}
	is.dir.fsync()
}

func (c *cutter) inode(name string, was *inode) *inode {
	if is := c.done[was]; is != nil {
		return is
	}
	var content *file
	if was.file != nil {
		content = was.file.after(c.fate, c.random(was.number))
	}
	is := c.next.inode(name, was.mode, content)
	c.done[was] = is
	if was.dir != nil {
		c.dir(was, is)
	}
	return is
}

// after returns the names that are left.
func (d *dir) after(fate Fate, random *rand.Rand) map[string]*inode {
	switch fate {
	case Lost:
		return d.durable
	case Kept:
		return d.now
	}
	names := maps.Clone(d.durable)
	put := func(name string, to *inode) {
		if to == nil {
			delete(names, name)
		} else {
			names[name] = to
		}
	}
	if fate == Torn {
		for _, change := range d.log[:random.IntN(len(d.log)+1)] {
			for name, to := range change {
				put(name, to)
			}
		}
		return names
	}
	touched := map[string]bool{}
	for _, change := range d.log {
		for name := range change {
			touched[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(touched)) {
		if random.IntN(2) == 0 {
			put(name, d.now[name])
		}
	}
	return names
}

// after returns the content that is left.
func (f *file) after(fate Fate, random *rand.Rand) *file {
	switch {
	case fate == Lost || f.isDurable():
		return durableFile(maps.Clone(f.durable), f.durableLength, max(f.allocated, f.durableLength))
	case fate == Kept:
		return durableFile(maps.Clone(f.now), f.length, f.allocated)
	}
	length := f.durableLength
	if len(f.lengths) > 0 && random.IntN(2) == 0 {
		length = f.lengths[random.IntN(len(f.lengths))]
		if grown := length - f.durableLength; grown > 0 && random.IntN(2) == 0 {
			length = f.durableLength + random.Int64N(grown+1)
		}
	}
	pages := maps.Clone(f.durable)
	touched := maps.Clone(f.lost)
	maps.Copy(touched, f.dirty)
	for _, number := range slices.Sorted(maps.Keys(touched)) {
		versions := append([]page{f.durable[number]}, touched[number]...)
		pages[number] = tear(append(versions, f.now[number]), fate, random)
	}
	cutTo(pages, length)
	return durableFile(pages, length, max(f.allocated, length))
}

// tear makes a page of which each sector is that of one of the versions, of which the first is durable.
func tear(versions []page, fate Fate, random *rand.Rand) page {
	for i, version := range versions {
		if version == nil {
			versions[i] = &zeroPage
		}
	}
	old, now := versions[0], versions[len(versions)-1]
	fresh := new([pageBytes]byte)
	for start := 0; start < pageBytes; start += SectorBytes {
		end := start + SectorBytes
		copy(fresh[start:end], versions[random.IntN(len(versions))][start:end])
		if fate != Garbled || random.IntN(8) > 0 {
			continue
		}
		// Only what was being written: a disk does not harm bytes that it was told to write as they were.
		for at := start; at < end; at++ {
			if old[at] != now[at] {
				fresh[at] = byte(random.Uint32())
			}
		}
	}
	return fresh
}

// cutTo drops what lies behind the end of a file.
func cutTo(pages map[int64]page, length int64) {
	for number := range maps.Clone(pages) {
		if number*pageBytes >= length {
			delete(pages, number)
		}
	}
	if last := pages[length/pageBytes]; last != nil {
		fresh := *last
		clear(fresh[length%pageBytes:])
		pages[length/pageBytes] = &fresh
	}
}

// Describe tells what is on the disk, for the message of a failed test.
func (d *Disk) Describe() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var lines []string
	d.walk(func(path string, node *inode) {
		if node.file != nil {
			lines = append(lines, fmt.Sprintf("%s %d bytes (%d durable)\n", path, node.file.length, node.file.durableLength))
		}
	})
	slices.Sort(lines)
	return fmt.Sprint(lines)
}
