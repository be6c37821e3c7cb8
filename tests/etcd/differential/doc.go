// Package differential sends random streams of operations over the whole API to Orlop and to the real etcd of go.mod, and
// wants the same of both: every field of every answer, the code and text of every error, every event of every watcher, over
// restarts of both. What may differ is in differences.go, each with its reason, and nowhere else.
//
// An operation is data, so a stream that shows a difference is made smaller by itself, on fresh stores, until nothing more
// can be left out, and is then printed: the seed, the stream as JSON, the same for etcdctl, and both answers.
//
//	ORLOP_TEST_SEED=1 go test ./differential            # the streams of one seed again
//	ORLOP_TEST_STEPS=100000 go test ./differential      # a longer search
//	ORLOP_TEST_REPLAY=stream.json go test ./differential -run Stored
//
// A stream in testdata is run each time.
package differential
