//! From following to leading: the same state, once the partitions are taken over.

use std::sync::Arc;
use std::time::Duration;

use base::TaskKind;
use layout::log::{PartitionId, Slot};
use layout::meta::{Identity, Leader};
use tokio::sync::{mpsc, watch};
use tracing::info;

use super::loading::{Inherited, Loaded};
use super::takeover::{self, Taken};
use super::{OpenFailure, Opening, Settings, Store, USER, World};
use crate::error::ReadFailure;
use crate::history::History;
use crate::log_writer::{LogWriter, Pen};
use crate::partition::Partition;
use crate::reclaim::{Done, Reclaimer};
use crate::replica::{Replica, Through};
use crate::sequencer::{Command, QUEUE_TXNS_MAX, Sequencer};
use crate::state::{Parts, Shared, State};
use crate::system::{self, QUEUE_CHANGES_MAX, System, SystemSequencer, SystemState};
use crate::values::Values;

/// The pause before a process that failed to lead looks again.
const PAUSE: Duration = Duration::from_millis(100);

/// A process that will lead the store when nobody else does.
pub struct Candidate {
    opening: Opening,
    shared: Arc<Shared>,
    replica: Replica,
    system: Arc<SystemState>,
    /// What is asked of the owner waits here; nothing comes before this process leads.
    commands: mpsc::Receiver<Command>,
    changes: mpsc::Receiver<system::Command>,
    /// For the heartbeats; weak, because the tasks end when nobody else can ask any more.
    beats: mpsc::WeakSender<system::Command>,
    reclaimed: Arc<Done>,
    /// For how long it lets others lead first.
    stands_off: Duration,
}

/// What a process has when it has taken everything over.
struct Promoted {
    user: Taken,
    inherited: Inherited,
}

impl Opening {
    /// The store around what was loaded.
    pub(super) fn assemble(self, identity: Identity, loaded: Loaded) -> (Store, Candidate) {
        let Settings { space, history_bytes_max, cache_bytes_max, .. } = self.settings.clone();
        let Loaded { index, attachments, revision, tables, compacted } = loaded;
        info!(keys = index.len(), revision = revision.get(), "store loaded");
        let system_state = Arc::new(SystemState::new(tables, compacted));
        let state = State { index, attachments, history: History::new(revision, history_bytes_max) };
        let engine = self.world.engine.clone();
        let shared = Arc::new(Shared::new(Parts {
            id: USER,
            owner: self.owner,
            engine: engine.clone(),
            space: space.clone(),
            values: Values::new(engine, space, cache_bytes_max),
            state,
            published: revision,
            compacted: system_state.compacted.clone(),
        }));
        let (to_sequencer, commands) = mpsc::channel(QUEUE_TXNS_MAX);
        let (to_system, changes) = mpsc::channel(QUEUE_CHANGES_MAX);
        let reclaimed = Arc::new(watch::Sender::new(None));
        let (leadership, role) = (self.leadership.clone(), self.role.clone());
        let standing = (leadership.clone(), role.clone(), self.world.clock.clone());
        let beats = to_system.downgrade();
        let replica = Replica::new(shared.clone());
        let store = Store {
            partition: Partition::new(shared.clone(), to_sequencer, reclaimed.clone(), standing),
            system: System {
                state: system_state.clone(),
                commands: to_system,
                leadership,
                role: role.clone(),
            },
            cluster_id: identity.cluster_id,
            incarnation: self.owner,
            role,
            replica: replica.clone(),
        };
        let candidate = Candidate {
            opening: self,
            shared,
            replica,
            system: system_state,
            commands,
            changes,
            beats,
            reclaimed,
            stands_off: Duration::ZERO,
        };
        (store, candidate)
    }

    fn pen(&self, partition: PartitionId, taken: &Taken) -> LogWriter {
        let pen = Pen {
            partition,
            epoch: taken.record.epoch,
            owner: taken.record.owner,
            last: taken.slot,
            revision: taken.record.revision,
        };
        let World { engine, clock, .. } = &self.world;
        LogWriter::new(engine.clone(), clock.clone(), self.settings.space.clone(), pen)
    }
}

impl Candidate {
    /// Lets others lead for so long, by the engine's clock, even if nobody does.
    pub fn stand_after(mut self, pause: Duration) -> Candidate {
        self.stands_off = pause;
        self
    }

