use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Shutdown};
use tokio::sync::watch;

use super::{Connection, Link};

/// How long to wait before a leader that did not take a call is asked again: it may be about to lead, or about to stop.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Who carries out what changes something.
#[derive(Clone)]
pub(crate) struct Standing {
    /// Whether this process leads, and knows all that it has to.
    here: watch::Receiver<bool>,
    stopping: Shutdown,
    clock: Arc<dyn Clock>,
    pub(crate) link: Link,
}

/// Where a call goes.
pub(crate) enum Route {
    /// It is carried out here.
    Here,
    /// It is sent to the leader.
    There(Connection),
    /// Nowhere: this process stops, and knows nobody who leads.
    Nowhere,
}

impl Standing {
    pub(crate) fn new(
        here: watch::Receiver<bool>,
        stopping: Shutdown,
        clock: Arc<dyn Clock>,
        link: Link,
    ) -> Standing {
        Standing { here, stopping, clock, link }
    }

    /// Whether this process carries out what clients ask of it.
    pub(crate) fn leads_here(&self) -> bool {
        *self.here.borrow()
    }

    /// Whether this process takes what others forward: not when it is about to stop, because then another one leads soon.
    pub(crate) fn takes_forwarded(&self) -> bool {
        self.leads_here() && !self.stopping.has_begun()
    }

    /// Waits for somebody who leads. `tried` is the connection that the call was sent over in vain: it is tried again
    /// after a short pause, unless there is another one before. Cancel-safe.
    pub(crate) async fn route(&self, tried: Option<u64>) -> Route {
        let (mut here, mut link) = (self.here.clone(), self.link.clone());
        let mut retry = self.clock.sleep_until(self.clock.now() + RETRY_AFTER);
        let mut passed_over = tried;
        loop {
            if *here.borrow_and_update() {
                return Route::Here;
            }
            if let Some(connection) = link.connection()
                && Some(connection.id) != passed_over
            {
                return Route::There(connection);
            }
            if self.stopping.has_begun() && passed_over.is_none() {
                return Route::Nowhere;
            }
            tokio::select! {
                biased;
                () = self.stopping.begun(), if passed_over.is_none() => {}
                changed = here.changed() => if changed.is_err() { std::future::pending().await },
                () = link.changed() => {}
                () = &mut retry, if passed_over.is_some() => passed_over = None,
            }
        }
    }
}
