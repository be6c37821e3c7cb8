//! One of several processes that serve a store: what is said to the others, and which calls are carried out where.
//!
//! A process that leads keeps the table of members ([`heartbeat`]), says what is the newest and what is published
//! ([`service`]), and carries out what is forwarded to it. One that does not lead follows what is published
//! ([`follow`]), asks the leader for what is the newest ([`ask`]), and forwards what changes something ([`forward`]).

mod answers;
mod ask;
mod balance;
pub(crate) mod caller;
mod convert;
mod feed;
mod follow;
pub(crate) mod forward;
pub(crate) mod heartbeat;
mod own;
mod owners;
pub(crate) mod remote;
pub(crate) mod service;
mod standing;

use std::convert::Infallible;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base::{Clock, Supervisor, TaskKind};
use fleet::{LinkSettings, Member, Members, Peer, Secure};
use layout::log::Incarnation;
use model::Revision;
use parking_lot::Mutex;
use partition::{Leader, Store};
use tokio::sync::watch;
use tonic::body::Body;
use tracing::warn;

use crate::config::Config;
use crate::metrics::FleetMetrics;
use crate::tls::TlsConnector;
pub(crate) use answers::elsewhere;
use feed::Feeds;
use owners::Owners;
use standing::{Route, Standing};

/// How often in a lease the log is read while there is no stream to follow.
const LOOKS_PER_LEASE: u32 = 8;

/// What one of several servers of a store needs to know.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// How long a leader may be silent; members speak several times in it.
    pub leader_lease: Duration,
    /// Where other members reach this one.
    pub peer_urls: Vec<String>,
    /// The version of the program.
    pub version: String,
    /// Whether the leader gives partitions to the others.
    pub spreads: bool,
    /// What is needed to connect with others by TLS.
    pub tls: Option<TlsConnector>,
}

/// Why a server left the fleet by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The others do not take it, and would not the next time: the text says why, and what to do.
    Refused(String),
    /// It led, and no longer heard from enough of the others: somebody else should lead for now.
    CutOff,
}

/// The server's part in a fleet.
pub(crate) struct Peers {
    pub(crate) own: Member,
    pub(crate) fleet: Fleet,
    pub(crate) cluster_id: u64,
    pub(crate) standing: Standing,
    pub(crate) leader: watch::Receiver<Option<Leader>>,
    /// Who lives; kept while this process leads.
    pub(crate) members: Mutex<Members>,
    pub(crate) feeds: Arc<Feeds>,
    pub(crate) owners: Arc<Owners>,
    /// Whether partitions can have other owners than the leader.
    pub(crate) spreads: bool,
    pub(crate) heard: Arc<Heard>,
    pub(crate) metrics: Arc<FleetMetrics>,
    /// Room for the calls that are forwarded, and for their bytes.
    pub(crate) room: forward::Room,
    pub(crate) departure: Arc<OnceLock<Departure>>,
}

impl Peers {
    /// Takes part in the fleet from now on: follows who leads, once this process is told of by `leads`, which is when
    /// it leads and knows all that it has to.
    pub(crate) fn start(
        store: &Store,
        (config, fleet): (&Config, Fleet),
        leads: watch::Receiver<bool>,
        (clock, supervisor, metrics): (Arc<dyn Clock>, Supervisor, Arc<FleetMetrics>),
    ) -> Arc<Peers> {
        let shutdown = supervisor.shutdown().clone();
        let keepalive = fleet.leader_lease / 2;
        let secure = fleet.tls.clone().map(|tls| -> Arc<dyn Secure> { Arc::new(tls) });
        let settings =
            LinkSettings { clock: clock.clone(), supervisor: supervisor.clone(), keepalive, secure };
        let (link, driver) = fleet::link(settings.clone());
        let own = own_member(store, config, &fleet);
        let partitions = store.keys.partitions();
        let spreads = fleet.spreads && partitions.len() > 1;
        let owners = Arc::new(Owners::new(partitions, own.incarnation, (settings, shutdown.clone())));
        let known = peers_of(store, &own, &supervisor);
        let driven = driver.run(known, shutdown.clone());
        supervisor.spawn("link", TaskKind::Essential, forever(driven));

        let standing = Standing::new(leads, shutdown.clone(), clock.clone(), link.clone());
        let cluster_id = store.cluster_id;
        let heard = Arc::<Heard>::default();
        let question = Arc::new(ask::Question {
            heard: heard.clone(),
            metrics: metrics.clone(),
            cluster_id,
            clock: clock.clone(),
            standing: standing.clone(),
            store: store.clone(),
        });
        let ask = move || {
            let question = question.clone();
            async move { question.ask().await }
        };
        let (asks, asking) = fleet::asks(ask, shutdown.clone());
        supervisor.spawn("questions", TaskKind::Essential, forever(asking));
        store.ask_through(Arc::new(ask::Leader { asks }));

        let rank = Arc::<AtomicU32>::default();
        let feeds = Arc::new(Feeds::default());
        store.keys.follow(feeds.clone());
        store.system.follow(feeds.clone());
        let following = follow::Following {
            heard: heard.clone(),
            metrics: metrics.clone(),
            owners: owners.clone(),
            store: store.clone(),
            link: link.clone(),
            clock: clock.clone(),
            cluster_id,
            name: own.name.clone(),
            interval: fleet.leader_lease / LOOKS_PER_LEASE,
            rank: rank.clone(),
        };
        supervisor.spawn("follow", TaskKind::Essential, following.run(shutdown.clone()));
        if spreads {
            let (store, clock, own) = (store.clone(), clock.clone(), own.clone());
            let owning = own::Owning { store, link, clock, cluster_id, own };
            supervisor.spawn("owning", TaskKind::Essential, forever(owning.run(shutdown.clone())));
        }

        let members = Mutex::new(Members::new(fleet.leader_lease));
        let peers = Arc::new(Peers {
            own,
            cluster_id,
            standing,
            leader: store.leader(),
            members,
            feeds,
            owners,
            spreads,
            heard,
            metrics,
            room: forward::Room::new(),
            departure: Arc::default(),
            fleet,
        });
        let balance = balance::Balance { peers: peers.clone(), store: store.clone(), clock: clock.clone() };
        supervisor.spawn("balance", TaskKind::Essential, forever(balance.run(shutdown.clone())));
        let heartbeat = heartbeat::Heartbeat::new((peers.clone(), store.system.clone()), clock, rank);
        supervisor.spawn("membership", TaskKind::Essential, heartbeat.run(shutdown));
        peers
    }

