//! Writes the descriptors of `proto/` to the file named by the only argument, for the comparison with etcd's own.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        return Err("give one argument: the file to write the descriptors to".into());
    };
    std::fs::write(&path, proto::FILE_DESCRIPTOR_SET)
        .map_err(|error| format!("cannot write the descriptors to {}: {error}", path.display()).into())
}
