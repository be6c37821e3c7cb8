//! Files that are read again when they change.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Supervisor, TaskKind};

/// How often files are looked at.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What tells whether files have changed, without reading them: for each, which one it is, its size and its times;
/// none for one that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamps(Vec<Option<[i64; 7]>>);

/// What is made of files, and is made anew when they change.
pub(crate) trait Followed: Send + Sync + 'static {
    /// The files.
    fn files(&self) -> Vec<PathBuf>;

    /// Reads the files and uses what they hold; or uses what it had, and says why. Waits for the disk.
    fn read_again(&self);
}

/// The stamps of files. Taken before they are read: what changes in between is then seen as a change.
pub(crate) fn stamps(files: &[PathBuf]) -> Stamps {
    Stamps(files.iter().map(|file| stamp(file)).collect())
}

fn stamp(file: &Path) -> Option<[i64; 7]> {
    // Through links: Kubernetes changes a mounted secret by changing a link.
    let meta = fs::metadata(file).ok()?;
    Some([
        meta.dev().cast_signed(),
        meta.ino().cast_signed(),
        meta.size().cast_signed(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
    ])
}

/// The content of a file, or an error for one that has more than `bytes_max`.
pub(crate) fn read(file: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > bytes_max {
        true => {
            Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {bytes_max} bytes")))
        }
        false => Ok(bytes),
    }
}

/// Runs `work`, which waits for a disk, where nobody is held up.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going away, and this with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Has a task look once a second whether the files have changed since they were `seen`, until the shutdown.
pub(crate) fn follow(
    followed: Arc<impl Followed>,
    seen: Stamps,
    clock: Arc<dyn Clock>,
    supervisor: &Supervisor,
) {
    let shutdown = supervisor.shutdown().clone();
    supervisor.spawn("files", TaskKind::Essential, async move {
        let mut seen = seen;
        let following = async {
            loop {
                clock.sleep_until(clock.now() + LOOK_INTERVAL).await;
                look(&followed, &mut seen).await;
            }
        };
        let _: Result<(), _> = shutdown.or(following).await;
        Ok::<(), Infallible>(())
    });
}

/// Has the files read again if they have changed since they were `seen`.
pub(crate) async fn look(followed: &Arc<impl Followed>, seen: &mut Stamps) {
    let (looking, before) = (followed.clone(), seen.clone());
    *seen = blocking(move || {
        let now = stamps(&looking.files());
        if now != before {
            looking.read_again();
        }
        now
    })
    .await;
}
