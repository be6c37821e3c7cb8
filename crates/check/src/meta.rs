use std::collections::HashMap;

use engine::ReadError;
use layout::log::PartitionId;
use layout::map::PartitionMap;
use layout::meta::Reclaimed;
use model::Revision;

use crate::Checking;
use crate::finding::{Finding, Phase, Problem};
use crate::pages::Pages;

/// What a store says about itself, as far as it can be read.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    pub(crate) format: Option<u32>,
    /// Whether there is not one record under the prefix.
    pub(crate) is_empty: bool,
    pub(crate) compacted: Option<Revision>,
    pub(crate) map: PartitionMap,
    /// Of the partitions of user keys that have one.
    pub(crate) reclaimed: HashMap<PartitionId, Reclaimed>,
    pub(crate) reclaimed_of_system: Reclaimed,
}

impl Checking<'_> {
    pub(crate) async fn meta(&mut self) -> Result<Positions, ReadError> {
        let space = self.space.clone();
        let mut positions = Positions::default();
        let mut pages = Pages::of(space.meta_span(), Phase::System);
        while let Some((key, value)) = pages.next(self).await? {
            let Some(value) = value else { continue };
            let read = if key == space.identity_key() {
                space.decode_identity(&value).map(|identity| {
                    positions.format = Some(identity.format);
                    self.report.cluster_id = identity.cluster_id;
                })
            } else if key == space.compacted_key() {
                space.decode_compacted(&value).map(|compacted| positions.compacted = Some(compacted))
            } else if key == space.partitions_key() {
                space.decode_partitions(&value).map(|map| positions.map = map)
            } else if let Some(partition) = positions.map.ids().find(|of| key == space.reclaimed_key(*of)) {
                let reclaimed = space.decode_reclaimed(partition, &value);
                reclaimed.map(|reclaimed| {
                    positions.reclaimed.insert(partition, reclaimed);
                })
            } else if key == space.reclaimed_key(PartitionId::SYSTEM) {
                space
                    .decode_reclaimed(PartitionId::SYSTEM, &value)
                    .map(|reclaimed| positions.reclaimed_of_system = reclaimed)
            } else if key == space.leader_key() {
                space.decode_leader(&value).map(drop)
            } else {
                let text = "there is a record about the whole store that no version writes";
                self.found(Finding::new(Problem::Unknown, text).record(&key));
                Ok(())
            };
            if let Err(damaged) = read {
                self.found(Finding::damaged(&damaged, &key));
            }
        }
        if positions.format.is_none() {
            let mut all = Pages::of(space.all_records(), Phase::System);
            positions.is_empty = all.next(self).await?.is_none();
            if !positions.is_empty {
                let text = "the store's identity is missing: no server opens it";
                self.found(Finding::new(Problem::Missing, text).record(&space.identity_key()));
            }
        }
        self.report.compacted = positions.compacted;
        Ok(positions)
    }
}