    /// The member id of whoever leads; `None` while nobody is known to, or none is reached.
    pub(crate) fn leader_id(&self) -> Option<u64> {
        let is_reached = self.standing.leads_here() || self.standing.link.connection().is_some();
        let leader = self.leader.borrow();
        let name = leader.as_ref().map(|leader| leader.name.as_str()).filter(|_| is_reached)?;
        Some(fleet::member_id(self.cluster_id, name))
    }
}

impl Peers {
    /// Why a call that another member forwards is not carried out here; `None` when it is.
    pub(crate) fn refusal_of(&self, path: &str, headers: &http::HeaderMap) -> Option<http::Response<Body>> {
        if answers::cluster_of(headers) != Some(self.cluster_id) {
            return Some(answers::wrong_cluster());
        }
        // The store knows by itself whether it owns the keys.
        let may_own = self.spreads && forward::is_keyed(path);
        (!may_own && !self.standing.takes_forwarded()).then(answers::not_leading)
    }
}

/// The highest revision that the leader was heard to have published.
#[derive(Debug, Default)]
pub(crate) struct Heard(AtomicI64);

impl Heard {
    pub(crate) fn of(&self, revision: Revision) {
        self.0.fetch_max(revision.get(), Ordering::Relaxed);
    }

    /// How many revisions `shown` is behind it.
    pub(crate) fn behind(&self, shown: Revision) -> i64 {
        self.0.load(Ordering::Relaxed).saturating_sub(shown.get()).max(0)
    }
}

/// A link's other end carries bodies as the server has them.
pub(crate) type Link = fleet::Link<Body>;
pub(crate) type Connection = fleet::Connection<Body>;

/// Runs what cannot fail.
async fn forever(work: impl Future<Output = ()>) -> Result<(), Infallible> {
    work.await;
    Ok(())
}

/// Whom to connect with: the leader that the log names, unless it is this process, or was.
fn peers_of(store: &Store, own: &Member, supervisor: &Supervisor) -> watch::Receiver<Option<Peer>> {
    let own = own.clone();
    let peer_of = move |leader: &Option<Leader>| {
        let Leader { epoch, incarnation, name, peer_url } = leader.as_ref()?;
        if incarnation.0 == own.incarnation {
            return None;
        }
        if own.peer_urls.contains(peer_url) {
            if *name != own.name {
                warn!(
                    leader = name,
                    url = peer_url,
                    "the leader is said to listen where this server does: give each server --advertise-peer-urls under \
                     which the others reach it"
                );
            }
            return None;
        }
        Some(Peer { name: name.clone(), term: epoch.0, url: peer_url.clone() })
    };
    let mut leader = store.leader();
    let (peers, known) = watch::channel(peer_of(&leader.borrow_and_update()));
    let shutdown = supervisor.shutdown().clone();
    supervisor.spawn("leaders", TaskKind::Essential, async move {
        while let Ok(Ok(())) = shutdown.or(leader.changed()).await {
            peers.send_replace(peer_of(&leader.borrow_and_update()));
        }
        Ok::<(), Infallible>(())
    });
    known
}

/// How this process describes itself.
fn own_member(store: &Store, config: &Config, fleet: &Fleet) -> Member {
    let Incarnation(incarnation) = store.incarnation;
    Member {
        name: config.name.clone(),
        incarnation,
        client_urls: config.advertise_client_urls.clone(),
        peer_urls: fleet.peer_urls.clone(),
        version: fleet.version.clone(),
    }
}
