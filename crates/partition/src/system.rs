//! The system partition: leases, alarms and the compacted revision, a log like the others.

mod sequencer;
mod trail;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use layout::log::SystemChange;
use layout::system::{Alarm, LeaseRecord};
use model::{LeaseId, LeaseTtl, Revision};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::SystemFailure;
use crate::evaluate::Leases;
use crate::leadership::{Leadership, NotConfirmed};
use crate::role::Role;
use crate::state::Compacted;
use crate::user_keys::UserKeys;

pub(crate) use sequencer::{Command, SystemSequencer};
pub(crate) use trail::{Holds, Trail};

/// How many changes may wait for the system partition; who comes later waits to wait.
pub(crate) const QUEUE_CHANGES_MAX: usize = 8192;

/// Who hears of every change of the system partition, in order, once it is durable.
pub trait SystemFollower: Send + Sync + 'static {
    /// These changes are durable and visible. Must not wait.
    fn applied(&self, changes: &[SystemChange]);
}

/// The state of the system partition, shared by all that look at it.
pub(crate) struct SystemState {
    pub(crate) tables: RwLock<Tables>,
    pub(crate) compacted: Compacted,
    /// Tells reclaiming that the compacted revision has moved.
    pub(crate) compactions: watch::Sender<Option<Revision>>,
    pub(crate) followers: Mutex<Vec<Arc<dyn SystemFollower>>>,
}

#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// This process leads: what it knows is not somebody else's to tell.
    is_own: bool,
    pub(crate) leases: HashMap<LeaseId, LeaseRecord>,
    pub(crate) alarms: BTreeSet<Alarm>,
}

impl SystemState {
    pub(crate) fn new(tables: Tables, compacted: Option<Revision>) -> SystemState {
        SystemState {
            tables: RwLock::new(tables),
            compacted: Compacted::new(compacted),
            compactions: watch::Sender::new(compacted),
            followers: Mutex::default(),
        }
    }

    /// Knows from here on what the log says of everything, as this process leads.
    pub(crate) fn inherit(&self, tables: Tables, compacted: Option<Revision>) {
        *self.tables.write() = Tables { is_own: true, ..tables };
        if let Some(compacted) = compacted {
            self.compacted.raise(compacted);
            self.compactions.send_replace(Some(compacted));
        }
    }

    /// Makes durable changes visible.
    pub(crate) fn apply(&self, changes: &[SystemChange]) {
        let mut tables = self.tables.write();
        for change in changes {
            match *change {
                SystemChange::LeaseGranted(lease, ttl_secs) => {
                    tables.leases.insert(lease, LeaseRecord { ttl_secs, revoking: false });
                }
                SystemChange::LeaseRevoking(lease) => {
                    if let Some(record) = tables.leases.get_mut(&lease) {
                        record.revoking = true;
                    }
                }
                SystemChange::LeaseRevoked(lease) => {
                    tables.leases.remove(&lease);
                }
                SystemChange::AlarmRaised(alarm) => {
                    tables.alarms.insert(alarm);
                }
                SystemChange::AlarmCleared(alarm) => {
                    tables.alarms.remove(&alarm);
                }
                SystemChange::Compacted(revision) => {
                    self.compacted.raise(revision);
                    self.compactions.send_replace(Some(revision));
                }
            }
        }
        drop(tables);
        for follower in self.followers.lock().iter() {
            follower.applied(changes);
        }
    }
}

impl Leases for SystemState {
    fn is_attachable(&self, lease: LeaseId) -> bool {
        self.tables.read().leases.get(&lease).is_some_and(|record| !record.revoking)
    }
}

/// The handle on the system partition. Cheap to clone.
#[derive(Clone)]
pub struct System {
    pub(crate) state: Arc<SystemState>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) leadership: Leadership,
    pub(crate) role: Arc<Role>,
    pub(crate) keys: UserKeys,
}

