//! Who may read and write which keys: by the name in a client's certificate, as a file says it.
//!
//! The rules are etcd's for users with roles: reading is needed for what an answer or a condition shows, writing for
//! what changes. See [`Access`] for each.

mod access;
mod rules;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Clock, Supervisor};
use parking_lot::RwLock;
use thiserror::Error;
use tracing::{info, warn};

use crate::files::{Followed, blocking, follow, read, stamps};
use crate::tls::ClientName;
pub(crate) use access::Access;
use rules::Rules;

/// The largest file that is read: room for thousands of clients.
const PERMISSIONS_FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a file does not say who may do what.
#[derive(Debug, Error)]
#[error("{}: {reason}", file.display())]
pub struct PermissionsError {
    /// The file.
    file: PathBuf,
    /// What is wrong with it.
    reason: String,
}

/// What the file says now. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Permissions(Arc<Current>);

struct Current {
    file: PathBuf,
    rules: RwLock<Arc<Rules>>,
}

impl Permissions {
    /// Reads the file, and has a task of `supervisor` read it again within a second of a change. A file that cannot be
    /// used changes nothing, and a warning says why. Fails when it cannot be used now.
    pub async fn open(
        file: PathBuf,
        clock: Arc<dyn Clock>,
        supervisor: &Supervisor,
    ) -> Result<Permissions, PermissionsError> {
        let reading = file.clone();
        let (seen, rules) = blocking(move || (stamps(std::slice::from_ref(&reading)), load(&reading))).await;
        let current = Arc::new(Current { file, rules: RwLock::new(Arc::new(rules?)) });
        follow(current.clone(), seen, clock, supervisor);
        Ok(Permissions(current))
    }

    /// What a client may do by the rules of now; the one without a name is everybody.
    pub(crate) fn of(&self, name: Option<&ClientName>) -> Access {
        self.0.rules.read().of(name.map(ClientName::as_str))
    }
}

impl Followed for Current {
    fn files(&self) -> Vec<PathBuf> {
        vec![self.file.clone()]
    }

    fn read_again(&self) {
        match load(&self.file) {
            Ok(rules) => {
                *self.rules.write() = Arc::new(rules);
                info!(file = %self.file.display(), "the permissions of clients have changed");
            }
            Err(error) => warn!(%error, "permissions cannot be used: what they were before stays in use"),
        }
    }
}

fn load(file: &Path) -> Result<Rules, PermissionsError> {
    let wrong = |reason: String| PermissionsError { file: file.to_owned(), reason };
    let bytes =
        read(file, PERMISSIONS_FILE_BYTES_MAX).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
    Rules::parse(&text).map_err(wrong)
}
