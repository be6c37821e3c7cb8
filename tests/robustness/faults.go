package robustness

import (
	"syscall"
	"time"
)

const (
	// A lease that is due has its turn within this time.
	expiryLag = 500 * time.Millisecond
	// A start takes about this long, so that some of the kills hit each part of it.
	startTime = 60 * time.Millisecond
	// Restarts on an engine that fails may fail themselves, but not this often.
	startAttempts = 50
)

// between returns a time that the seed chooses.
func (r *run) between(low, high time.Duration) time.Duration {
	return low + time.Duration(r.random.Int63n(int64(high-low)))
}

// kill ends the process as a crash does and starts it again.
func (r *run) kill() {
	r.Helper()
	r.server.process.Lock()
	defer r.server.process.Unlock()
	if err := r.server.TrySignal(syscall.SIGKILL); err != nil && !r.scenario.mayEnd {
		r.Fatalf("the process has ended by itself: %v", err)
	}
	r.server.AwaitExit()
	r.startAgain()
}

// restartIfEnded starts a process again that stopped itself, as its supervisor would.
func (r *run) restartIfEnded() {
	r.Helper()
	r.server.process.Lock()
	defer r.server.process.Unlock()
	if r.server.Running() {
		return
	}
	if !r.scenario.mayEnd {
		r.Fatal("the process has ended by itself")
	}
	r.startAgain()
}

func (r *run) startAgain() {
	r.Helper()
	for range startAttempts {
		end := r.server.TryRestart()
		if end == nil {
			return
		}
		if !r.scenario.mayEnd {
			r.Fatalf("the process cannot be started again: %s", end.Stderr)
		}
	}
	r.Fatalf("the process could not be started in %d attempts", startAttempts)
}

// killNowAndThen gives the store time to work in between.
func killNowAndThen(r *run) bool {
	r.pause(r.between(200*time.Millisecond, time.Second))
	r.kill()
	return true
}

// killAgainAndAgain leaves the store a moment at most.
func killAgainAndAgain(r *run) bool {
	r.pause(r.between(0, 150*time.Millisecond))
	r.kill()
	return true
}

// killWhileItCompacts waits for a compaction and kills within or shortly after it.
func killWhileItCompacts(r *run) bool {
	select {
	case <-r.compacting:
	case <-time.After(2 * compactPeriod):
		return false
	}
	r.pause(r.between(0, 20*time.Millisecond))
	r.kill()
	return true
}

// killWhileLeasesExpire waits until a lease is due and kills around the time at which its key goes.
func killWhileLeasesExpire(r *run) bool {
	select {
	case <-r.expiring:
	case <-time.After(2 * leaseTTL * time.Second):
		return false
	}
	r.pause(r.between(0, expiryLag))
	r.kill()
	// Every start gives leases their whole time again: some must come to their end.
	r.pause(leaseTTL*time.Second + expiryLag)
	return true
}

// killWhileItStarts kills a process again before it serves, several times.
func killWhileItStarts(r *run) bool {
	r.pause(r.between(200*time.Millisecond, 600*time.Millisecond))
	r.server.process.Lock()
	defer r.server.process.Unlock()
	r.server.Kill9()
	for range 4 {
		r.server.Spawn()
		r.pause(r.between(0, startTime))
		if !r.server.Running() {
			r.Fatalf("the process ended by itself while it started: %s", r.server.Log())
		}
		r.server.Kill9()
	}
	r.startAgain()
	return true
}

// pauseLongerThanLeases stops the process for longer than any lease lives, and lets it go on.
func pauseLongerThanLeases(r *run) bool {
	r.pause(r.between(300*time.Millisecond, time.Second))
	r.server.process.Lock()
	defer r.server.process.Unlock()
	r.server.Signal(syscall.SIGSTOP)
	r.pause(leaseTTL*time.Second + 500*time.Millisecond)
	r.server.Signal(syscall.SIGCONT)
	return true
}

// wait lets a fault work that is there all the time, and kills the process now and then.
func wait(r *run) bool {
	r.pause(r.between(500*time.Millisecond, time.Second))
	if r.random.Intn(3) == 0 {
		r.kill()
	}
	return true
}
