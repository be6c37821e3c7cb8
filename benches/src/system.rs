//! The systems that are compared: what starts them, each time fresh, and what they cost.

mod child;
pub(crate) mod floor;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{Clock, SystemClock};
use proto::etcdserverpb::RangeResponse;

use crate::connection::{Connection, Error};
use crate::cost::{self, Cost};
use crate::requests;
use child::Child;

/// Where the programs are.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Programs {
    /// The program orlop
    #[arg(long, value_name = "FILE", default_value = "target/release/orlop")]
    orlop: PathBuf,
    /// The program etcd
    #[arg(long, value_name = "FILE", default_value = "target/tools/etcd")]
    etcd: PathBuf,
    /// The program kine
    #[arg(long, value_name = "FILE", default_value = "target/tools/kine")]
    kine: PathBuf,
    /// The TiKV server for tests
    #[arg(long, value_name = "FILE", default_value = "target/tools/tikv-server")]
    tikv_server: PathBuf,
}

/// One system, by what starts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// Decodes a request and answers it at once; on a runtime with so many threads (0: one for each core).
    Floor(usize),
    /// Orlop on its embedded engine.
    Orlop,
    /// Orlop on the TiKV server for tests, by so many processes.
    Tikv(usize),
    /// etcd, one member.
    Etcd,
    /// kine on SQLite, made to sync each transaction.
    Kine,
    /// Something that runs already.
    Peer { name: String, address: String, pid: Option<u32> },
}

/// Those that are compared unless others are named.
pub(crate) const DEFAULT: [&str; 5] = ["floor", "floor-one-thread", "orlop", "etcd", "kine"];

/// The most front ends on TiKV that can be asked for: this is one machine.
const FRONT_ENDS_MAX: usize = 9;

impl System {
    /// The system of this name.
    pub(crate) fn parse(name: &str) -> Result<System, String> {
        if let Some(count) = name.strip_prefix("tikv-").and_then(|count| count.parse().ok())
            && (1..=FRONT_ENDS_MAX).contains(&count)
        {
            return Ok(System::Tikv(count));
        }
        match name {
            "floor" => Ok(System::Floor(0)),
            "floor-one-thread" => Ok(System::Floor(1)),
            "orlop" => Ok(System::Orlop),
            "etcd" => Ok(System::Etcd),
            "kine" => Ok(System::Kine),
            _ => {
                Err(format!("there is no such system; there are {}, tikv-1, tikv-2, ...", DEFAULT.join(", ")))
            }
        }
    }

    /// A peer as NAME=URL or NAME=URL,PID.
    pub(crate) fn parse_peer(text: &str) -> Result<System, String> {
        let usage =
            "a peer is NAME=http://HOST:PORT, with its process id behind a comma if it is on this machine";
        let (name, rest) = text.split_once('=').ok_or(usage)?;
        let (url, pid) = match rest.split_once(',') {
            Some((url, pid)) => (url, Some(pid.parse().map_err(|_| usage)?)),
            None => (rest, None),
        };
        let address = url.strip_prefix("http://").ok_or(usage)?.trim_end_matches('/');
        Ok(System::Peer { name: name.to_owned(), address: address.to_owned(), pid })
    }

    /// What it is called in tables.
    pub(crate) fn name(&self) -> String {
        match self {
            System::Floor(0) => "floor".into(),
            System::Floor(_) => "floor-one-thread".into(),
            System::Orlop => "orlop".into(),
            System::Tikv(count) => format!("tikv-{count}"),
            System::Etcd => "etcd".into(),
            System::Kine => "kine".into(),
            System::Peer { name, .. } => name.clone(),
        }
    }

    /// Whether it can take many keys within a reasonable time. A transaction of kine's has one operation.
    pub(crate) fn has_large_transactions(&self) -> bool {
        *self != System::Kine
    }

    /// Whether it keeps what is written to it.
    pub(crate) fn is_store(&self) -> bool {
        !matches!(self, System::Floor(_))
    }

    /// Starts it on an empty store in `dir`, and waits until it answers.
    pub(crate) async fn start(
        &self,
        programs: &Programs,
        dir: &Path,
        value_bytes: usize,
    ) -> Result<Running, Error> {
        let mut running = Running {
            system: self.clone(),
            programs: programs.clone(),
            dir: dir.to_path_buf(),
            endpoints: Vec::new(),
            value_bytes,
            store: None,
            front: Vec::new(),
        };
        running.start().await?;
        Ok(running)
    }
}

