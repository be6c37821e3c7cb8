// Package proto compares this project's wire contract with what etcd's own Go modules are compiled with.
package proto

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// etcdFiles are the files that a client can name. etcd's etcdserverpb has two more (its Raft log's records), which
// never cross the client port.
var etcdFiles = []protoreflect.FileDescriptor{
	etcdserverpb.File_rpc_proto,
	mvccpb.File_kv_proto,
	authpb.File_auth_proto,
}

// facts maps the full name of everything that a file declares to a line that says all that decides its wire format.
type facts map[protoreflect.FullName]string

func (f facts) file(d protoreflect.FileDescriptor) {
	f.enums(d.Enums())
	f.messages(d.Messages())
	for i := range d.Services().Len() {
		service := d.Services().Get(i)
		f[service.FullName()] = "service"
		for j := range service.Methods().Len() {
			m := service.Methods().Get(j)
			f[m.FullName()] = fmt.Sprintf("method (%s%s) returns (%s%s)", stream(m.IsStreamingClient()),
				m.Input().FullName(), stream(m.IsStreamingServer()), m.Output().FullName())
		}
	}
}

func (f facts) messages(all protoreflect.MessageDescriptors) {
	for i := range all.Len() {
		message := all.Get(i)
		f[message.FullName()] = fmt.Sprintf("message of %s, reserved %v %v", message.ParentFile().Syntax(),
			message.ReservedNames(), message.ReservedRanges())
		f.enums(message.Enums())
		f.messages(message.Messages())
		for j := range message.Oneofs().Len() {
			oneof := message.Oneofs().Get(j)
			f[oneof.FullName()] = fmt.Sprintf("oneof of %d fields", oneof.Fields().Len())
		}
		for j := range message.Fields().Len() {
			field := message.Fields().Get(j)
			f[field.FullName()] = describe(field)
		}
	}
}

func (f facts) enums(all protoreflect.EnumDescriptors) {
	for i := range all.Len() {
		enum := all.Get(i)
		f[enum.FullName()] = "enum"
		for j := range enum.Values().Len() {
			value := enum.Values().Get(j)
			// Values live in the scope around their enum; naming the enum tells equal names in two enums apart.
			f[enum.FullName().Append(value.Name())] = fmt.Sprintf("value %d", value.Number())
		}
	}
}

func describe(field protoreflect.FieldDescriptor) string {
	parts := []string{fmt.Sprintf("field %d: %s %s", field.Number(), field.Cardinality(), field.Kind())}
	if field.Message() != nil {
		parts = append(parts, string(field.Message().FullName()))
	}
	if field.Enum() != nil {
		parts = append(parts, string(field.Enum().FullName()))
	}
	if field.ContainingOneof() != nil {
		parts = append(parts, "in "+string(field.ContainingOneof().Name()))
	}
	if field.HasPresence() {
		parts = append(parts, "with presence")
	}
	if field.IsPacked() {
		parts = append(parts, "packed")
	}
	return strings.Join(parts, " ")
}

func stream(streaming bool) string {
	if streaming {
		return "stream "
	}
	return ""
}

// compare lists, sorted by name, what is missing in ours, what is too much, and what differs.
func compare(etcd, ours facts) []string {
	var differences []string
	for name, want := range etcd {
		if got, ok := ours[name]; !ok {
			differences = append(differences, fmt.Sprintf("%s: missing, etcd has: %s", name, want))
		} else if got != want {
			differences = append(differences, fmt.Sprintf("%s: etcd has: %s; ours: %s", name, want, got))
		}
	}
	for name, got := range ours {
		if _, ok := etcd[name]; !ok {
			differences = append(differences, fmt.Sprintf("%s: etcd has no such thing, ours: %s", name, got))
		}
	}
	slices.Sort(differences)
	return differences
}

func etcdFacts() facts {
	etcd := facts{}
	for _, file := range etcdFiles {
		etcd.file(file)
	}
	return etcd
}

