//! From following to leading: the same state, once the partitions are taken over.

use std::sync::Arc;
use std::time::Duration;

use base::TaskKind;
use layout::log::{Epoch, PartitionId, Slot};
use layout::meta::{Identity, Leader};
use tokio::sync::{mpsc, watch};
use tracing::info;

use super::loading::{Inherited, Loaded};
use super::takeover::{self, Taken};
use super::{OpenFailure, Opening, Settings, Store, World};
use crate::assignments::{Assignments, Office};
use crate::desk::{self, Shifts};
use crate::error::ReadFailure;
use crate::history::History;
use crate::log_writer::{LogWriter, Pen};
use crate::numbering::Numbering;
use crate::ownership::{Desk, Owned, Ownership};
use crate::reclaim::{Done, Reclaimer};
use crate::replica::{Replica, Through};
use crate::sequencer::{Command, QUEUE_TXNS_MAX, Sequencer};
use crate::shared_log::SharedLog;
use crate::source::Source;
use crate::state::{Parts, Shared, State};
use crate::system::{self, QUEUE_CHANGES_MAX, System, SystemSequencer, SystemState};
use crate::user_keys::{Commands, UserKeys};
use crate::values::Values;

/// The pause before a process that failed to lead looks again.
const PAUSE: Duration = Duration::from_millis(100);

/// A process that will lead the store when nobody else does.
pub struct Candidate {
    opening: Arc<Opening>,
    shared: Arc<Shared>,
    replica: Replica,
    system: Arc<SystemState>,
    /// Where what is asked of the owner arrives, for each partition and for several at once.
    desks: (Vec<Shifts>, Shifts),
    owned: Arc<Owned>,
    assignments: Assignments,
    changes: mpsc::Receiver<system::Command>,
    /// For the heartbeats; weak, because the tasks end when nobody else can ask any more.
    beats: mpsc::WeakSender<system::Command>,
    reclaimed: Arc<[Arc<Done>]>,
    /// For how long it lets others lead first.
    stands_off: Duration,
}

/// What a process has when it has taken everything over.
struct Promoted {
    /// In the order of the partitions.
    users: Vec<(PartitionId, Taken)>,
    inherited: Inherited,
}

impl Opening {
    /// The store around what was loaded.
    pub(super) fn assemble(self, identity: Identity, loaded: Loaded) -> (Store, Candidate) {
        let Settings { space, history_bytes_max, cache_bytes_max, .. } = self.settings.clone();
        let Loaded { map, positions, index, attachments, revision, tables, compacted } = loaded;
        info!(keys = index.len(), revision = revision.get(), partitions = map.count(), "store loaded");
        let system_state = Arc::new(SystemState::new(tables, compacted));
        let state = State { index, attachments, history: History::new(revision, history_bytes_max) };
        let engine = self.world.engine.clone();
        let shared = Arc::new(Shared::new(Parts {
            map,
            owner: self.owner,
            engine: engine.clone(),
            space: space.clone(),
            values: Values::new(engine, space, cache_bytes_max),
            state,
            published: revision,
            compacted: system_state.compacted.clone(),
        }));
        let (of_one, of_each): (Vec<_>, Vec<_>) = positions.iter().map(|_| self.desk("sequencer")).unzip();
        let (of_several, across) = self.desk("sequencer of several partitions");
        let (to_system, changes) = mpsc::channel(QUEUE_CHANGES_MAX);
        let reclaimed: Arc<[_]> = positions.iter().map(|_| Arc::new(watch::Sender::new(None))).collect();
        let (leadership, role) = (self.leadership.clone(), self.role.clone());
        let standing = (leadership.clone(), role.clone(), self.world.clock.clone());
        let beats = to_system.downgrade();
        let replica = Replica::new(shared.clone(), &positions);
        let desks = of_one.iter().zip(&of_each);
        let desks =
            desks.map(|(commands, shifts)| Desk { shifts: shifts.clone(), commands: commands.downgrade() });
        let desks: Arc<[Desk]> = desks.collect();
        let commands = Commands { of_one, of_several };
        let owned = Arc::<Owned>::default();
        let assignments = Assignments::new(shared.clone());
        let hands = (owned.clone(), assignments.clone());
        let keys = UserKeys::new(shared.clone(), commands, hands, reclaimed.clone(), standing);
        let opening = Arc::new(self);
        let ownership = Ownership {
            opening: opening.clone(),
            shared: shared.clone(),
            replica: replica.clone(),
            desks,
            room: keys.room(),
            owned: owned.clone(),
        };
        let store = Store {
            keys: keys.clone(),
            system: System {
                state: system_state.clone(),
                commands: to_system,
                leadership,
                role: role.clone(),
                keys,
            },
            cluster_id: identity.cluster_id,
            incarnation: opening.owner,
            role,
            replica: replica.clone(),
            ownership,
        };
        let candidate = Candidate {
            opening,
            shared,
            replica,
            system: system_state,
            desks: (of_each, across),
            owned,
            assignments,
            changes,
            beats,
            reclaimed,
            stands_off: Duration::ZERO,
        };
        (store, candidate)
    }

