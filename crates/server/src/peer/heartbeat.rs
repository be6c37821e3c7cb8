//! Saying to the leader that this process lives; and, while it leads, keeping the table of those who do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base::{Clock, Shutdown};
use fleet::Refused;
use layout::system::Alarm;
use partition::System;
use proto::peer::{JoinRequest, JoinResponse, Refusal};
use thiserror::Error;
use tracing::{debug, info, warn};

use super::convert::member_to_wire;
use super::{Connection, Departure, Peers, remote};

/// How often a member speaks in a lease: one message may be late or lost.
const BEATS_PER_LEASE: u32 = 4;
/// How often in a row a member hears that it belongs elsewhere before it believes so: the address of a leader that died
/// may have been given to another cluster's server, and then somebody else leads within a lease.
const WRONG_CLUSTER_MAX: u32 = 3 * BEATS_PER_LEASE;
/// How long a goodbye may take: nobody depends on it.
const GOODBYE_TIME_MAX: Duration = Duration::from_millis(200);
/// How long an answer about the server's state waits for what the leader says of alarms.
const ALARMS_TIME_MAX: Duration = Duration::from_millis(500);

/// The server leaves the fleet.
#[derive(Debug, Error)]
pub(crate) enum Left {
    /// It is not taken.
    #[error("{0}")]
    Refused(String),
    /// It is cut off from the others.
    #[error(
        "fewer than half of the members were heard from for a lease: another server should lead, which reaches them"
    )]
    CutOff,
}

pub(crate) struct Heartbeat {
    peers: Arc<Peers>,
    system: System,
    clock: Arc<dyn Clock>,
    /// How often in a row the leader said that it serves another store.
    wrong_cluster: u32,
    /// Where this member stands in the leader's list, for [`super::follow::Following`].
    rank: Arc<AtomicU32>,
}

impl Heartbeat {
    pub(crate) fn new(
        (peers, system): (Arc<Peers>, System),
        clock: Arc<dyn Clock>,
        rank: Arc<AtomicU32>,
    ) -> Heartbeat {
        Heartbeat { peers, system, clock, wrong_cluster: 0, rank }
    }

    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Result<(), Left> {
        let mut link = self.peers.standing.link.clone();
        let interval = self.peers.fleet.leader_lease / BEATS_PER_LEASE;
        loop {
            let next = self.clock.now() + interval;
            let beat = async {
                self.beat(interval).await?;
                tokio::select! {
                    biased;
                    // Another leader knows nobody yet.
                    () = link.changed() => {}
                    () = self.clock.sleep_until(next) => {}
                }
                Ok(())
            };
            match shutdown.or(beat).await {
                Ok(Ok(())) => {}
                Ok(Err(left)) => {
                    self.leave(&left);
                    return Err(left);
                }
                Err(_) => break,
            }
        }
        self.say_goodbye().await;
        Ok(())
    }

    async fn beat(&mut self, time_max: Duration) -> Result<(), Left> {
        if self.peers.standing.leads_here() {
            return self.beat_here();
        }
        let Some(connection) = self.peers.standing.link.connection() else { return Ok(()) };
        let leader = connection.peer.clone();
        let begun = self.clock.now();
        let answer = tokio::select! {
            biased;
            answer = join(&self.peers, connection, false) => answer,
            () = self.clock.sleep_until(self.clock.now() + time_max) => Err("no answer in time".to_owned()),
        };
        match answer {
            Ok(JoinResponse { refusal, cluster_id, members, alarms, .. }) => {
                let id = fleet::member_id(self.peers.cluster_id, &leader.name);
                self.peers.metrics.round_trip(id, self.clock.now().saturating_sub(begun));
                let own = &self.peers.own.name;
                let before = members.iter().filter(|member| member.name != leader.name && member.name < *own);
                self.rank.store(u32::try_from(before.count()).unwrap_or(u32::MAX), Ordering::Relaxed);
                let refusal = Refusal::try_from(refusal).unwrap_or(Refusal::NotLeading);
                if refusal == Refusal::None {
                    hear_of(&self.system, alarms);
                }
                self.judge(refusal, cluster_id, &leader)
            }
            Err(error) => {
                self.peers.metrics.heartbeats_failed.inc();
                debug!(leader = leader.name, error, "the leader does not answer");
                Ok(())
            }
        }
    }

