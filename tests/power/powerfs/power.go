package powerfs

import "syscall"

// FreezeAfter cuts the power after this many more operations that change something.
func (d *Disk) FreezeAfter(changes uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.hasCut = changes, true
}

// KeepPower takes back the order to cut the power, and says whether it came in time.
func (d *Disk) KeepPower() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hasCut = false
	return !d.isFrozen
}

// Freeze is the moment at which the power goes: no operation is carried out any more. Those that come wait for Release.
func (d *Disk) Freeze() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.freeze()
}

func (d *Disk) freeze() {
	if !d.isFrozen {
		d.isFrozen = true
		close(d.frozen)
	}
}

// Frozen is closed when the power is cut.
func (d *Disk) Frozen() <-chan struct{} { return d.frozen }

// Release answers all that wait, and all that come, with an error. Whoever must not see that is to be killed before.
func (d *Disk) Release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.freeze()
	select {
	case <-d.released:
	default:
		close(d.released)
	}
}

// begin lets an operation begin, with the disk locked; after an error it is not.
func (d *Disk) begin(op Op) syscall.Errno {
	d.mu.Lock()
	if d.hasCut && op.changes() {
		if d.left == 0 {
			d.freeze()
		} else {
			d.left--
		}
	}
	if d.isFrozen {
		d.mu.Unlock()
		<-d.released
		return syscall.EIO
	}
	d.counts[op]++
	if op.changes() {
		d.changed++
	}
	return 0
}
