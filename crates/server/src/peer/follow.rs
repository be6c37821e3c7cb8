//! Following what the leader publishes, and the log in the engine where that is missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base::{Clock, Shutdown};
use partition::{Applied, Leader, ReadFailure, Replica, Store, Through};
use proto::peer::{FollowRequest, FollowResponse};
use thiserror::Error;
use tonic::Streaming;
use tracing::{debug, info, warn};

use super::convert::{batch_from_wire, revision_from_wire};
use super::owners::Owners;
use super::{Connection, Heard, Link, remote};
use crate::metrics::FleetMetrics;

/// The pause before a stream that broke is made again: doubled each time, up to the maximum.
const AGAIN_AFTER_MIN: Duration = Duration::from_millis(10);
const AGAIN_AFTER_MAX: Duration = Duration::from_millis(200);
/// How long a leader may take to begin a stream.
const BEGIN_TIME_MAX: Duration = Duration::from_secs(2);
/// After a leader's stream has ended the log is looked at so often, in case that the leader has given up.
const LOOKS_MAX: u32 = 100;
/// And the pause between two of these looks.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// One member after the other begins to look, so that they do not take over at the same time, in each other's way. About
/// as long as a takeover.
const LOOK_TURN: Duration = Duration::from_millis(80);
/// Whoever comes later does not wait longer: the others may be dead.
const LOOK_TURNS_MAX: u32 = 4;

/// This process cannot follow any more.
#[derive(Debug, Error)]
pub(crate) enum Lost {
    /// What it has missed is no longer in the log.
    #[error("history was given up beyond what this server has seen: it has to load the store anew ({0})")]
    Compacted(ReadFailure),
    /// What is stored is damaged, or the store is closed.
    #[error("the log cannot be followed: {0}")]
    Read(ReadFailure),
}

/// Why a stream is no longer followed.
enum End {
    /// It did not begin, because the one asked does not lead yet, perhaps: the text says why.
    NotBegun(String),
    /// It ended: the text says why.
    Broken(String),
    /// There is another leader, or this process leads.
    Changed,
}

/// Follows until `shutdown`, or until this process leads. Never stops otherwise: an error is one that only a new start
/// helps against.
pub(crate) struct Following {
    pub(crate) heard: Arc<Heard>,
    pub(crate) owners: Arc<Owners>,
    pub(crate) metrics: Arc<FleetMetrics>,
    pub(crate) store: Store,
    pub(crate) link: Link,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cluster_id: u64,
    pub(crate) name: String,
    /// How often the log is read while there is no stream.
    pub(crate) interval: Duration,
    /// How many other members are before this one in the leader's list, itself left out.
    pub(crate) rank: Arc<AtomicU32>,
}

