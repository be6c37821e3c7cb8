//! Where a sequencer has its revisions from: this process, when it leads, or the leader.

use std::collections::HashSet;
use std::sync::Arc;

use base::{PlantedBug, is_planted};
use layout::log::Slot;
use model::{Event, LeaseId, Revision};

use crate::asking::Asking;
use crate::assignment::Grant;
use crate::evaluate::Leases;
use crate::leadership::Leadership;
use crate::numbering::{Numbering, Numbers};
use crate::sequencer::Done;
use crate::state::Shared;

/// See the module.
pub(crate) enum Source {
    /// This process leads, and gives out the revisions itself.
    Here { numbering: Arc<Numbering>, leadership: Leadership, leases: Arc<dyn Leases> },
    /// Another one leads.
    Leader(Asking),
}

/// What a batch is evaluated with.
pub(crate) struct Basis {
    /// None while nobody in the batch may change anything.
    pub(crate) numbers: Option<Numbers>,
    /// What who only looks may be told.
    pub(crate) newest: Revision,
    pub(crate) leases: Arc<dyn Leases>,
}

/// The leases that the leader said keys may be put on.
struct Attachable(HashSet<LeaseId>);

impl Leases for Attachable {
    fn is_attachable(&self, lease: LeaseId) -> bool {
        self.0.contains(&lease) || is_planted(PlantedBug::LeaseUnasked)
    }
}

impl Source {
    /// Revisions for a batch that is about to be evaluated, above all that anybody was told. An error says why there are
    /// none: nothing was begun.
    pub(crate) async fn take(
        &self,
        count: usize,
        leases: impl FnOnce() -> Vec<LeaseId>,
        shared: &Shared,
    ) -> Result<Basis, String> {
        match self {
            Source::Here { numbering, leases, .. } => {
                let numbers = (count > 0).then(|| numbering.take(count));
                Ok(Basis { numbers, newest: shared.newest(), leases: leases.clone() })
            }
            Source::Leader(asking) => {
                let grant = asking.take(count, leases()).await?;
                let Grant { taker, first, newest, compacted, attachable } = grant;
                if let Some(compacted) = compacted {
                    shared.raise_compacted(compacted);
                }
                let numbers = (count > 0).then(|| Numbers::granted(taker, first, count));
                let leases = Arc::new(Attachable(attachable.into_iter().collect()));
                Ok(Basis { numbers, newest, leases })
            }
        }
    }

    /// The newest revision that who has only looked may be told.
    pub(crate) fn newest(&self, basis: Revision, shared: &Shared) -> Revision {
        match self {
            Source::Here { .. } => shared.newest(),
            Source::Leader(_) => basis,
        }
    }

    /// Completes when it is certain that nobody else owned the partition after the batch was put together.
    pub(crate) async fn confirm(&self) -> Result<(), String> {
        match self {
            Source::Here { leadership, .. } => leadership.confirm().await.map_err(|error| error.to_string()),
            // The grant was the leader's word for that.
            Source::Leader(_) => Ok(()),
        }
    }

    /// See [`Numbering::keep`].
    pub(crate) fn keep(&self, numbers: &mut Numbers, used: Revision) {
        match self {
            Source::Here { numbering, .. } => numbering.keep(numbers, used),
            // The leader sees in the events what was used.
            Source::Leader(_) => {}
        }
    }

    /// See [`Numbering::came_to_nothing`].
    pub(crate) fn came_to_nothing(&self, numbers: Numbers) {
        match self {
            Source::Here { numbering, .. } => numbering.came_to_nothing(numbers),
            Source::Leader(asking) => asking.came_to_nothing(numbers),
        }
    }

    /// The batch that has these numbers is durable in this slot, with these events: it is answered once clients may know.
    pub(crate) fn happened(
        &self,
        numbers: Numbers,
        (slot, events): (Slot, Vec<Arc<Event>>),
        done: Vec<Done>,
    ) {
        match self {
            Source::Here { numbering, .. } => {
                numbering.happened(numbers, events);
                done.into_iter().for_each(Done::answer);
            }
            Source::Leader(asking) => asking.happened(&numbers, (slot, events), done),
        }
    }

    /// Completes when the partition has to be given back. Cancel-safe.
    pub(crate) async fn recalled(&self) {
        match self {
            Source::Here { .. } => std::future::pending().await,
            Source::Leader(asking) => asking.recalled().await,
        }
    }
}
