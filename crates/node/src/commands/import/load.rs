use std::collections::HashMap;

use model::{Change, ChangeKind, Key, Revision};
use partition::Import;
use snapshot::{Record, Snapshot, Version};

use super::failure::LoadFailure;
use super::progress::Progress;

/// What a snapshot holds, by a first reading of its keys. Memory: every key, and some 80 bytes for each, as a server
/// takes too.
pub(super) struct Survey {
    /// The newest revision.
    pub(super) revision: Revision,
    newest: HashMap<Key, Newest>,
    records: u64,
}

/// The newest change of a key. Records are known by their number: in etcd a transaction can change a key twice.
#[derive(Clone, Copy)]
struct Newest {
    record: u64,
    revision: Revision,
    is_live: bool,
    /// The record of the version that it replaced, and its revision, if the snapshot has that.
    previous: Option<(u64, Revision)>,
}

impl Newest {
    /// The newest change after one more.
    fn then(self, record: u64, revision: Revision, is_live: bool) -> Newest {
        let previous = match self {
            // Of two changes in one transaction the last one counts, and both have replaced the same.
            Newest { previous, .. } if self.revision == revision => previous,
            Newest { record, revision, is_live: true, .. } => Some((record, revision)),
            Newest { .. } => None,
        };
        Newest { record, revision, is_live, previous }
    }
}

/// What was imported.
pub(super) struct Loaded {
    pub(super) keys: u64,
    pub(super) leases: u64,
    pub(super) revision: Revision,
}

impl Survey {
    pub(super) fn of(snapshot: &Snapshot, progress: &mut Progress) -> Result<Survey, LoadFailure> {
        let compacted = snapshot.compacted()?.unwrap_or(Revision::FIRST);
        let mut survey =
            Survey { revision: compacted.max(Revision::FIRST), newest: HashMap::new(), records: 0 };
        for record in snapshot.records()? {
            let Record { revision, key, version } = record?;
            survey.records += 1;
            survey.revision = survey.revision.max(revision);
            progress.step();
            let Some(key) = key else { continue };
            let is_live = version.is_some();
            let number = survey.records;
            if let Some(newest) = survey.newest.get_mut(&key) {
                *newest = newest.then(number, revision, is_live);
            } else {
                survey.newest.insert(key, Newest { record: number, revision, is_live, previous: None });
            }
        }
        Ok(survey)
    }

    /// Imports the newest state, as that of `revision`.
    pub(super) async fn load(
        &self,
        snapshot: &Snapshot,
        mut import: Import,
        revision: Revision,
        progress: &mut Progress,
    ) -> Result<Loaded, LoadFailure> {
        let mut loaded = Loaded { keys: 0, leases: 0, revision };
        for (lease, ttl_secs) in snapshot.leases()? {
            import.lease(lease, ttl_secs).await?;
            loaded.leases += 1;
        }
        progress.expect(self.records);
        for (number, record) in (1..).zip(snapshot.records()?) {
            let record = record?;
            progress.step();
            let Some(key) = &record.key else { continue };
            let Some(newest) = self.newest.get(key) else { continue };
            if number == newest.record {
                loaded.keys += u64::from(newest.is_live);
                newest_of(&mut import, key, &record, (*newest, revision)).await?;
            } else if newest.revision == revision
                && newest.previous.is_some_and(|(replaced, _)| replaced == number)
                && let Some(Version { meta, value }) = &record.version
            {
                import.replaced(key, meta, value).await?;
            }
        }
        import.finish(revision).await?;
        Ok(loaded)
    }
}

/// Imports the newest change of a key, where something is left of it.
async fn newest_of(
    import: &mut Import,
    key: &Key,
    record: &Record,
    (newest, at): (Newest, Revision),
) -> Result<(), LoadFailure> {
    let mut kind = ChangeKind::Delete;
    if let Some(Version { meta, value }) = &record.version {
        import.live(key, meta, value).await?;
        kind = ChangeKind::Put(*meta);
    }
    // Watchers that start at the newest revision are told what it changed.
    if newest.revision == at {
        let previous = newest.previous.map_or(Revision::NONE, |(_, revision)| revision);
        import.change(Change { revision: at, key: key.clone(), kind, previous }).await?;
    }
    Ok(())
}
