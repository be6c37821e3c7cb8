//! What a seed makes of a run: how many clients, which faults, how bad.

use std::time::Duration;

use bytes::Bytes;
use layout::map::PartitionMap;
use model::Key;
use partition::LeaderLease;

use crate::engine::Weather;
use crate::world::World;

/// The keys of a run: few, so that clients meet on them often, and some that encodings could get wrong.
const KEYS: [&[u8]; 12] =
    [b"a", b"a\x00", b"a\x00b", b"ab", b"b", b"b/", b"b/c", b"b0", b"c", b"c\xff", b"\xfe", b"\xff\xff"];

/// Where the keys may be split: at a key, between two, behind all.
const SPLITS: [&[u8]; 4] = [b"a\x00", b"b", b"bz", b"c\xff"];

/// How a run goes.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) keys: Vec<&'static [u8]>,
    pub(crate) writers: u64,
    pub(crate) readers: u64,
    pub(crate) watchers: u64,
    pub(crate) lease_holders: u64,
    /// What each client does.
    pub(crate) calls: u64,
    /// How long a client thinks between two calls at most.
    pub(crate) pause_max: Duration,
    pub(crate) compactions: bool,
    /// How much recent history a process holds; none for all of it, and all values.
    pub(crate) memory_bytes: Option<usize>,
    pub(crate) weather: Weather,
    /// The longest time between two strikes; none for no strikes.
    pub(crate) strike_every_max: Option<Duration>,
    /// Whether strikes are mostly pauses, so that processes come back to what others have done meanwhile.
    pub(crate) sleepy: bool,
    /// How many machines run a process.
    pub(crate) machines: usize,
    /// How they agree on which of them owns the store, unless there is one alone, as with the embedded engine.
    pub(crate) leader_lease: Option<LeaderLease>,
    /// How the keys are split.
    pub(crate) partitions: PartitionMap,
}

impl Plan {
    /// The plan that the world's chance draws: from fair weather to all at once.
    pub(crate) fn draw(world: &World) -> Plan {
        let some =
            |of: u64, in_a_thousand: u64| if world.chance(in_a_thousand) { world.below(of) } else { 0 };
        let hop_max = *world.pick(&[1, 100, 2_000, 20_000]);
        let stormy = world.chance(700);
        let storm = |most: u64| if stormy { some(most, 500) } else { 0 };
        let weather = Weather {
            hop_max: Duration::from_micros(hop_max),
            refused: storm(150),
            no_space: storm(100),
            answer_lost: storm(100),
            lost: storm(100),
            late: storm(100),
            late_max: Duration::from_millis(*world.pick(&[5, 500, 20_000])),
            unreadable: storm(50),
        };
        let machines = 1 + world.below(3) as usize;
        let lease_millis = *world.pick(&[1_000, 3_000]);
        let leased = machines > 1 || world.chance(200);
        let keys = 1 + world.below(KEYS.len() as u64) as usize;
        let splits: Vec<Key> = if world.chance(500) {
            let chosen = SPLITS.iter().filter(|_| world.chance(500));
            chosen.filter_map(|split| Key::new(Bytes::from_static(split)).ok()).collect()
        } else {
            Vec::new()
        };
        let plan = Plan {
            keys: KEYS[..keys].to_vec(),
            writers: 1 + world.below(5),
            readers: world.below(3),
            watchers: 1 + world.below(3),
            lease_holders: world.below(3),
            calls: 5 + world.below(if leased { 90 } else { 30 }),
            pause_max: Duration::from_micros(*world.pick(&[1, 1_000, 50_000, 1_000_000])),
            compactions: world.chance(600),
            memory_bytes: *world.pick(&[None, Some(0), Some(1_500)]),
            weather,
            strike_every_max: world
                .chance(600)
                .then(|| Duration::from_millis(*world.pick(&[20, 300, 3_000, 20_000]))),
            sleepy: leased && world.chance(500),
            machines,
            leader_lease: leased.then(|| LeaderLease { length: Duration::from_millis(lease_millis) }),
            partitions: PartitionMap::split_at(&splits).unwrap_or_default(),
        };
        if world.chance(300) { plan.overtaken(world) } else { plan }
    }

    /// The same, about owners that sleep through their lease and wake up to answer: chance alone brings that together
    /// once in a thousand runs.
    fn overtaken(self, world: &World) -> Plan {
        let lease = Duration::from_secs(1);
        let answer_lost = *world.pick(&[0, 300]);
        Plan {
            writers: 2,
            readers: 2,
            calls: 40 + world.below(60),
            pause_max: Duration::from_millis(*world.pick(&[40, 200])),
            weather: Weather {
                answer_lost,
                ..Weather { hop_max: self.weather.hop_max, ..Weather::default() }
            },
            strike_every_max: Some(lease * 3),
            sleepy: true,
            machines: 2 + world.below(2) as usize,
            leader_lease: Some(LeaderLease { length: lease }),
            ..self
        }
    }
}
