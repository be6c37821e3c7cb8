use super::{Check, batches, concurrency, durability, faults, life, points, random, scans, snapshots};

/// The one list of all checks: module, name, promise.
#[doc(hidden)]
#[macro_export]
macro_rules! for_each_conformance_check {
    ([$($then:tt)+] $(, $argument:expr)?) => {
        $($then)+! {
            $($argument;)?
            points::a_put_is_read_back:
                "what was put is read back, byte by byte",
            points::a_later_put_replaces_the_value:
                "the last committed put of a key counts",
            points::a_deleted_record_is_gone:
                "a deleted record is gone, and deleting what is not there is no error",
            points::an_insert_needs_an_absent_key:
                "an insert creates a record that does not exist, also after a deletion",
            points::keys_and_values_are_any_bytes:
                "keys and values are any bytes, also the empty value, and order is byte order",
            points::get_many_answers_in_the_order_of_its_keys:
                "get_many answers each key in its place",
            batches::a_conflict_applies_nothing:
                "a batch whose insert finds its key taken applies nothing and names the key",
            batches::an_empty_batch_is_committed:
                "an empty batch is committed",
            batches::a_batch_of_ten_thousand_writes_is_whole:
                "a batch of 10,000 writes is applied as a whole",
            batches::the_largest_value_is_kept:
                "the largest value that the engine says it takes, 8 MiB unless it says otherwise, is kept",
            snapshots::a_snapshot_never_changes:
                "a snapshot shows for ever what it showed first",
            snapshots::a_snapshot_shows_what_was_acknowledged_before:
                "a snapshot shows every batch acknowledged before it was asked for",
            snapshots::snapshots_outlive_reclaim:
                "reclaim takes nothing that a snapshot or the present needs",
            scans::a_scan_covers_its_span_in_both_directions:
                "a scan gives the records of its span, start included, end excluded, in its order",
            scans::pages_join_without_gap_or_overlap:
                "pages of any size, continued at `next`, give each record once",
            scans::a_page_keeps_its_limits:
                "a page stops at its limits and holds at least one record",
            scans::an_empty_span_gives_nothing:
                "an empty or inverted span gives no records and no error",
            scans::a_scan_without_values_gives_the_same_keys:
                "a scan without values gives the same keys and empty values",
            concurrency::of_concurrent_inserts_exactly_one_wins:
                "of concurrent inserts of a key exactly one is committed and the others conflict",
            concurrency::concurrent_batches_are_all_visible:
                "concurrent batches on different keys are all committed",
            concurrency::a_snapshot_shows_batches_whole_and_in_order:
                "one caller's batches become visible whole and in their order",
            concurrency::a_dropped_commit_is_whole_or_absent:
                "a commit whose future is dropped is applied as a whole or not at all",
            life::split_points_lie_in_order_inside_the_span:
                "split points lie inside the span, in order, and fewer than the pieces",
            life::usage_follows_what_is_stored:
                "usage grows with what is stored, and live never exceeds total",
            life::a_closed_engine_refuses:
                "a closed engine answers Closed and applies nothing",
            durability::a_closed_store_opens_with_everything:
                "what was acknowledged is there after closing and opening again",
            durability::a_stopped_store_opens_with_everything:
                "what was acknowledged is there after a stop without close",
            random::random_operations_agree_with_a_model:
                "any mix of operations gives what an ordered map gives",
            faults::faults_are_told_apart:
                "through faults, each answer is true of what happened",
            faults::an_unknown_outcome_is_settled_by_the_next_slot:
                "an unknown outcome becomes known by taking the next slot",
        }
    };
}

/// Makes one asynchronous test of each check. The argument is an expression that gives a
/// [`Factory`](crate::conformance::Factory), evaluated once per test; the calling crate needs `tokio` with
/// the features `macros` and `rt-multi-thread`.
///
/// ```no_run
/// use std::sync::Arc;
/// use engine::{Engine, MemoryEngine};
///
/// engine::conformance_tests!(|| async { Arc::new(MemoryEngine::new()) as Arc<dyn Engine> });
/// ```
#[macro_export]
macro_rules! conformance_tests {
    ($factory:expr) => {
        $crate::for_each_conformance_check!([$crate::conformance_test_functions], $factory);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! conformance_test_functions {
    ($factory:expr; $($module:ident::$name:ident: $promise:literal,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() -> Result<(), $crate::conformance::Broken> {
                let factory = $factory;
                $crate::conformance::run_one(stringify!($name), &factory).await
            }
        )+
    };
}

macro_rules! table {
    ($($module:ident::$name:ident: $promise:literal,)+) => {
        &[$(
            Check {
                name: stringify!($name),
                promise: $promise,
                run: |factory| Box::pin($module::$name(factory)),
            },
        )+]
    };
}

/// All checks, each on its own.
pub const CHECKS: &[Check] = for_each_conformance_check!([table]);