    /// Where commands arrive, and how sequencers come to attend to them.
    fn desk(&self, task: &'static str) -> (mpsc::Sender<Command>, Shifts) {
        let (commands, arriving) = mpsc::channel(QUEUE_TXNS_MAX);
        let (shifts, desk) = desk::desk(arriving);
        self.world.supervisor.spawn(task, TaskKind::Essential, desk.run());
        (commands, shifts)
    }

    pub(crate) fn pen(&self, partition: PartitionId, taken: &Taken) -> LogWriter {
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
                    self.start(system, promoted, &beats).await;
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
                    self.owned.reopen();
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
        // What this process owns for another one is given back before it is taken over.
        self.owned.close().await;
        let mut users = Vec::with_capacity(self.shared.map.count());
        for partition in self.shared.map.ids() {
            let epoch = Epoch::in_term(system.record.epoch, 0).ok_or(OpenFailure::Contended(partition.0))?;
            let taken = opening.take_over(partition, opening.owner, epoch).await?;
            users.push((partition, taken));
        }
        // Nothing that was begun below the takeovers can be committed any more. What is left of it must not be met
        // later, when nobody knows any more what became of it.
        opening.settle_the_rest().await?;
        let inherited = opening.inherit(system, &users).await?;
        let revision = self.replica.catch_up(Through::End).await?;
        let newest = users.iter().max_by_key(|(_, taken)| taken.record.revision);
        match newest {
            Some((partition, taken)) if taken.record.revision != revision => {
                Err(OpenFailure::Contended(partition.0))
            }
            _ => Ok(Promoted { users, inherited }),
        }
    }

    async fn start(self, (taken, system_log): (Taken, LogWriter), promoted: Promoted, beats: &[Slot]) {
        let Candidate { opening, shared, replica, system, changes, reclaimed, .. } = self;
        let Promoted { users, inherited } = promoted;
        let Inherited { tables, compacted, reclaimed: positions, mut trail } = inherited;
        beats.iter().for_each(|&slot| trail.push_new(slot));
        let term = taken.record.epoch;
        let (keys, leases) = (shared.state.read().index.len(), tables.leases.len());
        let revision = shared.published().get();
        info!(keys, leases, revision, term = term.0, "this server leads the store");
        replica.close();
        system.inherit(tables, compacted);
        // After the compacted revision is known.
        shared.pins.start_counting();
        let numbering = Arc::new(Numbering::new(shared.clone()));
        let logs = users.iter().map(|(partition, taken)| SharedLog::new(opening.pen(*partition, taken)));
        let office = Office {
            opening: opening.clone(),
            term,
            numbering,
            leadership: opening.leadership.clone(),
            leases: system.clone(),
            logs: logs.collect(),
        };
        office.start_sequencers(&shared, &self.desks).await;
        self.assignments.lead(office);
        let spawn = &opening.world.supervisor;
        let leadership = opening.leadership.clone();
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
        let partitions = shared.map.ids().zip(positions).zip(reclaimed.iter());
        for (of_partition, done) in partitions {
            let reclaimer = Reclaimer::new(shared.clone(), clock.clone(), of_partition, done.clone());
            let compactions = system.compactions.subscribe();
            let shutdown = spawn.shutdown().clone();
            spawn.spawn("reclaim", TaskKind::Essential, async move {
                shutdown.or(reclaimer.run(compactions)).await.unwrap_or(Ok(()))
            });
        }
        if let Some(lease) = leadership.lease() {
            let beats = takeover::beat(lease, clock, self.beats, spawn.shutdown().clone());
            spawn.spawn("heartbeat", TaskKind::Essential, beats);
        }
        opening.role.saw(opening.as_leader(term));
        opening.role.now_leads();
    }
}

impl Office {
    /// One for each partition, and one for what touches several.
    async fn start_sequencers(&self, shared: &Arc<Shared>, (of_each, across): &(Vec<Shifts>, Shifts)) {
        let source = || Source::Here {
            numbering: self.numbering.clone(),
            leadership: self.leadership.clone(),
            leases: self.leases.clone(),
        };
        let newest = shared.published();
        let sequencer = |logs, first_place| {
            let (shared, source) = (shared.clone(), source());
            Sequencer { shared, source, logs, first_place, newest }
        };
        for (place, (shifts, log)) in of_each.iter().zip(&self.logs).enumerate() {
            shifts.lead(sequencer(vec![log.clone()], place)).await;
        }
        if self.logs.len() > 1 {
            across.lead(sequencer(self.logs.clone(), 0)).await;
        }
    }
}

impl Opening {
    /// This process as the leader of a term.
    pub(super) fn as_leader(&self, term: layout::log::Epoch) -> Leader {
        let super::Presence { name, peer_url } = self.presence.clone();
        Leader { epoch: term, incarnation: self.owner, name, peer_url }
    }
}
