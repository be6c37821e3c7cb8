package differential

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Trace is a stream that was run, with the revision before each operation.
type Trace struct {
	Ops    []Operation
	Before []int64
}

// Probe runs a stream on fresh stores and tells the first difference, if there is one, and what was sent until then.
type Probe func([]Operation) (*Difference, Trace)

// minimiser makes a stream smaller as long as it still shows the same difference: first by leaving out operations in
// ever smaller pieces (delta debugging), then by leaving out what is set in the requests that are left.
type minimiser struct {
	probe Probe
	// left is how many more streams may be run.
	left  int
	best  Trace
	shown *Difference
}

// Minimise returns the smallest stream found that shows the same difference within so many probes.
func Minimise(trace Trace, shown *Difference, probe Probe, probesMax int) ([]Operation, *Difference) {
	m := &minimiser{probe: probe, left: probesMax, best: trace, shown: shown}
	for smaller := true; smaller && m.left > 0; {
		before := len(m.best.Ops)
		m.dropOperations()
		smaller = m.simplifyOperations() || len(m.best.Ops) < before
	}
	return m.best.Ops, m.shown
}

// try takes the stream for the new best when it shows the difference. What was not reached, or not sent, is gone with it.
func (m *minimiser) try(ops []Operation) bool {
	if m.left == 0 {
		return false
	}
	m.left--
	found, sent := m.probe(ops)
	if found == nil || !found.isLike(m.shown) {
		return false
	}
	m.best, m.shown = sent, found
	return true
}

func (m *minimiser) dropOperations() {
	for size := max(m.droppable()/2, 1); m.left > 0; size = (size + 1) / 2 {
		// From the end on: what comes last tends to be what shows the difference, and what it needs comes just before.
		for to := m.droppable(); to > 0 && m.left > 0; {
			from := max(to-size, 0)
			to = min(to, m.droppable())
			if from < to && !m.try(m.best.without(from, to, true)) && m.best.moves(from, to) {
				m.try(m.best.without(from, to, false))
			}
			to = min(from, m.droppable())
		}
		if size == 1 {
			return
		}
	}
}

// droppable is how many of the operations may be left out: all but the one that shows the difference.
func (m *minimiser) droppable() int {
	if m.shown.Op.Kind == finish {
		return len(m.best.Ops)
	}
	return len(m.best.Ops) - 1
}

// moves says whether operations changed the revision.
func (t Trace) moves(from, to int) bool {
	return to < len(t.Before) && t.Before[to] > t.Before[from]
}

// without leaves out operations. The later ones may ask for revisions; with shift, these are lowered by as much as
// the revisions are that are no longer given.
func (t Trace) without(from, to int, shift bool) []Operation {
	ops := slices.Clone(t.Ops[:from])
	for _, op := range t.Ops[to:] {
		if shift && t.moves(from, to) {
			low, high := t.Before[from], t.Before[to]
			op = mapRevisions(op, func(revision int64) int64 {
				return revision - (min(max(revision, low), high) - low)
			})
		}
		ops = append(ops, op)
	}
	return ops
}

// simplifyOperations leaves out, one by one, what is set in a request. It returns whether it found anything to leave out.
func (m *minimiser) simplifyOperations() bool {
	found := false
	for i := len(m.best.Ops) - 1; i >= 0; i-- {
		for again := true; again && m.left > 0 && i < len(m.best.Ops); {
			again = slices.ContainsFunc(simpler(m.best.Ops[i]), func(op Operation) bool {
				ops := slices.Clone(m.best.Ops)
				ops[i] = op
				return m.try(ops)
			})
			found = found || again
		}
	}
	return found
}

// simpler returns every operation that is one step simpler.
func simpler(op Operation) []Operation {
	var all []Operation
	if op.KeyBytes > 0 || op.ValueBytes > 0 {
		plain := op.clone()
		plain.KeyBytes, plain.ValueBytes = 0, 0
		all = append(all, plain)
	}
	if op.Request == nil {
		return all
	}
	for _, change := range removals(op.Request.ProtoReflect(), nil) {
		next := op.clone()
		change(next.Request.ProtoReflect())
		if !proto.Equal(next.Request, op.Request) {
			all = append(all, next)
		}
	}
	return all
}

type change func(protoreflect.Message)

// removals returns, for each field and element in a message, what removes it from a copy of the message, and what makes a
// number smaller. The large parts come before the small parts in them.
func removals(message protoreflect.Message, path []step) []change {
	var all []change
	add := func(remove change) {
		all = append(all, func(root protoreflect.Message) { remove(follow(root, path)) })
	}
	fields := message.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !message.Has(field) {
			continue
		}
		if !field.IsList() {
			add(func(m protoreflect.Message) { m.Clear(field) })
			if field.Kind() == protoreflect.Int64Kind {
				value := message.Get(field).Int()
				add(func(m protoreflect.Message) { m.Set(field, protoreflect.ValueOfInt64(min(value, 1))) })
				add(func(m protoreflect.Message) { m.Set(field, protoreflect.ValueOfInt64(value/2)) })
			}
			if field.Message() != nil {
				all = append(all, removals(message.Get(field).Message(), append(slices.Clone(path), step{field, -1}))...)
			}
			continue
		}
		length := message.Get(field).List().Len()
		if length > 1 {
			add(func(m protoreflect.Message) { m.Clear(field) })
		}
		for at := range length {
			add(func(m protoreflect.Message) { removeElement(m.Mutable(field).List(), at) })
			if field.Message() != nil {
				element := message.Get(field).List().Get(at).Message()
				all = append(all, removals(element, append(slices.Clone(path), step{field, at}))...)
			}
		}
	}
	return all
}

// step leads from a message to one in it; at is -1 where the field is no list.
type step struct {
	field protoreflect.FieldDescriptor
	at    int
}

func follow(message protoreflect.Message, path []step) protoreflect.Message {
	for _, s := range path {
		if s.at < 0 {
			message = message.Mutable(s.field).Message()
		} else {
			message = message.Mutable(s.field).List().Get(s.at).Message()
		}
	}
	return message
}

func removeElement(list protoreflect.List, at int) {
	for i := at; i+1 < list.Len(); i++ {
		list.Set(i, list.Get(i+1))
	}
	list.Truncate(list.Len() - 1)
}