impl System {
    /// Every lease that there is, in the order of ids.
    pub fn leases(&self) -> Vec<(LeaseId, LeaseRecord)> {
        let tables = self.state.tables.read();
        let mut leases: Vec<_> = tables.leases.iter().map(|(&lease, &record)| (lease, record)).collect();
        leases.sort_unstable_by_key(|(lease, _)| *lease);
        leases
    }

    /// The lease with this id.
    pub fn lease(&self, lease: LeaseId) -> Option<LeaseRecord> {
        self.state.tables.read().leases.get(&lease).copied()
    }

    /// The alarms that are raised.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.state.tables.read().alarms.iter().copied().collect()
    }

    /// Whether this alarm is raised.
    pub fn is_raised(&self, alarm: Alarm) -> bool {
        self.state.tables.read().alarms.contains(&alarm)
    }

    /// Notes which alarms are raised, as the leader says, in a process that does not lead.
    pub fn heard_of(&self, alarms: impl IntoIterator<Item = Alarm>) {
        let mut tables = self.state.tables.write();
        if !tables.is_own {
            tables.alarms = alarms.into_iter().collect();
        }
    }

    /// The revision below which history was given up.
    pub fn compacted(&self) -> Option<Revision> {
        self.state.compacted.get()
    }

    /// Completes when it is certain that, at some moment after the call, no other process had taken over: a lease that is
    /// not known here then did not exist, and a deadline that was moved here is moved.
    pub async fn confirm(&self) -> Result<(), NotConfirmed> {
        if !self.role.leads() {
            return Err(NotConfirmed::NoLeader("this server does not lead".to_owned()));
        }
        self.leadership.confirm().await
    }

    /// Tells `follower` of every change from now on.
    pub fn follow(&self, follower: Arc<dyn SystemFollower>) {
        self.state.followers.lock().push(follower);
    }

    /// Grants a lease; durable when this returns.
    pub async fn grant(&self, lease: LeaseId, ttl: LeaseTtl) -> Result<(), SystemFailure> {
        self.change(SystemChange::LeaseGranted(lease, ttl.secs())).await
    }

    /// Begins to revoke a lease: from now on nothing can be attached to it, over any restart. Doing it again is no
    /// error.
    pub async fn begin_revoke(&self, lease: LeaseId) -> Result<(), SystemFailure> {
        self.change(SystemChange::LeaseRevoking(lease)).await
    }

    /// Ends a lease whose keys are all gone.
    pub async fn finish_revoke(&self, lease: LeaseId) -> Result<(), SystemFailure> {
        self.change(SystemChange::LeaseRevoked(lease)).await
    }

    /// Gives up history below `revision`: what a read or a watch at `revision` needs stays.
    pub async fn compact(&self, revision: Revision) -> Result<(), SystemFailure> {
        if self.role.leads() {
            // Somebody may have been told of it while something below it is still on its way.
            let reached = self.keys.reached(revision).await;
            reached.map_err(|error| SystemFailure::Unavailable(error.to_string()))?;
        }
        self.change(SystemChange::Compacted(revision)).await
    }

    /// Raises an alarm, if it is not raised already.
    pub async fn raise(&self, alarm: Alarm) -> Result<(), SystemFailure> {
        self.change(SystemChange::AlarmRaised(alarm)).await
    }

    /// Clears an alarm, if it is raised.
    pub async fn clear(&self, alarm: Alarm) -> Result<(), SystemFailure> {
        self.change(SystemChange::AlarmCleared(alarm)).await
    }

    async fn change(&self, change: SystemChange) -> Result<(), SystemFailure> {
        if !self.role.leads() {
            return Err(SystemFailure::Unavailable("this server does not lead".to_owned()));
        }
        let (answer, answered) = oneshot::channel();
        if self.commands.send(Command::Change(change, answer)).await.is_err() {
            return Err(SystemFailure::Unavailable("the store is stopping".to_owned()));
        }
        let lost = || SystemFailure::Undetermined("the store stopped before it answered".to_owned());
        answered.await.unwrap_or_else(|_| Err(lost()))
    }
}
