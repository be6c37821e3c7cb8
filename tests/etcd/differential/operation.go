package differential

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Kind is what an operation does: a method of the API, a step on a watch stream, or something done to both processes.
type Kind string

// What is not in the table of methods.
const (
	WatchCreate   Kind = "WatchCreate"
	WatchCancel   Kind = "WatchCancel"
	WatchProgress Kind = "WatchProgress"
	WatchClose    Kind = "WatchClose"
	Kill          Kind = "Kill" // SIGKILL and a new start
	Stop          Kind = "Stop" // SIGTERM and a new start
)

// Operation is one step of a stream: data, so that a stream can be stored, replayed, made smaller and printed.
type Operation struct {
	Kind Kind
	// Request is what is sent; nil for what sends nothing. Ids of leases from firstChosenLease on are names: see leaseNames.
	Request proto.Message
	// Stream is the number of the watch stream, for the kinds that have one.
	Stream int
	// KeyBytes and ValueBytes give a put a key or value of so many bytes, which nobody wants to read in full.
	KeyBytes, ValueBytes int
}

type operationJSON struct {
	Kind       Kind            `json:"kind"`
	Stream     int             `json:"stream,omitempty"`
	KeyBytes   int             `json:"keyBytes,omitempty"`
	ValueBytes int             `json:"valueBytes,omitempty"`
	Request    json.RawMessage `json:"request,omitempty"`
}

// MarshalJSON writes the request in protobuf's JSON.
func (op Operation) MarshalJSON() ([]byte, error) {
	form := operationJSON{Kind: op.Kind, Stream: op.Stream, KeyBytes: op.KeyBytes, ValueBytes: op.ValueBytes}
	if op.Request != nil {
		request, err := protojson.Marshal(op.Request)
		if err != nil {
			return nil, err
		}
		form.Request = request
	}
	return json.Marshal(form)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (op *Operation) UnmarshalJSON(text []byte) error {
	var form operationJSON
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&form); err != nil {
		return err
	}
	*op = Operation{Kind: form.Kind, Stream: form.Stream, KeyBytes: form.KeyBytes, ValueBytes: form.ValueBytes}
	empty, ok := emptyRequest(form.Kind)
	if !ok {
		return fmt.Errorf("there is no operation %q", form.Kind)
	}
	if empty == nil {
		return nil
	}
	op.Request = empty
	if len(form.Request) == 0 {
		return nil
	}
	return protojson.Unmarshal(form.Request, op.Request)
}

func (op Operation) clone() Operation {
	if op.Request != nil {
		op.Request = proto.Clone(op.Request)
	}
	return op
}

// String is short: for log lines, not for replaying.
func (op Operation) String() string {
	text := string(op.Kind)
	if op.isOfStream() {
		text += fmt.Sprintf(" on stream %d", op.Stream)
	}
	if op.KeyBytes > 0 {
		text += fmt.Sprintf(" of a key of %d bytes", op.KeyBytes)
	}
	if op.ValueBytes > 0 {
		text += fmt.Sprintf(" of %d bytes", op.ValueBytes)
	}
	if op.Request != nil {
		text += fmt.Sprintf(" {%.300s}", strings.TrimSpace(fmt.Sprint(op.Request)))
	}
	return text
}

func (op Operation) isOfStream() bool {
	return op.Kind == WatchCreate || op.Kind == WatchCancel || op.Kind == WatchProgress || op.Kind == WatchClose
}

// visitInt64s shows every signed number that is set in a message, with the name of its field, and stores what comes back.
func visitInt64s(message protoreflect.Message, visit func(name string, value int64) int64) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				visitInt64s(value.List().Get(i).Message(), visit)
			}
		case field.Message() != nil && !field.IsMap():
			visitInt64s(value.Message(), visit)
		case field.Kind() == protoreflect.Int64Kind && !field.IsList():
			if after := visit(string(field.Name()), value.Int()); after != value.Int() {
				message.Set(field, protoreflect.ValueOfInt64(after))
			}
		}
		return true
	})
}

// mapRevisions changes every revision that an operation asks for.
func mapRevisions(op Operation, change func(int64) int64) Operation {
	if op.Request == nil {
		return op
	}
	op = op.clone()
	visitInt64s(op.Request.ProtoReflect(), func(name string, value int64) int64 {
		if strings.HasSuffix(name, "revision") && value > 0 {
			return change(value)
		}
		return value
	})
	return op
}
