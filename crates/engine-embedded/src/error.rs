use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a data directory could not be opened. Nothing in it was changed, except that a torn tail may have been
/// cut off.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has the directory open.
    #[error("the data directory {} is in use by another process{}; stop that process, or choose another directory",
        .dir.display(), .pid.map(|pid| format!(" (process id {pid})")).unwrap_or_default())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process that has it, when it could be learnt.
        pid: Option<u32>,
    },
    /// There is nothing to read.
    #[error("{} holds no data of Orlop; is it the directory that --data-dir of the server names?", .dir.display())]
    Absent {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory was written by a later version of this software.
    #[error("the data directory {} has format version {found}, this program reads up to {supported}; \
        use the program version that wrote it, or a later one", .dir.display())]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// The version that the directory has.
        found: u32,
        /// The highest version that this program reads.
        supported: u32,
    },
    /// A file of the directory is not what was written, or is missing.
    #[error("the data file {} is damaged at offset {offset}: {reason}; restore the directory from a backup, \
        and do not delete single files: acknowledged writes would be lost", .file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where the damage was found.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting cannot be used.
    #[error("the setting {setting} of the embedded engine is {value}: {reason}")]
    Config {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: u64,
        /// Why it is refused.
        reason: &'static str,
    },
    /// The operating system refused an operation.
    #[error("{operation} {} failed: {source}", .path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system answered.
        source: io::Error,
    },
}
