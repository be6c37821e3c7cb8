package powerfs

import (
	"maps"
	"slices"
)

const (
	// SectorBytes is what a disk writes as a whole or not at all.
	SectorBytes = 512
	pageBytes   = 4096
	// Versions of a page between its durable and its present one that a power cut may choose from. More would be more
	// memory and no other kind of outcome.
	versionsMax = 4
)

// A page is never changed once it is in a map: each write makes a new one. So states can share them.
type page = *[pageBytes]byte

var zeroPage [pageBytes]byte

// file is the content of a file. A page that is missing is zeros.
type file struct {
	now, durable          map[int64]page
	length, durableLength int64
	// Space that is taken beyond the length.
	allocated int64
	// The pages that were written since the last fsync, with earlier versions that may have reached the disk.
	dirty map[int64][]page
	// Those that a failed fsync gave up: no later fsync writes them unless they are written to again.
	lost map[int64][]page
	// The lengths that the file had since the last fsync.
	lengths []int64
}

func newFile() *file {
	return &file{now: map[int64]page{}, durable: map[int64]page{}, dirty: map[int64][]page{}, lost: map[int64][]page{}}
}

// durableFile is a file of which everything is durable.
func durableFile(pages map[int64]page, length, allocated int64) *file {
	f := newFile()
	f.now, f.durable = pages, maps.Clone(pages)
	f.length, f.durableLength, f.allocated = length, length, allocated
	return f
}

func (f *file) size() int64 { return max(f.length, f.allocated) }

func (f *file) readAt(buffer []byte, offset int64) int {
	if offset >= f.length {
		return 0
	}
	buffer = buffer[:min(int64(len(buffer)), f.length-offset)]
	for done := 0; done < len(buffer); {
		at := offset + int64(done)
		source := f.now[at/pageBytes]
		if source == nil {
			source = &zeroPage
		}
		done += copy(buffer[done:], source[at%pageBytes:])
	}
	return len(buffer)
}

func (f *file) writeAt(data []byte, offset int64) {
	for done := 0; done < len(data); {
		at := offset + int64(done)
		fresh := new([pageBytes]byte)
		if old := f.now[at/pageBytes]; old != nil {
			*fresh = *old
		}
		done += copy(fresh[at%pageBytes:], data[done:])
		f.replace(at/pageBytes, fresh)
	}
	if end := offset + int64(len(data)); end > f.length {
		f.setLength(end)
	}
}

// replace gives a page a new version; nil is a hole.
func (f *file) replace(number int64, fresh page) {
	versions, known := f.dirty[number]
	if !known {
		versions = f.lost[number]
		delete(f.lost, number)
	}
	if old := f.now[number]; old != f.durable[number] {
		versions = append(slices.Clone(versions), old)
		versions = versions[max(0, len(versions)-versionsMax):]
	}
	f.dirty[number] = versions
	if fresh == nil {
		delete(f.now, number)
	} else {
		f.now[number] = fresh
	}
}

func (f *file) setLength(length int64) {
	f.length = length
	if len(f.lengths) == 0 || f.lengths[len(f.lengths)-1] != length {
		f.lengths = append(f.lengths, length)
	}
}

func (f *file) truncate(length int64) {
	if length < f.length {
		for number := range maps.Clone(f.now) {
			if number*pageBytes >= length {
				f.replace(number, nil)
			}
		}
		if last := f.now[length/pageBytes]; last != nil {
			fresh := *last
			clear(fresh[length%pageBytes:])
			f.replace(length/pageBytes, &fresh)
		}
		f.allocated = min(f.allocated, length)
	}
	if length != f.length {
		f.setLength(length)
	}
}

func (f *file) allocate(end int64, keepSize bool) {
	f.allocated = max(f.allocated, end)
	if !keepSize && end > f.length {
		f.setLength(end)
	}
}

func (f *file) fsync() {
	for number := range f.dirty {
		if now := f.now[number]; now != nil {
			f.durable[number] = now
		} else {
			delete(f.durable, number)
		}
	}
	clear(f.dirty)
	f.durableLength, f.lengths = f.length, nil
}

// failFsync gives up what was to be written, as Linux does after an error of the disk.
func (f *file) failFsync() {
	for number, versions := range f.dirty {
		f.lost[number] = versions
	}
	clear(f.dirty)
}

// isDurable says whether a power cut cannot change the file.
func (f *file) isDurable() bool {
	return len(f.dirty) == 0 && len(f.lost) == 0 && f.length == f.durableLength
}
