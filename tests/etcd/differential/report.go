package differential

import (
	"encoding/json"
	"fmt"
	"strings"
)

// replayVariable names a file with a stream to run.
const replayVariable = "ORLOP_TEST_REPLAY"

// The most of an answer that a report shows.
const answerBytesMax = 4000

// Report is what a person needs who looks into a difference: the stream as JSON, which ORLOP_TEST_REPLAY runs again, the
// same as a script for etcdctl, and both answers.
func Report(ops []Operation, found *Difference) string {
	var text strings.Builder
	fmt.Fprintf(&text, "Orlop and etcd differ in %s of operation %d:\n  %s\n", found.What, found.Index, found.Op)
	fmt.Fprintf(&text, "etcd:\n%s\norlop:\n%s\n", shorten(found.Etcd), shorten(found.Orlop))
	fmt.Fprintf(&text, "\nThe stream, %d operations. Put it into a file and name it in %s to run it again:\n", len(ops), replayVariable)
	text.WriteString(EncodeStream(ops))
	text.WriteString("\nThe same with etcdctl, as far as it can say it:\n")
	text.WriteString(Script(ops))
	return text.String()
}

func shorten(text string) string {
	if len(text) > answerBytesMax {
		return fmt.Sprintf("%s… (%d bytes)", text[:answerBytesMax], len(text))
	}
	return text
}

// EncodeStream writes a stream as JSON, an operation a line.
func EncodeStream(ops []Operation) string {
	var text strings.Builder
	text.WriteString("[\n")
	for i, op := range ops {
		line, err := json.Marshal(op)
		if err != nil {
			line = fmt.Appendf(nil, "%q", err.Error())
		}
		text.WriteString("  " + string(line))
		if i+1 < len(ops) {
			text.WriteString(",")
		}
		text.WriteString("\n")
	}
	text.WriteString("]\n")
	return text.String()
}

// DecodeStream reads what EncodeStream wrote.
func DecodeStream(text []byte) ([]Operation, error) {
	var ops []Operation
	err := json.Unmarshal(text, &ops)
	return ops, err
}