// read returns the descriptors that ORLOP_DESCRIPTORS names; without the variable the test fails, so that a run that
// compares nothing does not pass.
func read(t *testing.T) *descriptorpb.FileDescriptorSet {
	t.Helper()
	path := os.Getenv("ORLOP_DESCRIPTORS")
	if path == "" {
		t.Fatal("ORLOP_DESCRIPTORS is not set: name in it, by an absolute path, the file that " +
			"`cargo run -p proto --example descriptors -- FILE` writes")
	}
	encoded, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("cannot read the descriptors that ORLOP_DESCRIPTORS names: %v", err)
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(encoded, set); err != nil {
		t.Fatalf("%s does not hold a FileDescriptorSet: %v", path, err)
	}
	return set
}

func factsOf(t *testing.T, set *descriptorpb.FileDescriptorSet) facts {
	t.Helper()
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatalf("the descriptors do not fit together: %v", err)
	}
	return factsIn(files)
}

func factsIn(files *protoregistry.Files) facts {
	ours := facts{}
	files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		ours.file(file)
		return true
	})
	return ours
}

func TestOurDescriptorsAreEtcds(t *testing.T) {
	etcd := etcdFacts()
	for _, difference := range compare(etcd, factsOf(t, read(t))) {
		t.Error(difference)
	}
	t.Logf("compared %d declarations", len(etcd))
}

// A comparison that cannot fail proves nothing: each kind of deviation must be found, and nothing else with it.
func TestTheComparisonFindsEveryKindOfDeviation(t *testing.T) {
	rpc := func(set *descriptorpb.FileDescriptorSet) *descriptorpb.FileDescriptorProto {
		for _, file := range set.File {
			if file.GetPackage() == "etcdserverpb" {
				return file
			}
		}
		t.Fatal("no file of package etcdserverpb")
		return nil
	}
	header := func(set *descriptorpb.FileDescriptorSet) *descriptorpb.DescriptorProto {
		for _, message := range rpc(set).MessageType {
			if message.GetName() == "ResponseHeader" {
				return message
			}
		}
		t.Fatal("no message ResponseHeader")
		return nil
	}
	cases := []struct {
		name   string
		mutate func(*descriptorpb.FileDescriptorSet)
		want   string
	}{
		{"number", func(s *descriptorpb.FileDescriptorSet) { header(s).Field[3].Number = proto.Int32(9) },
			"etcdserverpb.ResponseHeader.raft_term: etcd has: field 4"},
		{"type", func(s *descriptorpb.FileDescriptorSet) {
			header(s).Field[3].Type = descriptorpb.FieldDescriptorProto_TYPE_INT64.Enum()
		}, "etcdserverpb.ResponseHeader.raft_term: etcd has: field 4"},
		{"label", func(s *descriptorpb.FileDescriptorSet) {
			header(s).Field[3].Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		}, "etcdserverpb.ResponseHeader.raft_term: etcd has: field 4"},
		{"missing", func(s *descriptorpb.FileDescriptorSet) { header(s).Field = header(s).Field[:3] },
			"etcdserverpb.ResponseHeader.raft_term: missing"},
		{"extra", func(s *descriptorpb.FileDescriptorSet) {
			extra := proto.CloneOf(header(s).Field[0])
			extra.Name, extra.JsonName, extra.Number = proto.String("extra"), nil, proto.Int32(5)
			header(s).Field = append(header(s).Field, extra)
		}, "etcdserverpb.ResponseHeader.extra: etcd has no such thing"},
		{"enum value", func(s *descriptorpb.FileDescriptorSet) { rpc(s).EnumType[0].Value[2].Number = proto.Int32(7) },
			"etcdserverpb.AlarmType.CORRUPT: etcd has: value 2"},
		{"streaming", func(s *descriptorpb.FileDescriptorSet) {
			rpc(s).Service[0].Method[1].ServerStreaming = proto.Bool(false)
		}, "etcdserverpb.KV.RangeStream: etcd has: method"},
		{"method", func(s *descriptorpb.FileDescriptorSet) {
			rpc(s).Service[0].Method = rpc(s).Service[0].Method[:5]
		}, "etcdserverpb.KV.Compact: missing"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			set := read(t)
			c.mutate(set)
			differences := compare(etcdFacts(), factsOf(t, set))
			if len(differences) != 1 || !strings.HasPrefix(differences[0], c.want) {
				t.Errorf("want one difference that begins with %q, got %q", c.want, differences)
			}
		})
	}
}
