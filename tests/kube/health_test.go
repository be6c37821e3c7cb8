package kube_test

import (
	"context"
	"fmt"
	"strings"
)

// readinessChecksAllPass: the apiserver's own view of its store, as an operator asks for it.
func readinessChecksAllPass(s *suite) {
	for _, path := range []string{"/readyz?verbose", "/livez?verbose"} {
		s.eventually("every check of "+path+" passes", func(ctx context.Context) error {
			out, err := s.Kubectl(ctx, "", "get", "--raw", path)
			if err != nil {
				return err
			}
			return allChecksPass(out)
		})
	}
	version := s.kubectl("", "version", "--output=json")
	if count := strings.Count(version, `"gitVersion": "v1.37.2"`); count != 2 {
		s.Errorf("client and server should both be v1.37.2: %s", version)
	}
}

func allChecksPass(out string) error {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	verdict := lines[len(lines)-1]
	if !strings.HasSuffix(verdict, "check passed") || len(lines) < 2 {
		return fmt.Errorf("unexpected verdict: %s", out)
	}
	for _, line := range lines[:len(lines)-1] {
		if !strings.HasPrefix(line, "[+]") {
			return fmt.Errorf("check failed: %s", line)
		}
	}
	return nil
}