impl Following {
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), Lost> {
        let mut leading = self.store.leading();
        tokio::select! {
            biased;
            () = shutdown.begun() => Ok(()),
            // The owner needs no feeding.
            _ = leading.wait_for(|leads| *leads) => Ok(()),
            lost = self.follow() => Err(lost),
        }
    }

    async fn follow(&self) -> Lost {
        let mut link = self.link.clone();
        let mut again_after = AGAIN_AFTER_MIN;
        loop {
            let Some(connection) = link.connection() else {
                if let Err(lost) = self.read_log(Through::AllButNewest).await {
                    return lost;
                }
                tokio::select! {
                    biased;
                    () = link.changed() => {}
                    () = self.clock.sleep_until(self.clock.now() + self.interval) => {}
                }
                continue;
            };
            let (begun, term) = (self.clock.now(), connection.peer.term);
            let end = match self.follow_one(connection, &mut link).await {
                Ok(end) => end,
                Err(lost) => return lost,
            };
            match end {
                End::Changed => {
                    again_after = AGAIN_AFTER_MIN;
                    continue;
                }
                End::NotBegun(reason) => debug!(reason, "the leader's stream cannot be followed"),
                End::Broken(reason) => {
                    info!(reason, "the leader's stream is not followed any more");
                    self.look_for_another(term).await;
                }
            }
            // One that has lasted was a good one.
            if self.clock.now() - begun > AGAIN_AFTER_MAX {
                again_after = AGAIN_AFTER_MIN;
            }
            self.clock.sleep_until(self.clock.now() + again_after).await;
            again_after = (again_after * 2).min(AGAIN_AFTER_MAX);
        }
    }

    /// Follows the stream of one leader. Nothing is missed: what was published before it is read from the log.
    async fn follow_one(&self, connection: Connection, link: &mut Link) -> Result<End, Lost> {
        let id = connection.id;
        let leader = connection.peer.name.clone();
        let mut stream = match self.begin(connection).await {
            Ok(stream) => stream,
            Err(reason) => return Ok(End::NotBegun(reason)),
        };
        let replica = self.store.replica();
        info!(leader, revision = replica.position().get(), "following the leader");
        loop {
            let item = tokio::select! {
                biased;
                () = link.changed() => match link.connection() {
                    Some(now) if now.id == id => continue,
                    _ => return Ok(End::Changed),
                },
                item = stream.message() => item,
            };
            let item = match item {
                Ok(Some(item)) => item,
                Ok(None) => return Ok(End::Broken("it has ended".to_owned())),
                Err(status) => return Ok(End::Broken(format!("{}: {}", status.code(), status.message()))),
            };
            if let Err(reason) = self.take(&replica, item).await? {
                warn!(leader, reason, "the leader's stream cannot be used");
                return Ok(End::Broken(reason));
            }
        }
    }

    async fn begin(&self, connection: Connection) -> Result<Streaming<FollowResponse>, String> {
        let request = FollowRequest { cluster_id: self.cluster_id, name: self.name.clone() };
        let mut client = remote::client(connection);
        tokio::select! {
            biased;
            begun = client.follow(request) => match begun {
                Ok(response) => Ok(response.into_inner()),
                Err(status) => Err(format!("{}: {}", status.code(), status.message())),
            },
            () = self.clock.sleep_until(self.clock.now() + BEGIN_TIME_MAX) => {
                Err("the leader did not begin it in time".to_owned())
            }
        }
    }

    /// Takes what the leader sent; the inner error says why the stream is of no more use.
    async fn take(&self, replica: &Replica, item: FollowResponse) -> Result<Result<(), String>, Lost> {
        let FollowResponse { batch, compacted, published, owners } = item;
        if let Some(owners) = owners {
            self.owners.heard(owners);
        }
        if let Some(compacted) = compacted {
            match revision_from_wire(compacted) {
                Ok(compacted) => replica.compacted(compacted),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        if let Some(published) = published {
            let through = match revision_from_wire(published) {
                Ok(published) => {
                    self.heard.of(published);
                    Through::Published(published)
                }
                Err(reason) => return Ok(Err(reason)),
            };
            if let Err(reason) = self.read_log(through).await? {
                return Ok(Err(reason));
            }
        }
        let batch = match batch.map(batch_from_wire).transpose() {
            Ok(Some(batch)) => {
                self.heard.of(batch.revision);
                Arc::new(batch)
            }
            Ok(None) => return Ok(Ok(())),
            Err(reason) => return Ok(Err(reason)),
        };
        if replica.apply(batch.clone()).await != Applied::Gap {
            return Ok(Ok(()));
        }
        debug!(after = batch.after.get(), position = replica.position().get(), "a batch is missing");
        if let Err(reason) = self.read_log(Through::Published(batch.after)).await? {
            return Ok(Err(reason));
        }
        match replica.apply(batch).await {
            Applied::Gap => Ok(Err("the log lacks what came before a published batch".to_owned())),
            Applied::Done | Applied::Known => Ok(Ok(())),
        }
    }

    /// Reads the log so far; the inner error says why the engine does not answer.
    async fn read_log(&self, through: Through) -> Result<Result<(), String>, Lost> {
        self.metrics.log_reads.inc();
        match self.store.replica().catch_up(through).await {
            Ok(_) => Ok(Ok(())),
            Err(ReadFailure::Unavailable(reason)) => {
                debug!(error = reason, "the log cannot be read");
                Ok(Err(reason))
            }
            Err(failure @ ReadFailure::Compacted(_)) => Err(Lost::Compacted(failure)),
            Err(failure) => Err(Lost::Read(failure)),
        }
    }

    /// The leader of `term` may have given up: whoever sees it first leads next, so the log is looked at more often for a while.
    async fn look_for_another(&self, term: u64) {
        let mut leader = self.store.leader();
        let is_later = |leader: &Option<Leader>| leader.as_ref().is_some_and(|leader| leader.epoch.0 > term);
        let turn = self.rank.load(Ordering::Relaxed).min(LOOK_TURNS_MAX);
        self.clock.sleep_until(self.clock.now() + LOOK_TURN * turn).await;
        for _ in 0..LOOKS_MAX {
            self.store.look_now();
            tokio::select! {
                biased;
                _ = leader.wait_for(is_later) => return,
                () = self.clock.sleep_until(self.clock.now() + LOOK_PAUSE) => {}
            }
        }
    }
}