    /// Waits until nobody leads, then leads: returns when the store takes changes.
    ///
    /// Until then the newest leader that the log names is told to whoever follows [`Store::leader`].
    pub async fn lead(self) -> Result<(), OpenFailure> {
        let opening = &self.opening;
        let not_before = match self.stands_off {
            Duration::ZERO => Duration::ZERO,
            pause => opening.world.engine.time().await.map_err(ReadFailure::from)? + pause,
        };
        loop {
            match self.try_to_lead(not_before).await {
                Ok((system, promoted, beats)) => {
                    self.start(system, promoted, &beats);
                    return Ok(());
                }
                // Somebody else leads after all, or the engine did not answer: this process goes on following.
                Err(
                    failure @ (OpenFailure::Contended(_)
                    | OpenFailure::Write(_)
                    | OpenFailure::Read(ReadFailure::Unavailable(_))),
                ) if opening.leadership.lease().is_some() => {
                    info!(error = %failure, "this server does not lead after all");
                    opening.leadership.release();
                    let clock = &opening.world.clock;
                    clock.sleep_until(clock.now() + PAUSE).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn try_to_lead(
        &self,
        not_before: Duration,
    ) -> Result<((Taken, LogWriter), Promoted, Vec<Slot>), OpenFailure> {
        let opening = &self.opening;
        let system = opening.lead(&self.replica, not_before).await?;
        let mut log = opening.pen(PartitionId::SYSTEM, &system);
        // Loading may take longer than a lease: others must see meanwhile that somebody is there.
        let (promoted, beats) = opening.beat_during(self.promote(&system), &mut log).await?;
        Ok(((system, log), promoted, beats))
    }

    /// Takes the user keys over at the leader's term, and makes sure that all that was done to them is known here.
    async fn promote(&self, system: &Taken) -> Result<Promoted, OpenFailure> {
        let opening = &self.opening;
        let user = opening.take_over(USER, opening.owner, system.record.epoch).await?;
        // Nothing that was begun below the takeovers can be committed any more. What is left of it must not be met
        // later, when nobody knows any more what became of it.
        opening.settle_the_rest().await?;
        let inherited = opening.inherit(system, &user).await?;
        let revision = self.replica.catch_up(Through::End).await?;
        if revision != user.record.revision {
            return Err(OpenFailure::Contended(USER.0));
        }
        Ok(Promoted { user, inherited })
    }

    fn start(self, (taken, system_log): (Taken, LogWriter), promoted: Promoted, beats: &[Slot]) {
        let Candidate { opening, shared, replica, system, commands, changes, reclaimed, .. } = self;
        let Promoted { user, inherited } = promoted;
        let Inherited { tables, compacted, reclaimed: position, mut trail } = inherited;
        beats.iter().for_each(|&slot| trail.push_new(slot));
        let term = taken.record.epoch;
        let (keys, leases, revision) =
            (shared.state.read().index.len(), tables.leases.len(), user.record.revision.get());
        info!(keys, leases, revision, term = term.0, "this server leads the store");
        replica.close();
        system.inherit(tables, compacted);
        // After the compacted revision is known.
        shared.pins.start_counting();
        let spawn = &opening.world.supervisor;
        let log = opening.pen(USER, &user);
        let leadership = opening.leadership.clone();
        let sequencer = Sequencer::new(shared.clone(), system.clone(), log, leadership.clone(), commands);
        spawn.spawn("sequencer", TaskKind::Essential, sequencer.run());
        let system_sequencer = SystemSequencer {
            state: system.clone(),
            space: opening.settings.space.clone(),
            log: system_log,
            trail,
            leadership: leadership.clone(),
            commands: changes,
            published: shared.subscribe(),
        };
        spawn.spawn("system sequencer", TaskKind::Essential, system_sequencer.run());
        let clock = opening.world.clock.clone();
        let reclaimer = Reclaimer::new(shared.clone(), clock.clone(), position, reclaimed);
        let compactions = system.compactions.subscribe();
        let shutdown = spawn.shutdown().clone();
        spawn.spawn("reclaim", TaskKind::Essential, async move {
            shutdown.or(reclaimer.run(compactions)).await.unwrap_or(Ok(()))
        });
        if let Some(lease) = leadership.lease() {
            let beats = takeover::beat(lease, clock, self.beats, spawn.shutdown().clone());
            spawn.spawn("heartbeat", TaskKind::Essential, beats);
        }
        opening.role.saw(opening.as_leader(term));
        opening.role.now_leads();
    }
}

impl Opening {
    /// This process as the leader of a term.
    pub(super) fn as_leader(&self, term: layout::log::Epoch) -> Leader {
        let super::Presence { name, peer_url } = self.presence.clone();
        Leader { epoch: term, incarnation: self.owner, name, peer_url }
    }
}
