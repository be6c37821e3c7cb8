package server

import (
	"sync"
	"time"
)

// logicalMax is how many timestamps PD gives out within a millisecond.
const logicalMax = 1 << 18

// clock gives out PD's timestamps: each above all before it.
type clock struct {
	mu                sync.Mutex
	physical, logical int64
	// ahead of the wall clock, in milliseconds, so that a test need not wait for what depends on time.
	ahead int64
}

// take gives out n timestamps that follow one another, and returns the last.
func (c *clock) take(n int64) (physical, logical int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now().UnixMilli() + c.ahead
	switch {
	case now > c.physical:
		c.physical, c.logical = now, 0
	case c.logical+n >= logicalMax:
		c.physical, c.logical = c.physical+1, 0
	}
	c.logical += n
	return c.physical, c.logical
}

// advance moves the clock on.
func (c *clock) advance(milliseconds int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += milliseconds
}

// seconds is PD's own time, by which service safe points expire.
func (c *clock) seconds() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return (time.Now().UnixMilli() + c.ahead) / 1000
}
