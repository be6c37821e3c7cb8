//! Merges the sorted lists of all segments into the index.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, binary_heap::PeekMut};

use crate::format::{DELETION_VALUE_LEN, record_len};
use crate::hint::{HintReader, Item, ItemKind};
use crate::index::{Builder, Entry, Index};
use crate::state::Segment;

/// The sorted list of one segment.
pub(crate) struct Run {
    pub(crate) segment: u32,
    pub(crate) source: RunSource,
}

/// Where the list comes from.
pub(crate) enum RunSource {
    Items(Vec<Item>),
    Hint(HintReader),
}

/// The next item of a run. Lowest key first, then the newest version, then the later copy of it.
#[derive(PartialEq, Eq)]
struct Head {
    item: Item,
    run: usize,
    segment: u32,
    position: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Head) -> Ordering {
        let newer = (self.item.seq, self.segment).cmp(&(other.item.seq, other.segment));
        // Reversed keys, as the heap gives the greatest first.
        other.item.key.cmp(&self.item.key).then(newer)
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Builds the index and counts what each segment holds. The error names a segment whose hint is damaged.
pub(crate) fn merge(runs: &mut [Run], segments: &mut BTreeMap<u32, Segment>) -> Result<Index, u32> {
    let mut heap = BinaryHeap::new();
    for (number, run) in runs.iter_mut().enumerate() {
        let mut head = Head { item: Item::default(), run: number, segment: run.segment, position: 0 };
        if advance(run, &mut head)? {
            heap.push(head);
        }
    }
    let mut merged =
        Merged { builder: Builder::new(), segments, key: Vec::new(), winner: None, oldest: 0, begun: false };
    while let Some(mut head) = heap.peek_mut() {
        merged.add(&head);
        let number = head.run;
        if !advance(&mut runs[number], &mut head)? {
            PeekMut::pop(head);
        }
    }
    merged.settle();
    Ok(merged.builder.finish())
}

/// Moves to the next item of a run.
fn advance(run: &mut Run, head: &mut Head) -> Result<bool, u32> {
    let more = match &mut run.source {
        RunSource::Items(items) => match items.get(head.position) {
            Some(item) => {
                head.item.clone_from(item);
                true
            }
            None => false,
        },
        RunSource::Hint(reader) => reader.next(&mut head.item).map_err(|_| run.segment)?,
    };
    head.position += 1;
    Ok(more)
}

/// What the merge has made so far.
struct Merged<'a> {
    builder: Builder,
    segments: &'a mut BTreeMap<u32, Segment>,
    /// The key that is being read; its newest record, unless that is a deletion; and the first segment that has
    /// any version of it.
    key: Vec<u8>,
    winner: Option<Entry>,
    oldest: u32,
    begun: bool,
}

impl Merged<'_> {
    fn add(&mut self, head: &Head) {
        let Head { item, segment, .. } = head;
        if let ItemKind::Deletion { first, last } = item.kind
            && let Some(segment) = self.segments.get_mut(segment)
        {
            segment.add_deletion((first, last), record_len(item.key.len(), DELETION_VALUE_LEN) as u64);
        }
        if self.begun && self.key == item.key {
            // An older version.
            if matches!(item.kind, ItemKind::Put { .. }) {
                self.oldest = self.oldest.min(*segment);
            }
            return;
        }
        self.settle();
        self.begun = true;
        self.oldest = *segment;
        self.key.clone_from(&item.key);
        self.winner = match &item.kind {
            ItemKind::Put { offset, value_len, inline } => Some(Entry {
                segment: *segment,
                offset: *offset,
                value_len: *value_len,
                oldest: *segment,
                inline: inline.clone(),
            }),
            ItemKind::Deletion { .. } => None,
        };
    }

    /// Adds the key that was read last to the index.
    fn settle(&mut self) {
        let Some(mut entry) = self.winner.take() else { return };
        entry.oldest = self.oldest;
        if let Some(segment) = self.segments.get_mut(&entry.segment) {
            segment.live += record_len(self.key.len(), entry.value_len as usize) as u64;
        }
        self.builder.push(&self.key, &entry);
    }
}
