package cluster

import (
	"context"
	"fmt"
	"time"
)

// Patience is how long a condition may take on the slowest machine. It bounds a hang; a healthy run never
// comes near it.
const Patience = 3 * time.Minute

const pollInterval = 100 * time.Millisecond

// Poll calls check until it returns nil, and gives up after Patience or when halted says that waiting is
// pointless. The error names what was awaited and what check said last.
func Poll(ctx context.Context, what string, halted func() error, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var last error
	for {
		if err := halted(); err != nil {
			return fmt.Errorf("while waiting until %s: %w", what, err)
		}
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("gave up waiting until %s: %w", what, last)
		case <-ticker.C:
		}
	}
}