/// A system that runs. It is killed when this is dropped.
pub(crate) struct Running {
    pub(crate) system: System,
    programs: Programs,
    dir: PathBuf,
    /// Where it listens, as "host:port".
    pub(crate) endpoints: Vec<String>,
    value_bytes: usize,
    /// What stores for it, in a process of its own.
    store: Option<Child>,
    front: Vec<Child>,
}

/// How long a start may take: a large store is read first.
const START_TIME_MAX: Duration = Duration::from_secs(120);
/// How often a start is looked at.
const START_POLL: Duration = Duration::from_millis(5);

impl Running {
    async fn start(&mut self) -> Result<(), Error> {
        if let System::Peer { address, .. } = &self.system {
            self.endpoints = vec![address.clone()];
            return self.answers().await;
        }
        let count = if let System::Tikv(count) = self.system { count } else { 1 };
        let pd = match self.system {
            System::Tikv(_) => Some(self.tikv_server().await?),
            _ => None,
        };
        self.endpoints.clear();
        for number in 0..count {
            let address = free_address()?;
            let args = self.arguments(&address, number, pd.as_deref())?;
            let program = match &self.system {
                System::Floor(_) => std::env::current_exe()?,
                System::Etcd => self.programs.etcd.clone(),
                System::Kine => self.programs.kine.clone(),
                _ => self.programs.orlop.clone(),
            };
            self.front.push(Child::start(&program, &args, &self.dir, &format!("front-{number}"))?);
            self.endpoints.push(address);
        }
        self.answers().await
    }

    /// Starts the store, unless it runs, and says where its PD is.
    async fn tikv_server(&mut self) -> Result<String, Error> {
        if self.store.is_none() {
            let data = self.dir.join("tikv").display().to_string();
            let args = ["--tied".to_owned(), "--data".to_owned(), data];
            self.store = Some(Child::start(&self.programs.tikv_server, &args, &self.dir, "store")?);
        }
        let deadline = SystemClock.now() + START_TIME_MAX;
        while let Some(store) = &mut self.store {
            let said: Option<serde_json::Value> =
                store.output().lines().next().and_then(|line| serde_json::from_str(line).ok());
            if let Some(pd) = said.as_ref().and_then(|said| said.get("pd")?.as_str()) {
                return Ok(pd.to_owned());
            }
            store.lives()?;
            if SystemClock.now() > deadline {
                break;
            }
            SystemClock.sleep_until(SystemClock.now() + START_POLL).await;
        }
        Err("the TiKV server does not say where its PD is".into())
    }

    fn arguments(&self, address: &str, number: usize, pd: Option<&str>) -> Result<Vec<String>, Error> {
        let url = format!("http://{address}");
        let data = self.dir.join(format!("data-{number}"));
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        let text = data.display().to_string();
        Ok(match &self.system {
            System::Floor(threads) => vec![
                "floor".into(),
                flag("listen", address),
                flag("threads", &threads.to_string()),
                flag("value-bytes", &self.value_bytes.to_string()),
            ],
            System::Etcd => {
                let peer = format!("http://{}", free_address()?);
                vec![
                    flag("data-dir", &text),
                    flag("listen-client-urls", &url),
                    flag("advertise-client-urls", &url),
                    flag("listen-peer-urls", &peer),
                    flag("initial-advertise-peer-urls", &peer),
                    flag("initial-cluster", &format!("default={peer}")),
                    flag("log-level", "error"),
                    // As a large cluster sets it; the default refuses writes at 2 GiB.
                    flag("quota-backend-bytes", &(8_u64 << 30).to_string()),
                ]
            }
            System::Kine => {
                std::fs::create_dir_all(&data)?;
                // As its defaults, but that each transaction is synced, as everywhere else here.
                let settings = "_journal_mode=WAL&_busy_timeout=30000&_synchronous=FULL&_txlock=immediate\
                                &_stmt_cache_size=20&cache=shared";
                vec![
                    flag("endpoint", &format!("sqlite://{text}/state.db?{settings}")),
                    flag("listen-address", &format!("tcp://{address}")),
                    flag("metrics-bind-address", "0"),
                ]
            }
            _ => {
                let mut args =
                    vec!["serve".into(), flag("listen-client-urls", &url), flag("log-level", "warn")];
                match pd {
                    Some(pd) => {
                        let peer = format!("http://{}", free_address()?);
                        let flags = [("engine", "tikv"), ("pd-endpoints", pd), ("listen-peer-urls", &peer)];
                        args.extend(flags.map(|(name, value)| flag(name, value)));
                    }
                    None => args.push(flag("data-dir", &text)),
                }
                args
            }
        })
    }