    fn judge(&mut self, refusal: Refusal, found: u64, leader: &fleet::Peer) -> Result<(), Left> {
        if refusal != Refusal::WrongCluster {
            self.wrong_cluster = 0;
        }
        let fleet::Peer { name, url, .. } = leader;
        match refusal {
            Refusal::None => Ok(()),
            Refusal::NotLeading => {
                debug!(leader = name, "it does not lead (any more)");
                Ok(())
            }
            Refusal::WrongCluster => {
                self.wrong_cluster += 1;
                let own = self.peers.cluster_id;
                let problem = format!(
                    "the leader {name} is said to listen on {url}, but a server of cluster {found:016x} answers \
                     there, and this is cluster {own:016x}: give each server --advertise-peer-urls of its own, \
                     under which the others reach it"
                );
                if self.wrong_cluster > WRONG_CLUSTER_MAX {
                    return Err(Left::Refused(problem));
                }
                warn!(problem, "the leader cannot be reached");
                Ok(())
            }
            Refusal::Replaced => Err(Left::Refused(self.replaced())),
            Refusal::Full => {
                Err(Left::Refused("the store has as many servers as are taken: stop some of them".to_owned()))
            }
        }
    }

    fn replaced(&self) -> String {
        let name = &self.peers.own.name;
        format!(
            "another server was started with the name {name:?}, and takes the place of this one: give each server a \
             --name of its own"
        )
    }

    /// The leader is a member as the others are.
    fn beat_here(&self) -> Result<(), Left> {
        let now = self.clock.now();
        let mut members = self.peers.members.lock();
        match members.heard(self.peers.own.clone(), now) {
            Err(Refused::Replaced) => return Err(Left::Refused(self.replaced())),
            // Others fill the table: the leader serves nevertheless.
            Ok(()) | Err(Refused::Full) => {}
        }
        match members.is_cut_off(now) {
            true => Err(Left::CutOff),
            false => Ok(()),
        }
    }

    fn leave(&self, left: &Left) {
        let departure = match left {
            Left::Refused(reason) => Departure::Refused(reason.clone()),
            Left::CutOff => Departure::CutOff,
        };
        // The first reason counts.
        let _ = self.peers.departure.set(departure);
    }

    async fn say_goodbye(&self) {
        let Some(connection) = self.peers.standing.link.connection() else { return };
        let late = self.clock.now() + GOODBYE_TIME_MAX;
        let said = tokio::select! {
            biased;
            said = join(&self.peers, connection, true) => said.map(drop),
            () = self.clock.sleep_until(late) => Err("no answer in time".to_owned()),
        };
        match said {
            Ok(()) => info!("the leader knows that this server stops"),
            Err(error) => debug!(error, "the leader was not told that this server stops"),
        }
    }
}

fn hear_of(system: &System, alarms: Vec<i32>) {
    let known = |alarm: i32| u8::try_from(alarm).ok().and_then(Alarm::from_number);
    system.heard_of(alarms.into_iter().filter_map(known));
}

/// Has the leader say now which alarms are raised: whoever has just raised one is told of it here too. Without an answer in
/// time it stays at what it said last.
pub(crate) async fn ask_for_alarms(peers: &Peers, system: &System, clock: &dyn Clock) {
    if peers.standing.leads_here() {
        return;
    }
    let Some(connection) = peers.standing.link.connection() else { return };
    let late = clock.now() + ALARMS_TIME_MAX;
    tokio::select! {
        biased;
        answer = join(peers, connection, false) => match answer {
            Ok(JoinResponse { refusal, alarms, .. }) if refusal == Refusal::None as i32 => hear_of(system, alarms),
            Ok(_) => {}
            Err(error) => debug!(error, "the leader does not say which alarms are raised"),
        },
        () = clock.sleep_until(late) => {}
    }
}

async fn join(peers: &Peers, connection: Connection, leaves: bool) -> Result<JoinResponse, String> {
    let member = Some(member_to_wire(peers.own.clone()));
    let request = JoinRequest { cluster_id: peers.cluster_id, member, leaves };
    let answered = remote::client(connection).join(request).await;
    answered.map(tonic::Response::into_inner).map_err(|status| status.to_string())
}
