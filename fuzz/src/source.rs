//! What a process could be started with, as the lines of an input.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use node::config::Source;

/// Arguments, variables and a configuration file.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) arguments: Vec<OsString>,
    pub(crate) variables: Vec<(OsString, OsString)>,
    pub(crate) file: Option<String>,
}

impl Lines {
    /// Reads lines `-argument`, `$NAME=value`, and `=` in front of a line of the file. Any other is an argument, too.
    pub(crate) fn read(input: &[u8]) -> Lines {
        let mut lines = Lines::default();
        for line in input.split(|&byte| byte == b'\n') {
            match line.split_first() {
                Some((b'$', rest)) => {
                    let at = rest.iter().position(|&byte| byte == b'=').unwrap_or(rest.len());
                    let (name, value) = rest.split_at(at);
                    let value = value.get(1..).unwrap_or_default();
                    lines
                        .variables
                        .push((OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())));
                }
                Some((b'=', rest)) => {
                    let file = lines.file.get_or_insert_default();
                    file.push_str(&String::from_utf8_lossy(rest));
                    file.push('\n');
                }
                Some(_) => lines.arguments.push(OsString::from_vec(line.to_vec())),
                None => {}
            }
        }
        lines
    }
}

impl Source for Lines {
    fn arguments(&self) -> Vec<OsString> {
        self.arguments.clone()
    }

    fn variables(&self) -> Vec<(OsString, OsString)> {
        self.variables.clone()
    }

    fn read_file(&self, _: &Path) -> io::Result<String> {
        self.file.clone().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
