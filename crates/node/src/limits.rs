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

/// What the process keeps of its files for itself: the engine's segments, the log, what is read now and then.
const OWN_FILES_MIN: u64 = 256;

/// How many connections may be open: as many as were `wanted`, or as many as the process may have files for.
pub(crate) fn connections_max(wanted: usize) -> usize {
    let Some(files) = getrlimit(Resource::Nofile).current else { return wanted };
    let possible = usize::try_from(files.saturating_sub(OWN_FILES_MIN).max(1)).unwrap_or(usize::MAX);
    // Somewhat fewer is what usual limits leave of the default, and no reason to worry anybody.
    if possible < wanted / 2 {
        warn!(
            wanted,
            possible, "the limit of open files allows fewer connections: raise it (ulimit -n, LimitNOFILE=)"
        );
    }
    possible.min(wanted)
}
