package robustness

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/anishathalye/porcupine"
	"go.uber.org/zap"

	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.etcd.io/etcd/tests/v3/robustness/validate"
)

// targetVariable names the environment variable that holds the directory for what builds and tests leave behind.
const targetVariable = "ORLOP_TARGET_DIR"

// kept is what there is to look at after a failure.
type kept struct {
	reports []report.ClientReport
	result  *validate.RobustnessResult
	judged  string
	err     error
}

// keep writes everything about a failure to a directory, and returns the failure with its name.
func (r *run) keep(k kept) error {
	target := os.Getenv(targetVariable)
	if target == "" {
		target = os.TempDir()
	}
	dir := filepath.Join(target, "robustness", fmt.Sprintf("%s-%d", filepath.Base(r.Name()), r.seed))
	if err := r.write(dir, k); err != nil {
		r.Logf("the report could not be kept: %v", err)
	}
	return &finding{error: k.err, seed: r.seed, dir: dir}
}

// finding is what is wrong with a history, and where everything about it is kept.
type finding struct {
	error
	seed int64
	dir  string
}

func (f *finding) Error() string {
	return fmt.Sprintf("%v\nseed %d; history, log and data are kept in %s", f.error, f.seed, f.dir)
}

func (r *run) write(dir string, k kept) error {
	r.server.process.Lock()
	defer r.server.process.Unlock()
	data := map[string]string{"orlop": r.server.DataDir}
	kept, err := report.NewTestReport(zap.NewNop(), dir, data, &report.TrafficDetail{})
	if err != nil {
		return err
	}
	kept.SetClientReports(k.reports)
	if err := kept.SaveEtcdData(); err != nil {
		return err
	}
	// The printed log has only what compaction has left; this one has everything that was ever seen.
	all, err := json.Marshal(r.server.log)
	if err != nil {
		return err
	}
	files := map[string]string{
		"log.json":     string(all),
		"failure.txt":  k.err.Error(),
		"judged.jsonl": k.judged,
		"log.jsonl":    string(r.server.printed),
		"orlop.log":    r.server.Log(),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if k.result == nil || k.result.Linearization.Status != validate.Failure {
		return nil
	}
	return porcupine.VisualizePath(k.result.Linearization.Model, k.result.Linearization.Info, filepath.Join(dir, "history.html"))
}
