//! Reads records by position and checks each: its checksum, and that it is the record that was asked for.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use engine::ReadError;

use crate::format::{Record, RecordKind, record_len, segment_name};
use crate::fs::{File, Fs};
use crate::index::Entry;
use crate::state::State;

/// Records that lie this close together in a file are read at once: a read of its own costs more than the bytes.
const GAP_MAX: u64 = 2048;
/// Bytes that are read at once, unless one record alone has more.
const READ_MAX: u64 = 256 << 10;

/// The files that entries point into, taken under the lock so that they stay readable afterwards.
#[derive(Default)]
pub(crate) struct Files(HashMap<u32, Arc<dyn File>>);

/// A value that is wanted: whose, where, and the place in the answer.
pub(crate) struct Wanted {
    pub(crate) key: Bytes,
    pub(crate) entry: Entry,
    pub(crate) slot: usize,
}

impl Files {
    /// Keeps the file of `entry` at hand, if reading its value will need it.
    pub(crate) fn keep(&mut self, state: &State, entry: &Entry) {
        if entry.inline.is_none()
            && !self.0.contains_key(&entry.segment)
            && let Some(segment) = state.segments.get(&entry.segment)
        {
            self.0.insert(entry.segment, segment.file.clone());
        }
    }

    /// Reads the values and hands each to `put` with its slot.
    pub(crate) fn read(
        &self,
        fs: &dyn Fs,
        mut wanted: Vec<Wanted>,
        mut put: impl FnMut(usize, Bytes),
    ) -> Result<(), ReadError> {
        wanted.retain_mut(|wanted| match wanted.entry.inline.take() {
            Some(value) => {
                put(wanted.slot, value);
                false
            }
            None => true,
        });
        wanted.sort_unstable_by_key(|wanted| (wanted.entry.segment, wanted.entry.offset));
        let mut rest = wanted.as_slice();
        while let Some(first) = rest.first() {
            let start = u64::from(first.entry.offset);
            let mut end = start + len(first);
            let mut count = 1;
            for next in &rest[1..] {
                let offset = u64::from(next.entry.offset);
                let next_end = offset + len(next);
                if next.entry.segment != first.entry.segment
                    || offset > end + GAP_MAX
                    || next_end - start > READ_MAX
                {
                    break;
                }
                // The same record may be asked for twice.
                end = end.max(next_end);
                count += 1;
            }
            let (run, behind) = rest.split_at(count);
            self.read_run(fs, run, start, end, &mut put)?;
            rest = behind;
        }
        Ok(())
    }

    fn read_run(
        &self,
        fs: &dyn Fs,
        run: &[Wanted],
        start: u64,
        end: u64,
        put: &mut impl FnMut(usize, Bytes),
    ) -> Result<(), ReadError> {
        let segment = run[0].entry.segment;
        let path = fs.path(&segment_name(segment));
        let Some(file) = self.0.get(&segment) else {
            let text = format!("the index names the segment {}, which is not open", path.display());
            return Err(ReadError::Corrupt(text));
        };
        let mut bytes = vec![0; (end - start) as usize];
        file.read_exact_at(&mut bytes, start).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                ReadError::Corrupt(format!("{} ends before offset {end}", path.display()))
            }
            _ => ReadError::Unavailable(format!(
                "could not read {} at offset {start}: {error}",
                path.display()
            )),
        })?;
        // A value alone in its read is handed out without a copy; others must not keep their neighbours.
        let bytes = Bytes::from(bytes);
        for wanted in run {
            let from = (u64::from(wanted.entry.offset) - start) as usize;
            let value = check(&bytes[from..], wanted).map_err(|reason| {
                ReadError::Corrupt(format!(
                    "{} at offset {}: {reason}; it belongs to the key {}",
                    path.display(),
                    wanted.entry.offset,
                    wanted.key.escape_ascii()
                ))
            })?;
            let value = if run.len() == 1 { bytes.slice_ref(value) } else { Bytes::copy_from_slice(value) };
            put(wanted.slot, value);
        }
        Ok(())
    }
}

fn len(wanted: &Wanted) -> u64 {
    record_len(wanted.key.len(), wanted.entry.value_len as usize) as u64
}

/// The value of the record at the start of `bytes`, if it is the one wanted.
fn check<'a>(bytes: &'a [u8], wanted: &Wanted) -> Result<&'a [u8], &'static str> {
    let (record, _) = Record::decode(bytes).map_err(|damage| damage.0)?;
    if record.kind != RecordKind::Put
        || record.key != wanted.key
        || record.value.len() != wanted.entry.value_len as usize
    {
        return Err("another record is stored there");
    }
    Ok(record.value)
}
