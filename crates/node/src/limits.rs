use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::warn;

/// Raises the number of files and connections that the process may have open to the most that it is allowed. The
/// usual soft limit of 1024, kept low for old programs, is less than the clients of a larger cluster.
pub fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "the limit of open files stays as it is");
    }
}
