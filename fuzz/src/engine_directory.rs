//! Damage to a data directory that was closed in order: what was acknowledged is shown as it was, or the damage is named.
//!
//! One loss cannot be told from a write that was interrupted: that of the batches at the very end, when everything
//! behind the first damaged one is damaged as well. Then what is shown must be what was there before them.

use std::sync::OnceLock;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use engine::{Batch, BatchClass, Engine};
use engine_embedded::fuzzing::{Directory, FRAME_HEADER_BYTES, Files, frame_starts};

use crate::directory::{Records, block_on, config, open, records};

/// More than this in one input only hides what a single one does.
const DAMAGES_MAX: usize = 6;

/// What can happen to a file; its number picks one of the directory.
#[derive(Arbitrary, Debug)]
enum Damage {
    Flip { file: u8, at: u16, bits: u8 },
    Overwrite { file: u8, at: u16, bytes: [u8; 6] },
    Zero { file: u8, at: u16, len: u16 },
    Cut { file: u8, at: u16 },
    Append { file: u8, bytes: Vec<u8> },
    Move { file: u8, from: u16, to: u16, len: u16 },
    Remove { file: u8 },
    Swap { one: u8, other: u8 },
}

/// A directory with several segments, and what it held after each batch.
struct Filled {
    files: Files,
    states: Vec<Records>,
}

/// Damages a directory as the input says, and opens it.
pub fn check(input: &[u8]) {
    let filled = filled();
    let mut files = filled.files.clone();
    let mut input = Unstructured::new(input);
    for _ in 0..DAMAGES_MAX {
        if input.is_empty() {
            break;
        }
        let Ok(damage) = Damage::arbitrary(&mut input) else { break };
        apply(&damage, &mut files);
    }
    let directory = Directory::holding(&files);
    let Some(engine) = open(&directory) else { return };
    let Some(shown) = block_on(records(&engine)) else { return };
    drop(engine);
    if filled.states.last() != Some(&shown) {
        assert!(filled.states.contains(&shown), "what is shown was never there");
        assert!(loses_the_end(&filled.files, &files), "acknowledged batches were lost in silence");
    }
    let again = open(&directory).expect("a directory that was opened can be opened again");
    assert!(block_on(records(&again)) == Some(shown), "it shows something else when it is opened again");
}

/// Whether the last segment is damaged from some frame to its very end, or is gone.
fn loses_the_end(before: &Files, after: &Files) -> bool {
    let Some((name, whole)) = last_segment(before) else { return false };
    let Some(damaged) = after.get(name) else { return true };
    let mut frames = frame_starts(whole).into_iter().peekable();
    let is_whole = |start: usize, end: usize| damaged.get(start..end) == whole.get(start..end);
    while let Some(start) = frames.next() {
        if !is_whole(start, frames.peek().copied().unwrap_or(whole.len())) {
            return frames.all(|later| !is_whole(later, later + FRAME_HEADER_BYTES));
        }
    }
    false
}

fn last_segment(files: &Files) -> Option<(&String, &Vec<u8>)> {
    files.iter().rfind(|(name, _)| name.ends_with(".seg"))
}

fn filled() -> &'static Filled {
    static FILLED: OnceLock<Filled> = OnceLock::new();
    FILLED.get_or_init(|| block_on(fill(80)))
}

/// The files of a directory with so many batches, which was closed in order.
pub fn files(batches: u8) -> Files {
    block_on(fill(batches)).files
}

const BATCHES_AFTER_RECLAIM: u8 = 6;

/// So many batches, one after the other, over several segments; then a clean stop. The first half overwrites and deletes,
/// so that segments are rewritten and retired; what the second half puts stays where it was put.
async fn fill(batches: u8) -> Filled {
    let directory = Directory::default();
    let engine = directory.open(config()).expect("an empty directory can be opened");
    let mut states = vec![Records::new()];
    let half = batches / 2;
    for number in 0..batches {
        let mut batch = Batch { class: BatchClass::Reclaim, ..Batch::default() };
        let mut state = states.last().cloned().unwrap_or_default();
        let key = Bytes::from(format!("key {:02}", if number < half { number % 7 } else { number }));
        if number < half && number % 5 == 4 {
            batch.delete(key.clone());
            state.remove(&key);
        } else {
            let value = Bytes::from(vec![number; if number % 3 == 0 { 12 } else { 260 }]);
            batch.put(key.clone(), value.clone());
            state.insert(key, value);
        }
        engine.commit(batch).await.expect("a directory in memory takes every batch");
        states.push(state);
        // Batches come last: nothing but their own frames says that they were there.
        if number + 1 == half || number + 1 + BATCHES_AFTER_RECLAIM == batches {
            // It waits for the hints that are being written, too.
            engine.reclaim().await.expect("an engine that is open reclaims");
        }
    }
    engine.close().await;
    Filled { files: directory.files(), states }
}

