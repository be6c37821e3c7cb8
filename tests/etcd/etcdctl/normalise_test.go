package etcdctl

import (
	"regexp"
	"strings"

	"github.com/orlop/orlop/tests/harness"
)

type replacement struct {
	pattern *regexp.Regexp
	with    string
}

// What names a store, measures it, or was drawn at random.
var replacements = []replacement{
	// The client's own log, with times and pointers in it; the error follows as a line of its own.
	{regexp.MustCompile(`(?m)^\{"level":.*\n`), ""},
	{regexp.MustCompile(`"(cluster_id|member_id|raft_term|leader|raftIndex|raftTerm|raftAppliedIndex|dbSize|dbSizeInUse|ID|id|lease|took)":("[^"]*"|\d+)`), `"$1":*`},
	{regexp.MustCompile(`(?m)^"(ClusterID|MemberID|RaftTerm|DBSize|DBSizeInUse|Leader|RaftIndex|RaftAppliedIndex|ID|Lease|Took)" : [1-9].*$`), `"$1" : *`},
	// Orlop has no quota unless it is given one.
	{regexp.MustCompile(`,"dbSizeQuota":\d+`), ""},
	{regexp.MustCompile(`(?m)^"DBSizeQuota" : \d+$`), `"DBSizeQuota" : *`},
	// Orlop's hash is another than etcd's.
	{regexp.MustCompile(`"hash":\d+`), `"hash":*`},
	{regexp.MustCompile(`(?m)^ENDPOINT, \d+, `), "ENDPOINT, *, "},
	// Members, leases, and the keys that locks and elections make of leases (without leading zeros).
	{regexp.MustCompile(`\b[0-9a-f]{14,16}\b`), "ID"},
	{regexp.MustCompile(`\b[1-9]\d{17,18}\b`), "ID"},
	{regexp.MustCompile(`\b3\.7\.\d+\b`), "3.7.x"},
	{regexp.MustCompile(`remaining\(\d+s\)`), "remaining(N)"},
	{regexp.MustCompile(`took( =)? \S+`), "took N"},
	{regexp.MustCompile(`\b\d+(\.\d+)? [kMG]?B\b`), "SIZE"},
	{regexp.MustCompile(`\b\d+%`), "N%"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(µs|ms)\b`), "N ms"},
}

// Columns are as wide as what was in them.
var tableSpace = regexp.MustCompile(`[ ─]+`)

// Term and indexes of raft in the outputs for people.
var raftNumbers = []replacement{
	{regexp.MustCompile(`, \d+, \d+, \d+, `), ", N, N, N, "},
	{regexp.MustCompile(`│ \d+ │ \d+ │ \d+ │`), "│ N │ N │ N │"},
}

func normalise(store *harness.Store, command, text string) string {
	text = strings.ReplaceAll(text, store.Addr(), "ENDPOINT")
	for _, r := range replacements {
		text = r.pattern.ReplaceAllString(text, r.with)
	}
	if strings.Contains(text, "│") {
		text = tableSpace.ReplaceAllString(text, " ")
	}
	if strings.HasPrefix(command, "endpoint status") {
		for _, r := range raftNumbers {
			text = r.pattern.ReplaceAllString(text, r.with)
		}
	}
	return text
}
