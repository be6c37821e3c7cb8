//! Who the clients are and what each of them takes up, so that none takes what the others need.
//!
//! A client is an address: whoever comes from the same one shares its limits. What is over a limit is refused at once,
//! so that refusing costs next to nothing. Only reads without a limit wait, within the bound on calls.

mod call;
mod stalls;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::config::ClientLimits;
use crate::tls::ClientName;
pub(crate) use call::{AnswerBytes, Call};
#[cfg(test)]
use stalls::STALL_TIME_MAX;
pub(crate) use stalls::{Answer, Stalls};

/// The watchers of one connection; kube-apiserver has one or two on each.
pub(crate) const WATCHERS_MAX: usize = 100_000;
/// Reads without a limit that one client has evaluated at a time: each may hold an answer of any size before it is
/// known how large it is. The others wait, for as long as these take.
const UNLIMITED_READS_MAX: usize = 32;

/// All clients that are connected.
pub(crate) struct Clients {
    limits: ClientLimits,
    connected: Mutex<Connected>,
}

#[derive(Default)]
struct Connected {
    connections: usize,
    clients: HashMap<IpAddr, Entry>,
}

struct Entry {
    client: Arc<Client>,
    connections: usize,
}

/// One client: what it takes up on all its connections.
pub(crate) struct Client {
    limits: ClientLimits,
    /// Calls under way.
    calls: AtomicUsize,
    /// Bytes of requests and answers that are in memory for it.
    bytes: AtomicUsize,
    /// Permits for reads without a limit.
    pub(crate) unlimited_reads: Semaphore,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Full {
    /// There are as many as there may be.
    #[error("there are {0} connections already, the most that --max-connections allows")]
    All(usize),
    /// There are as many from its address as there may be from one.
    #[error(
        "there are {0} connections from its address already, the most that --max-connections-per-client allows"
    )]
    Client(usize),
}

/// A connection's place among them, until it is dropped.
pub(crate) struct Seat {
    clients: Arc<Clients>,
    address: IpAddr,
    client: Arc<Client>,
}

/// Who calls: a connection, as its calls see it.
pub(crate) struct Caller {
    seat: Seat,
    /// The name in the client's certificate; none without one.
    pub(crate) name: Option<ClientName>,
    watchers: AtomicUsize,
    /// Answers that wait for the client to take them.
    pub(crate) stalls: Arc<Stalls>,
}

impl Clients {
    pub(crate) fn new(limits: ClientLimits) -> Arc<Clients> {
        Arc::new(Clients { limits, connected: Mutex::default() })
    }

    /// Takes a place for a connection from `address`.
    pub(crate) fn connect(self: &Arc<Clients>, address: IpAddr) -> Result<Seat, Full> {
        let address = whose(address);
        let mut connected = self.connected.lock();
        if connected.connections >= self.limits.connections_max {
            return Err(Full::All(self.limits.connections_max));
        }
        let entry = connected.clients.entry(address).or_insert_with(|| Entry {
            client: Arc::new(Client {
                limits: self.limits.clone(),
                calls: AtomicUsize::new(0),
                bytes: AtomicUsize::new(0),
                unlimited_reads: Semaphore::new(UNLIMITED_READS_MAX),
            }),
            connections: 0,
        });
        // An entry that is new has room: the limit is at least one.
        if entry.connections >= self.limits.connections_per_client_max {
            return Err(Full::Client(self.limits.connections_per_client_max));
        }
        entry.connections += 1;
        let client = entry.client.clone();
        connected.connections += 1;
        Ok(Seat { clients: self.clone(), address, client })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut connected = self.clients.connected.lock();
        connected.connections -= 1;
        if let Some(entry) = connected.clients.get_mut(&self.address) {
            entry.connections -= 1;
            if entry.connections == 0 {
                connected.clients.remove(&self.address);
            }
        }
    }
}

impl Caller {
    pub(crate) fn new(seat: Seat, name: Option<ClientName>) -> Arc<Caller> {
        Arc::new(Caller { seat, name, watchers: AtomicUsize::new(0), stalls: Arc::default() })
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.seat.client
    }

    /// Takes a place for a watcher; false when the connection has as many as it may.
    pub(crate) fn add_watcher(&self) -> bool {
        let took = self.watchers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |watchers| {
            (watchers < WATCHERS_MAX).then_some(watchers + 1)
        });
        took.is_ok()
    }

    /// Gives the places of watchers back.
    pub(crate) fn remove_watchers(&self, count: usize) {
        self.watchers.fetch_sub(count, Ordering::Relaxed);
    }
}

/// Who an address belongs to: of IPv6, a network of /64 is usually one machine's own.
fn whose(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(network).into()
        }
    }
}

#[cfg(test)]
mod tests;
