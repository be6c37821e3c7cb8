use std::ffi::OsString;
use std::io;
use std::path::Path;

/// Where a configuration is read from, so that a test can bring its own.
pub trait Source {
    /// What stands on the command line behind the program's name.
    fn arguments(&self) -> Vec<OsString>;

    /// Every environment variable.
    fn variables(&self) -> Vec<(OsString, OsString)>;

    /// The text of a file.
    fn read_file(&self, path: &Path) -> io::Result<String>;
}

/// The source that this process was started with.
#[derive(Clone, Copy, Debug)]
pub struct Process;

impl Source for Process {
    fn arguments(&self) -> Vec<OsString> {
        std::env::args_os().skip(1).collect()
    }

    fn variables(&self) -> Vec<(OsString, OsString)> {
        std::env::vars_os().collect()
    }

    fn read_file(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }
}
