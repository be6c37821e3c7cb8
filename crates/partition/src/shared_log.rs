use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use crate::log_writer::LogWriter;

/// The log of a partition. Whoever holds it holds the partition: nobody else writes to it or evaluates on it meanwhile.
#[derive(Clone)]
pub(crate) struct SharedLog {
    log: Arc<Mutex<LogWriter>>,
    wanted: Arc<watch::Sender<()>>,
    away: Arc<watch::Sender<bool>>,
}

/// A log that is held.
pub(crate) type HeldLog = OwnedMutexGuard<LogWriter>;

impl SharedLog {
    pub(crate) fn new(log: LogWriter) -> SharedLog {
        SharedLog {
            log: Arc::new(Mutex::new(log)),
            wanted: Arc::new(watch::Sender::new(())),
            away: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Holds the log, as soon as nobody else does; who does is told that somebody waits.
    pub(crate) async fn hold(&self) -> HeldLog {
        match self.log.clone().try_lock_owned() {
            Ok(held) => held,
            Err(_) => {
                self.wanted.send_replace(());
                self.log.clone().lock_owned().await
            }
        }
    }

    /// As [`SharedLog::hold`], for who gives the partition away: nobody is told that somebody waits.
    pub(crate) async fn hold_to_give_away(&self) -> HeldLog {
        self.log.clone().lock_owned().await
    }

    /// As [`SharedLog::hold`], unless the partition is away, or goes away meanwhile: `None` then. Nobody is told that
    /// somebody waits.
    pub(crate) async fn hold_unless_away(&self) -> Option<HeldLog> {
        let mut away = self.away.subscribe();
        tokio::select! {
            biased;
            // The sender lives as long as this does.
            _ = away.wait_for(|away| *away) => None,
            held = self.log.clone().lock_owned() => Some(held),
        }
    }

    /// Whether another process owns the partition, or is about to, or has it until this one has taken it back.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.send_replace(away);
    }

    /// Changes when somebody wants to hold what another one holds.
    pub(crate) fn wanted(&self) -> watch::Receiver<()> {
        self.wanted.subscribe()
    }
}
