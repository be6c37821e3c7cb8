package differential

import (
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Script writes a stream as a shell script that calls etcdctl. What etcdctl has no words for is a comment.
func Script(ops []Operation) string {
	var text strings.Builder
	for _, op := range ops {
		line, ok := command(op)
		if !ok {
			line = "# not with etcdctl: " + op.String()
		}
		text.WriteString(line + "\n")
	}
	return text.String()
}

// args are the words of a command.
type args []string

func (a *args) when(is bool, format string, values ...any) {
	if is {
		*a = append(*a, fmt.Sprintf(format, values...))
	}
}

func (a args) String() string { return strings.Join(a, " ") }

func command(op Operation) (string, bool) {
	a := args{"etcdctl"}
	ok := true
	switch request := op.Request.(type) {
	case *pb.PutRequest:
		ok = a.put(op, request)
	case *pb.RangeRequest:
		ok = a.get(op.Kind, request)
	case *pb.DeleteRangeRequest:
		a.when(true, "del")
		a.when(request.PrevKv, "--prev-kv")
		ok = a.span(request.Key, request.RangeEnd)
	case *pb.TxnRequest:
		return transaction(request)
	case *pb.CompactionRequest:
		a.when(true, "compaction %d", request.Revision)
		a.when(request.Physical, "--physical")
		ok = request.Revision >= 0
	case *pb.LeaseGrantRequest:
		// etcdctl cannot ask for an id.
		return fmt.Sprintf("%s=$(etcdctl lease grant %d | cut -d' ' -f2)", leaseVariable(request.ID), request.TTL), request.TTL > 0
	case *pb.LeaseRevokeRequest:
		a.when(true, "lease revoke $%s", leaseVariable(request.ID))
	case *pb.LeaseTimeToLiveRequest:
		a.when(true, "lease timetolive $%s", leaseVariable(request.ID))
		a.when(request.Keys, "--keys")
	case *pb.LeaseKeepAliveRequest:
		a.when(true, "lease keep-alive --once $%s", leaseVariable(request.ID))
	case *pb.WatchCreateRequest:
		ok = a.watch(request)
	case *pb.HashKVRequest:
		a.when(true, "endpoint hashkv --rev=%d", request.Revision)
	default:
		ok = a.plain(op)
	}
	return a.String(), ok
}

func (a *args) plain(op Operation) bool {
	words := map[Kind]string{
		"LeaseLeases": "lease list", "Status": "endpoint status", "Defragment": "defrag",
	}
	a.when(true, "%s", words[op.Kind])
	return words[op.Kind] != ""
}

func (a *args) put(op Operation, request *pb.PutRequest) bool {
	a.when(true, "put")
	a.when(request.PrevKv, "--prev-kv")
	a.when(request.IgnoreValue, "--ignore-value")
	a.when(request.IgnoreLease, "--ignore-lease")
	a.when(request.Lease != 0, "--lease=$%s", leaseVariable(request.Lease))
	key, ok := quote(request.Key)
	a.when(true, "-- %s", key)
	if op.ValueBytes > 0 {
		a.when(true, `"$(head -c %d /dev/zero | tr '\0' x)"`, op.ValueBytes)
		return ok && op.ValueBytes < 100_000 // the most that a shell passes in one argument
	}
	value, valueOk := quote(request.Value)
	a.when(!request.IgnoreValue, "%s", value)
	return ok && valueOk && op.KeyBytes == 0
}

func (a *args) get(kind Kind, request *pb.RangeRequest) bool {
	a.when(true, "get")
	a.when(kind == "RangeStream", "--stream")
	a.when(request.Limit != 0, "--limit=%d", request.Limit)
	a.when(request.Revision != 0, "--rev=%d", request.Revision)
	a.when(request.SortOrder != pb.RangeRequest_NONE, "--order=%s", request.SortOrder)
	target := strings.Replace(request.SortTarget.String(), "MOD", "MODIFY", 1)
	a.when(request.SortTarget != pb.RangeRequest_KEY || request.SortOrder != pb.RangeRequest_NONE, "--sort-by=%s", target)
	a.when(request.KeysOnly, "--keys-only")
	a.when(request.CountOnly, "--count-only")
	a.when(request.Serializable, "--consistency=s")
	a.when(request.MinModRevision != 0, "--min-mod-rev=%d", request.MinModRevision)
	a.when(request.MaxModRevision != 0, "--max-mod-rev=%d", request.MaxModRevision)
	a.when(request.MinCreateRevision != 0, "--min-create-rev=%d", request.MinCreateRevision)
	a.when(request.MaxCreateRevision != 0, "--max-create-rev=%d", request.MaxCreateRevision)
	return a.span(request.Key, request.RangeEnd)
}

func (a *args) watch(request *pb.WatchCreateRequest) bool {
	a.when(true, "watch")
	a.when(request.StartRevision != 0, "--rev=%d", request.StartRevision)
	a.when(request.PrevKv, "--prev-kv")
	a.when(request.ProgressNotify, "--progress-notify")
	ok := a.span(request.Key, request.RangeEnd)
	a.when(true, "&")
	return ok && len(request.Filters) == 0 && request.WatchId == 0
}

// span writes a key or a range. A range from a NUL byte on is one from the empty key on for etcdctl.
func (a *args) span(key, end []byte) bool {
	if string(key) == "\x00" && string(end) == "\x00" {
		key = nil
	}
	from, ok := quote(key)
	if string(end) == "\x00" {
		a.when(true, "--from-key -- %s", from)
		return ok
	}
	to, endOk := quote(end)
	a.when(true, "-- %s", from)
	a.when(len(end) > 0, "%s", to)
	return ok && endOk && len(key) > 0
}

func transaction(request *pb.TxnRequest) (string, bool) {
	var text strings.Builder
	text.WriteString("etcdctl txn <<'END'\n")
	for _, compare := range request.Compare {
		target := map[pb.Compare_CompareTarget]string{
			pb.Compare_VERSION: fmt.Sprintf("ver(%q) %%s %q", compare.Key, fmt.Sprint(compare.GetVersion())),
			pb.Compare_CREATE:  fmt.Sprintf("c(%q) %%s %q", compare.Key, fmt.Sprint(compare.GetCreateRevision())),
			pb.Compare_MOD:     fmt.Sprintf("mod(%q) %%s %q", compare.Key, fmt.Sprint(compare.GetModRevision())),
			pb.Compare_VALUE:   fmt.Sprintf("val(%q) %%s %q", compare.Key, compare.GetValue()),
		}[compare.Target]
		operator := map[pb.Compare_CompareResult]string{
			pb.Compare_EQUAL: "=", pb.Compare_GREATER: ">", pb.Compare_LESS: "<", pb.Compare_NOT_EQUAL: "!=",
		}[compare.Result]
		if target == "" || operator == "" || len(compare.RangeEnd) > 0 {
			return "", false
		}
		fmt.Fprintf(&text, target+"\n", operator)
	}
	for _, branch := range [][]*pb.RequestOp{request.Success, request.Failure} {
		text.WriteString("\n")
		for _, op := range branch {
			line, ok := branchLine(op)
			if !ok {
				return "", false
			}
			text.WriteString(line + "\n")
		}
	}
	text.WriteString("\nEND")
	return text.String(), true
}

// branchLine is a command without its program, and without a lease: the shell fills in no variables there.
func branchLine(op *pb.RequestOp) (string, bool) {
	var inner Operation
	switch {
	case op.GetRequestPut() != nil && op.GetRequestPut().Lease == 0:
		inner = Operation{Kind: "Put", Request: op.GetRequestPut()}
	case op.GetRequestRange() != nil:
		inner = Operation{Kind: "Range", Request: op.GetRequestRange()}
	case op.GetRequestDeleteRange() != nil:
		inner = Operation{Kind: "DeleteRange", Request: op.GetRequestDeleteRange()}
	default:
		return "", false
	}
	line, ok := command(inner)
	return strings.TrimPrefix(line, "etcdctl "), ok && !strings.Contains(line, "$'")
}

func leaseVariable(id int64) string {
	return strings.Replace(fmt.Sprintf("LEASE_%d", id), "-", "minus_", 1)
}

// quote writes bytes as a word of bash. An argument cannot hold a NUL byte.
func quote(bytes []byte) (string, bool) {
	if strings.Contains(string(bytes), "\x00") {
		return "", false
	}
	plain := true
	var escaped strings.Builder
	for _, b := range bytes {
		if b < ' ' || b > '~' || b == '\'' || b == '\\' {
			plain = false
			fmt.Fprintf(&escaped, `\x%02x`, b)
		} else {
			escaped.WriteByte(b)
		}
	}
	if plain {
		return "'" + string(bytes) + "'", true
	}
	return "$'" + escaped.String() + "'", true
}
