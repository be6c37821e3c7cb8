//! Whether this process leads, who does otherwise, and how it then learns what is the newest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use layout::meta::Leader;
use model::Revision;
use parking_lot::RwLock;
use tokio::sync::{Notify, watch};

use crate::leadership::NotConfirmed;

/// What a leader answers to one who does not lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Everything that was acknowledged before the question came is at or below it.
    pub revision: Revision,
    /// The revision below which history was given up.
    pub compacted: Option<Revision>,
}

/// How a process that does not lead asks the one that does.
#[async_trait]
pub trait Authority: Send + Sync + 'static {
    /// What the leader confirms after the call began: an answer to a question that was on its way before does not do
    /// (`docs/protocol.md`, R11). Bounded in time.
    async fn confirm(&self) -> Result<Confirmed, NotConfirmed>;
}

/// The part that this process plays among those that share an engine.
pub(crate) struct Role {
    /// As `leading`, for those who look at it with each request.
    leads: AtomicBool,
    leading: watch::Sender<bool>,
    leader: watch::Sender<Option<Leader>>,
    authority: RwLock<Option<Arc<dyn Authority>>>,
    /// Somebody has reason to believe that the leader has gone.
    look: Notify,
}

impl Default for Role {
    fn default() -> Role {
        Role {
            leads: AtomicBool::new(false),
            leading: watch::Sender::new(false),
            leader: watch::Sender::new(None),
            authority: RwLock::default(),
            look: Notify::new(),
        }
    }
}

impl Role {
    /// Whether this process has become the leader. It may have been deposed since: that is for the lease to say.
    pub(crate) fn leads(&self) -> bool {
        self.leads.load(Ordering::SeqCst)
    }

    pub(crate) fn now_leads(&self) {
        self.leads.store(true, Ordering::SeqCst);
        self.leading.send_replace(true);
        // Nobody is asked any more; who could be is let go.
        *self.authority.write() = None;
    }

    pub(crate) fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// Notes who took over last.
    pub(crate) fn saw(&self, leader: Leader) {
        self.leader.send_if_modified(|known| {
            let is_news = known.as_ref().is_none_or(|known| known.epoch < leader.epoch);
            if is_news {
                *known = Some(leader);
            }
            is_news
        });
    }

    pub(crate) fn leader(&self) -> watch::Receiver<Option<Leader>> {
        self.leader.subscribe()
    }

    pub(crate) fn ask_through(&self, authority: Arc<dyn Authority>) {
        *self.authority.write() = Some(authority);
    }

    /// What the leader confirms.
    pub(crate) async fn ask(&self) -> Result<Confirmed, NotConfirmed> {
        let authority = self.authority.read().clone();
        match authority {
            Some(authority) => authority.confirm().await,
            None => Err(NotConfirmed::NoLeader("this server does not lead yet".to_owned())),
        }
    }

    pub(crate) fn look_now(&self) {
        self.look.notify_one();
    }

    /// Completes when somebody wants the log to be looked at.
    pub(crate) async fn asked_to_look(&self) {
        self.look.notified().await;
    }
}
