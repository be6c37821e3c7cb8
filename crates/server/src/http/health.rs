use layout::system::Alarm;
use model::ReadRevision;

use super::query::Query;
use crate::backend::Backend;
use crate::rpc::maintenance::alarm_name;

/// What `/livez` and `/readyz` look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// No stored data was found damaged.
    DataCorruption,
    /// A read of what this process holds is answered.
    SerializableRead,
    /// A read of what is durable is answered.
    LinearizableRead,
    /// This member serves everything.
    NonLearner,
}

/// The process lives. An engine that does not answer is no reason to start it anew.
pub(super) const LIVEZ: [Check; 1] = [Check::SerializableRead];
/// Requests should be sent here.
pub(super) const READYZ: [Check; 4] =
    [Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

impl Check {
    pub(super) fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    pub(super) async fn run(self, backend: &Backend) -> Result<(), String> {
        match self {
            Check::DataCorruption if backend.store.system.is_raised(Alarm::Corrupt) => {
                Err(format!("alarm activated: {}", alarm_name(Alarm::Corrupt)))
            }
            Check::DataCorruption | Check::NonLearner => Ok(()),
            Check::SerializableRead => read(backend).await,
            Check::LinearizableRead if backend.leader_id().is_none() => Err(no_leader(backend)),
            Check::LinearizableRead => {
                backend.check_engine().await.map_err(|error| error.to_string())?;
                backend.store.keys.confirm().await.map_err(|error| error.to_string())
            }
        }
    }
}

/// Said at once, without the time in which there may be one again.
fn no_leader(backend: &Backend) -> String {
    let trouble = backend.peers.as_ref().map(|peers| peers.standing.link.trouble());
    format!("no leader: {}", trouble.unwrap_or_default())
}

async fn read(backend: &Backend) -> Result<(), String> {
    let view = backend.store.keys.serializable_view(ReadRevision::Latest).await;
    view.map(drop).map_err(|failure| failure.to_string())
}

/// Why `/health` is false; none when all is well. A quota that is used up is a reason unless it is excluded, as in
/// etcd.
pub(super) async fn reason(backend: &Backend, query: Query<'_>) -> Option<String> {
    let is_excluded = |alarm: Alarm| query.all("exclude").any(|name| name == alarm_name(alarm));
    if let Some(alarm) = backend.store.system.alarms().into_iter().find(|&alarm| !is_excluded(alarm)) {
        return Some(format!("ALARM {}", alarm_name(alarm)));
    }
    let check = match query.all("serializable").next() {
        Some("true") => Check::SerializableRead,
        _ => Check::LinearizableRead,
    };
    check.run(backend).await.err().map(|error| format!("RANGE ERROR:{error}"))
}