    /// Waits until every endpoint answers a read.
    async fn answers(&mut self) -> Result<(), Error> {
        let deadline = SystemClock.now() + START_TIME_MAX;
        for address in &self.endpoints {
            loop {
                let failed = match answers(address).await {
                    Ok(()) => break,
                    Err(error) => error,
                };
                for child in &mut self.front {
                    child.lives()?;
                }
                if SystemClock.now() > deadline {
                    let name = self.system.name();
                    return Err(format!("{name} does not answer at {address}: {failed}").into());
                }
                SystemClock.sleep_until(SystemClock.now() + START_POLL).await;
            }
        }
        Ok(())
    }

    /// Whether [`Running::restart`] can be used.
    pub(crate) fn can_restart(&self) -> bool {
        self.system.is_store() && !matches!(self.system, System::Peer { .. })
    }

    /// Stops the process and starts it again on what it has stored; returns the time from its start to its first
    /// answer. With `kill` it is not asked, but killed.
    pub(crate) async fn restart(&mut self, kill: bool) -> Result<Duration, Error> {
        for child in &mut self.front {
            child.stop(kill).await?;
        }
        self.front.clear();
        let began = SystemClock.now();
        self.start().await?;
        Ok(SystemClock.now() - began)
    }

    /// The processes that answer.
    pub(crate) fn pids(&self) -> Vec<u32> {
        match &self.system {
            System::Peer { pid, .. } => pid.iter().copied().collect(),
            _ => self.front.iter().map(Child::pid).collect(),
        }
    }

    /// What the processes that answer cost; nothing for a peer without a process id.
    pub(crate) fn cost(&self) -> Result<Option<Cost>, Error> {
        let pids = self.pids();
        Ok(if pids.is_empty() { None } else { Some(cost::of_all(&pids)?) })
    }

    /// What the process behind them costs, if there is one.
    pub(crate) fn store_cost(&self) -> Result<Option<Cost>, Error> {
        Ok(self.store.as_ref().map(|store| cost::of(store.pid())).transpose()?)
    }

    /// The bytes on the disk.
    pub(crate) fn disk_bytes(&self) -> Option<u64> {
        self.can_restart().then(|| cost::disk_bytes(&self.dir))
    }
}

async fn answers(address: &str) -> Result<(), Error> {
    let connection = Connection::open(address).await?;
    let path = connection.path("etcdserverpb.KV/Range")?;
    let request = requests::get("/registry/health".into());
    let call = connection.call::<_, RangeResponse>(&path, &request);
    tokio::time::timeout(START_TIME_MAX, call).await??;
    Ok(())
}

/// An address that nobody listens on now.
fn free_address() -> Result<String, Error> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_has_the_name_by_which_it_is_found() {
        for name in DEFAULT.into_iter().chain(["tikv-1", "tikv-3"]) {
            assert_eq!(System::parse(name).unwrap().name(), name);
        }
        assert!(System::parse("tikv-0").is_err() && System::parse("consul").is_err());
    }

    #[test]
    fn a_peer_is_a_name_a_url_and_perhaps_a_process() {
        let peer = System::parse_peer("other=http://127.0.0.1:1234/,77").unwrap();
        let expected = System::Peer { name: "other".into(), address: "127.0.0.1:1234".into(), pid: Some(77) };
        assert_eq!(peer, expected);
        for wrong in ["http://127.0.0.1:1", "a=https://127.0.0.1:1", "a=http://127.0.0.1:1,x"] {
            assert!(System::parse_peer(wrong).is_err(), "{wrong}");
        }
    }
}
