//! The same loads on stores of different sizes: what an operation costs should not depend on how much is there.

use super::Stage;
use super::objects::{MANY, creating, deleting, fill, reading, updating};
use super::pods::listing;
use crate::connection::Error;
use crate::drive::Pace;
use crate::requests::PODS;

pub(super) const PHASES: [&str; 5] = ["list", "get", "update", "create", "delete"];

/// The name of a size: 10k, 1m.
pub(super) fn name(keys: u64) -> String {
    match keys {
        1_000_000.. => format!("{}m", keys / 1_000_000),
        _ => format!("{}k", keys / 1000),
    }
}

pub(super) async fn play(stage: &mut Stage<'_>, keys: u64, value_bytes: usize) -> Result<(), Error> {
    if !stage.running.system.has_large_transactions() || !stage.running.system.is_store() {
        return Ok(());
    }
    let objects = fill(stage, PODS, keys, value_bytes).await?;
    let pace = Pace::full(MANY, stage.scale.phase);
    for phase in PHASES {
        let row = format!("size-{phase}/{}", name(keys));
        if !stage.wants(&row) {
            continue;
        }
        match phase {
            "list" => stage.measure(&row, listing(&stage.link.clone(), pace.time, false, keys)).await?,
            "get" => stage.measure(&row, reading(stage, &objects, pace, false)).await?,
            "update" => stage.measure(&row, updating(stage, &objects, pace)).await?,
            "create" => stage.measure(&row, creating(stage, &objects, pace)).await?,
            _ => stage.measure(&row, deleting(stage, &objects, pace)).await?,
        };
    }
    Ok(())
}
