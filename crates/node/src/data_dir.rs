use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Only the owner: the directory holds Secrets.
const MODE: u32 = 0o700;

/// Creates the data directory, if it is missing, for its owner only. One that exists stays as it is.
pub(crate) fn create(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(MODE).create(dir)?;
    // A power cut must not take the directory's name away, and everything in it with it.
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_directory_is_for_its_owner_only_and_an_old_one_stays_as_it_is() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        create(&dir).unwrap();
        let mode = |dir: &Path| dir.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&temp.path().join("a"))), (0o700, 0o700));
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o750)).unwrap();
        create(&dir).unwrap();
        assert_eq!(mode(&dir), 0o750);
    }
}
