package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// tikv is the TiKV cluster that the servers of a fleet share: the one for tests, in memory. With ORLOP_TEST_PD
// it is a real one, of which only the address is known.
type tikv struct {
	binary  string
	logDir  string
	pd      string
	process *Process
}

// start returns when PD's address is known.
func (t *tikv) start(ctx context.Context) error {
	if t.pd = os.Getenv("ORLOP_TEST_PD"); t.pd != "" {
		return nil
	}
	const name = "tikv"
	logPath := filepath.Join(t.logDir, name+".log")
	var err error
	if t.process, err = StartProcess(name, t.logDir, t.binary, nil, nil); err != nil {
		return err
	}
	return Poll(ctx, "TiKV says where it is", t.process.Err, func(context.Context) error {
		content, err := os.ReadFile(logPath)
		if err != nil {
			return err
		}
		for line := range strings.SplitSeq(string(content), "\n") {
			var addresses struct{ PD string }
			if json.Unmarshal([]byte(line), &addresses) == nil && addresses.PD != "" {
				t.pd = addresses.PD
				return nil
			}
		}
		return errors.New("it has not printed an address")
	})
}

// get returns what a page says.
func get(ctx context.Context, client *http.Client, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET %s: %s", url, response.Status)
	}
	content, err := io.ReadAll(response.Body)
	return string(content), err
}
