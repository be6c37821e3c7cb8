use base::Random;

use crate::config::{Config, EngineKind};

/// What a server is called that was given no name: where it is the only one as etcd calls it, else by its machine, with a
/// random part, because several may run on one.
pub(crate) fn with_name(config: &Config, random: &dyn Random) -> Config {
    let mut config = config.clone();
    if config.name.is_empty() {
        config.name = match config.engine {
            EngineKind::Embedded | EngineKind::Memory => "default".to_owned(),
            EngineKind::Tikv => format!("{}-{:08x}", machine(), random.next_u64() >> 32),
        };
    }
    config
}

fn machine() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "orlop".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use base::SeededRandom;

    use super::*;
    use crate::config::{Command, read};

    struct Arguments(&'static [&'static str]);

    impl crate::config::Source for Arguments {
        fn arguments(&self) -> Vec<std::ffi::OsString> {
            self.0.iter().map(Into::into).collect()
        }

        fn variables(&self) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
            Vec::new()
        }

        fn read_file(&self, _: &std::path::Path) -> std::io::Result<String> {
            Err(std::io::ErrorKind::NotFound.into())
        }
    }

    fn named(arguments: &'static [&'static str], seed: u64) -> String {
        match read(&Arguments(arguments)) {
            Ok(Command::Serve(config)) => with_name(&config, &SeededRandom::new(seed)).name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_server_among_several_gets_a_name_of_its_own() {
        assert_eq!(named(&[], 1), "default");
        assert_eq!(named(&["--engine=memory", "--name=a"], 1), "a");
        if cfg!(feature = "tikv") {
            let on_tikv = |seed| named(&["--engine=tikv", "--pd-endpoints=pd:1"], seed);
            assert!(on_tikv(1) == on_tikv(1) && on_tikv(1) != on_tikv(2), "{}", on_tikv(1));
            assert_eq!(named(&["--engine=tikv", "--pd-endpoints=pd:1", "--name=a"], 1), "a");
        }
    }
}
