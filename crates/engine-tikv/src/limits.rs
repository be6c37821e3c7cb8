use std::time::Duration;

/// How long one request to TiKV or PD may take. `tikv-client` sends it again after that.
pub(crate) const REQUEST_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a commit tries. Afterwards its outcome is found out; what remains unclear is reported as that.
pub(crate) const COMMIT_TIME_MAX: Duration = Duration::from_secs(10);
/// How long finding out what became of a commit may take.
pub(crate) const SETTLE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a read tries.
pub(crate) const READ_TIME_MAX: Duration = Duration::from_secs(10);
/// How many regions are cleared of locks at the same time.
pub(crate) const CLEAR_WIDTH_MAX: usize = 8;
/// How long clearing the locks of a region tries: there may be many, of many transactions.
pub(crate) const CLEAR_TIME_MAX: Duration = Duration::from_secs(60);
/// The first pause between two tries. It doubles.
pub(crate) const PAUSE_FIRST: Duration = Duration::from_millis(5);
/// The longest pause between two tries.
pub(crate) const PAUSE_MAX: Duration = Duration::from_millis(500);

/// The largest message that is taken from TiKV: above the largest record that a batch can hold.
pub(crate) const MESSAGE_BYTES_MAX: usize = 128 << 20;
/// What one request should bring back. TiKV refuses to send much more than 10 MiB.
pub(crate) const PORTION_BYTES: usize = 2 << 20;
/// The most records that one request asks for.
pub(crate) const PORTION_RECORDS_MAX: usize = 1024;
/// The fewest, unless a portion was too large.
pub(crate) const PORTION_RECORDS_MIN: usize = 4;
/// How many regions, or portions of keys, one read asks at the same time. Together with [`PORTION_BYTES`] this bounds
/// what a read holds beside its answer.
pub(crate) const READ_WIDTH_MAX: usize = 4;

/// Locks that one scan for them brings back.
pub(crate) const LOCKS_PER_SCAN: u32 = 1024;
/// Regions that one question to PD brings back.
pub(crate) const REGIONS_PER_ASK: usize = 1024;
/// The most borders of regions that cutting a span looks at; of more, the first count.
pub(crate) const BORDERS_MAX: usize = 1 << 16;
/// Regions whose borders are remembered. They are forgotten all together when there are more.
pub(crate) const REGIONS_KEPT_MAX: usize = 1 << 14;
/// How long a border is believed. An old one costs time, never a record.
pub(crate) const REGION_TIME_MAX: Duration = Duration::from_secs(60);

/// The shortest time for which old versions may be kept: a list of a large cluster takes seconds.
pub(crate) const GC_LIFETIME_MIN: Duration = Duration::from_secs(60);
