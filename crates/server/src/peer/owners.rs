//! Who owns which partition, and the connections to those who do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::{Shutdown, TaskKind};
use fleet::{LinkSettings, Member, Peer};
use layout::log::PartitionId;
use parking_lot::Mutex;
use proto::peer as wire;
use tokio::sync::watch;

use super::convert::{member_from_wire, member_to_wire};
use super::{Connection, Link, forever};

/// Who owns each partition, by its place; none for the leader, and where that is not known.
pub(crate) type Table = Arc<[Option<Member>]>;

/// See the module.
pub(crate) struct Owners {
    /// Of the partitions, in their order.
    partitions: Vec<PartitionId>,
    own: u128,
    table: watch::Sender<Table>,
    links: Mutex<BTreeMap<u128, OwnerLink>>,
    settings: LinkSettings,
    shutdown: Shutdown,
}

/// A link to an owner. It is given up with the owner: its driver ends when nobody can name another one any more.
struct OwnerLink {
    link: Link,
    _peer: watch::Sender<Option<Peer>>,
}

impl Owners {
    pub(crate) fn new(
        partitions: Vec<PartitionId>,
        own: u128,
        (settings, shutdown): (LinkSettings, Shutdown),
    ) -> Owners {
        let nobody = std::iter::repeat_n(None, partitions.len()).collect();
        let table = watch::Sender::new(nobody);
        Owners { partitions, own, table, links: Mutex::default(), settings, shutdown }
    }

    /// The connection to the owner of the partition at this place; `None` where that is the leader, this process, or nobody
    /// who is reached.
    pub(crate) fn connection(&self, place: usize) -> Option<Connection> {
        let owner = self.table.borrow().get(place)?.as_ref()?.incarnation;
        self.links.lock().get(&owner)?.link.connection()
    }

    /// Takes note of who owns what.
    pub(crate) fn set(&self, table: Table) {
        let named: BTreeSet<u128> = table.iter().flatten().map(|owner| owner.incarnation).collect();
        let mut links = self.links.lock();
        links.retain(|owner, _| named.contains(owner));
        for owner in table.iter().flatten().filter(|owner| owner.incarnation != self.own) {
            links.entry(owner.incarnation).or_insert_with(|| self.link(owner));
        }
        drop(links);
        self.table.send_replace(table);
    }

    /// Takes note of what the leader says.
    pub(crate) fn heard(&self, owners: wire::Owners) {
        let mut said: BTreeMap<u32, Member> = BTreeMap::new();
        for wire::Owner { partition, member } in owners.owners {
            said.insert(partition, member_from_wire(member.unwrap_or_default()));
        }
        self.set(self.partitions.iter().map(|partition| said.remove(&partition.0)).collect());
    }

    /// What is known, for another member.
    pub(crate) fn to_wire(&self) -> wire::Owners {
        let table = self.table.borrow().clone();
        let owner = |(partition, owner): (&PartitionId, &Option<Member>)| {
            let member = Some(member_to_wire(owner.clone()?));
            Some(wire::Owner { partition: partition.0, member })
        };
        wire::Owners { owners: self.partitions.iter().zip(table.iter()).filter_map(owner).collect() }
    }

    fn link(&self, owner: &Member) -> OwnerLink {
        let (link, driver) = fleet::link(self.settings.clone());
        let url = owner.peer_urls.first().cloned().unwrap_or_default();
        let (peer, known) = watch::channel(Some(Peer { name: owner.name.clone(), term: 0, url }));
        let driven = driver.run(known, self.shutdown.clone());
        self.settings.supervisor.spawn("link", TaskKind::Request, forever(driven));
        OwnerLink { link, _peer: peer }
    }
}
