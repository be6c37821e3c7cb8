use std::sync::Arc;

use tokio::sync::watch;

/// A commit that is stopped on its way, so that a test decides what happens meanwhile.
///
/// Dropping it releases the commit. A hold that is released before a commit came lets that commit pass.
pub struct Hold {
    gate: Arc<Gate>,
}

impl Hold {
    pub(super) fn new(gate: Arc<Gate>) -> Hold {
        Hold { gate }
    }

    /// Returns once a commit stands at the held point.
    pub async fn reached(&self) {
        self.gate.wait_until(|state| state != GateState::Empty).await;
    }

    /// Lets the commit go on.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.gate.state.send_replace(GateState::Released);
    }
}

/// Where a held commit stops.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum HoldPoint {
    BeforeApply,
    BeforeAnswer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum GateState {
    Empty,
    Reached,
    Released,
}

pub(super) struct Gate {
    point: HoldPoint,
    state: watch::Sender<GateState>,
}

impl Gate {
    pub(super) fn new(point: HoldPoint) -> Gate {
        Gate { point, state: watch::Sender::new(GateState::Empty) }
    }

    /// Stops a commit that is at `point` if this is the gate's, until the gate is released.
    pub(super) async fn pass(&self, point: HoldPoint) {
        if point != self.point {
            return;
        }
        self.state.send_if_modified(|state| {
            let first = *state == GateState::Empty;
            if first {
                *state = GateState::Reached;
            }
            first
        });
        self.wait_until(|state| state == GateState::Released).await;
    }

    async fn wait_until(&self, reached: impl Fn(GateState) -> bool) {
        // Fails only when the sender is gone, and `self` keeps it.
        let _ = self.state.subscribe().wait_for(|state| reached(*state)).await;
    }
}