fn apply(damage: &Damage, files: &mut Files) {
    let names: Vec<String> = files.keys().cloned().collect();
    let name = |number: u8| names.get(usize::from(number) % names.len().max(1)).cloned().unwrap_or_default();
    let content = |files: &mut Files, number: u8| files.remove(&name(number)).unwrap_or_default();
    let (number, changed) = match damage {
        Damage::Remove { file } => {
            // Nothing but the newest segment itself says that it was there.
            if last_segment(files).is_none_or(|(last, _)| *last != name(*file)) {
                files.remove(&name(*file));
            }
            return;
        }
        Damage::Swap { one, other } => {
            let (first, second) = (content(files, *one), content(files, *other));
            files.insert(name(*one), second);
            files.insert(name(*other), first);
            return;
        }
        Damage::Flip { file, at, bits } => (*file, overwritten(content(files, *file), *at, &[*bits], true)),
        Damage::Overwrite { file, at, bytes } => {
            (*file, overwritten(content(files, *file), *at, bytes, false))
        }
        Damage::Zero { file, at, len } => {
            let zeros = vec![0; usize::from(*len) % 4096];
            (*file, overwritten(content(files, *file), *at, &zeros, false))
        }
        Damage::Cut { file, at } => {
            let mut bytes = content(files, *file);
            bytes.truncate(usize::from(*at) % (bytes.len() + 1));
            (*file, bytes)
        }
        Damage::Append { file, bytes } => (*file, [content(files, *file), bytes.clone()].concat()),
        Damage::Move { file, from, to, len } => {
            let bytes = content(files, *file);
            let from = usize::from(*from) % (bytes.len() + 1);
            let end = (from + usize::from(*len)).min(bytes.len());
            let part = bytes[from..end].to_vec();
            (*file, overwritten(bytes, *to, &part, false))
        }
    };
    files.insert(name(number), changed);
}

/// The content with `bytes` at `at`, or with those bits changed; what does not fit is left out.
fn overwritten(mut content: Vec<u8>, at: u16, bytes: &[u8], flip: bool) -> Vec<u8> {
    let at = usize::from(at) % (content.len() + 1);
    for (place, byte) in content[at..].iter_mut().zip(bytes) {
        *place = if flip { *place ^ byte } else { *byte };
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_has_several_segments_with_hints_and_ends_with_batches_and_a_mark() {
        let files = files(80);
        let count = |end: &str| files.keys().filter(|name| name.ends_with(end)).count();
        assert!(count(".seg") >= 3 && count(".hint") >= 2, "{:?}", files.keys());
        assert!(!files.contains_key("0000000001.seg"), "it was retired");
        let (_, last) = last_segment(&files).unwrap();
        let kinds: Vec<u8> = frame_starts(last).into_iter().map(|start| last[start + 4]).collect();
        let (batch, mark) = (1, 5);
        assert!(kinds.ends_with(&[batch, batch, batch, mark]), "{kinds:?}");
    }

    #[test]
    fn a_loss_at_the_end_is_told_from_one_in_the_middle() {
        let files = files(80);
        let (name, last) = last_segment(&files).unwrap();
        let frames = frame_starts(last);
        let damaged = |cut: usize, flip: usize| {
            let mut segment = last[..cut].to_vec();
            if let Some(byte) = segment.get_mut(flip) {
                *byte ^= 1;
            }
            loses_the_end(&files, &Files::from([(name.clone(), segment)]))
        };
        let (end, third) = (last.len(), frames[2]);
        assert!(damaged(third + 9, end) && damaged(third, end), "cut off from the third frame on");
        assert!(!damaged(end, third + 9), "the frames behind the third are whole");
        assert!(damaged(frames[frames.len() - 1], frames[frames.len() - 2] + 9), "the last two are damaged");
        assert!(!damaged(end, end), "whole");
    }
}
