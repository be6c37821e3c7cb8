package cluster

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Process is one started program. Everything it prints goes to one log file, which later starts of the
// same name continue.
type Process struct {
	name    string
	logPath string
	cmd     *exec.Cmd
	exited  chan struct{}
}

// StartProcess starts a program, with these variables added to its environment, and returns at once. The
// program does not outlive the test process.
func StartProcess(name, logDir, binary string, args, env []string) (*Process, error) {
	logPath := filepath.Join(logDir, name+".log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	fmt.Fprintf(log, "# %s %s\n", binary, strings.Join(args, " "))

	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(environment(), env...)
	cmd.SysProcAttr = dieWithParent()
	p := &Process{name: name, logPath: logPath, cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// environment is this process's own without what stores would take for their configuration.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "ORLOP_") || strings.HasPrefix(variable, "ETCD_")
	})
}

// run keeps the thread that started the child for as long as the child lives: the parent of dieWithParent
// is that thread, not the process.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	_ = p.cmd.Wait()
	close(p.exited)
}

// Err says how the process ended, and is nil while it runs.
func (p *Process) Err() error {
	select {
	case <-p.exited:
		return fmt.Errorf("%s (pid %d) ended: %v", p.name, p.cmd.Process.Pid, p.cmd.ProcessState)
	default:
		return nil
	}
}

// Kill ends the process as a power cut would, and returns when it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// Stop asks the process to end, and kills it when it has not done so within the grace time.
func (p *Process) Stop(grace time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(grace):
		p.Kill()
	}
}

// LogSize is the length of the log so far: a position for LogFrom.
func (p *Process) LogSize() (int64, error) {
	info, err := os.Stat(p.logPath)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// LogFrom returns the lines of the log from a position on.
func (p *Process) LogFrom(offset int64) ([]string, error) {
	file, err := os.Open(p.logPath)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	content, err := io.ReadAll(file)
	return strings.Split(string(content), "\n"), err
}

// logMentions reports whether the log says any of these from a position on.
func (p *Process) logMentions(offset int64, texts ...string) bool {
	lines, err := p.LogFrom(offset)
	if err != nil {
		return false
	}
	for _, line := range lines {
		for _, text := range texts {
			if strings.Contains(line, text) {
				return true
			}
		}
	}
	return false
}

// tail returns about the last size bytes of a file, from the start of a line.
func tail(path string, size int64) string {
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err.Error()
	}
	start := max(0, info.Size()-size)
	content := make([]byte, info.Size()-start)
	n, _ := file.ReadAt(content, start)
	content = content[:n]
	if cut := bytes.IndexByte(content, '\n'); start > 0 && cut >= 0 {
		content = content[cut+1:]
	}
	return string(content)
}
