//! A command line without environment and files.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use node::config::Source;

pub struct Arguments(pub Vec<String>);

impl Source for Arguments {
    fn arguments(&self) -> Vec<OsString> {
        self.0.iter().map(Into::into).collect()
    }

    fn variables(&self) -> Vec<(OsString, OsString)> {
        Vec::new()
    }

    fn read_file(&self, _: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
}
