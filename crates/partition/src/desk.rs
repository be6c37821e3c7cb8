//! Who takes the transactions of a partition: its sequencer while this process owns it, nobody otherwise.

use base::Failure;
use tokio::sync::{mpsc, oneshot};

use crate::error::TxnFailure;
use crate::sequencer::{Command, Sequencer};

/// Sequencers that wait for a desk; it gets the next one when the one before has ended.
const SHIFTS_MAX: usize = 1;

/// The place where the transactions of a partition arrive. Whoever comes while nobody attends to it is sent away at once:
/// nothing waits for an owner that may never come.
pub(crate) struct Desk {
    commands: mpsc::Receiver<Command>,
    shifts: mpsc::Receiver<Shift>,
}

/// A sequencer, and whom to tell how it ended.
struct Shift {
    sequencer: Sequencer,
    /// `None` where the process cannot go on without it.
    ended: Option<oneshot::Sender<Result<(), Failure>>>,
}

/// Sends sequencers to a desk. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shifts {
    shifts: mpsc::Sender<Shift>,
}

/// A desk for `commands`.
pub(crate) fn desk(commands: mpsc::Receiver<Command>) -> (Shifts, Desk) {
    let (sender, shifts) = mpsc::channel(SHIFTS_MAX);
    (Shifts { shifts: sender }, Desk { commands, shifts })
}

impl Shifts {
    /// Has `sequencer` attend to the desk until nobody can ask any more; when it fails, so does the process.
    pub(crate) async fn lead(&self, sequencer: Sequencer) {
        // A desk that is gone has nobody who could ask.
        let _ = self.shifts.send(Shift { sequencer, ended: None }).await;
    }

    /// Has `sequencer` attend to the desk until it loses the partition, or is recalled: how it ended.
    pub(crate) async fn own(&self, sequencer: Sequencer) -> Result<(), Failure> {
        let (ended, how) = oneshot::channel();
        let _ = self.shifts.send(Shift { sequencer, ended: Some(ended) }).await;
        how.await.unwrap_or(Ok(()))
    }
}

impl Desk {
    /// Until nobody can ask any more, or a sequencer failed that the process needs.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        loop {
            tokio::select! {
                biased;
                Some(Shift { sequencer, ended }) = self.shifts.recv() => {
                    let end = sequencer.run(&mut self.commands).await;
                    match ended {
                        Some(ended) => drop(ended.send(end)),
                        None => {
                            if let Err(lost) = end {
                                self.refuse_waiting(&lost).await;
                                return Err(lost);
                            }
                        }
                    }
                }
                command = self.commands.recv() => match command {
                    Some(command) => command.fail(TxnFailure::Elsewhere),
                    None => return Ok(()),
                },
            }
        }
    }

    /// Tells those who still wait that nothing of theirs was begun.
    async fn refuse_waiting(&mut self, lost: &Failure) {
        self.commands.close();
        while let Some(command) = self.commands.recv().await {
            command.fail(TxnFailure::Unavailable(lost.reason.clone()));
        }
    }
}
