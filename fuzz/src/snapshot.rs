//! A snapshot of etcd: any bytes are refused, or read to an end.

use ::snapshot::Snapshot;

use crate::bbolt::file_of;

/// Reads all that an import reads.
pub fn check(input: &[u8]) {
    let Ok(snapshot) = Snapshot::open(file_of(input)) else { return };
    let _ = (snapshot.has_auth(), snapshot.compacted(), snapshot.leases());
    let Ok(records) = snapshot.records() else { return };
    for record in records {
        if record.is_err() {
            break;
        }
    }
}
