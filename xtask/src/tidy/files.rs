//! The project's text files.

use std::fs;
use std::path::{Path, PathBuf};

/// Built, run or found, not written.
const SKIPPED_DIRS: [&str; 4] = ["target", ".git", "orlop-data", "corpus"];
/// Written by tools or by others. `.git` is a file in a linked worktree.
const SKIPPED_FILES: [&str; 4] = ["Cargo.lock", "go.sum", "LICENSE", ".git"];

/// A file of the project, its path relative to the checkout.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// Reads every text file of the checkout, in the order of their paths.
pub(super) fn read(root: &Path) -> Result<Vec<File>, String> {
    let mut files = Vec::new();
    let mut dirs = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        let entries = dir.read_dir().map_err(|error| format!("reading {}: {error}", dir.display()))?;
        for entry in entries {
            let entry = entry.map_err(|error| format!("reading {}: {error}", dir.display()))?;
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry.file_type().map_err(|error| format!("reading {}: {error}", path.display()))?;
            if kind.is_dir() && !SKIPPED_DIRS.iter().any(|skipped| name == *skipped) {
                dirs.push(path);
            } else if kind.is_file() && !SKIPPED_FILES.iter().any(|skipped| name == *skipped) {
                let bytes =
                    fs::read(&path).map_err(|error| format!("reading {}: {error}", path.display()))?;
                // What is not text (an image) has no rules here.
                if let Ok(text) = String::from_utf8(bytes) {
                    let relative = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
                    files.push(File { path: relative, text });
                }
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
