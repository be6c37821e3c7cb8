use super::*;

const A: LeaseId = LeaseId(1);
const B: LeaseId = LeaseId(2);
const C: LeaseId = LeaseId(3);

fn at(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ttl(secs: i64) -> LeaseTtl {
    LeaseTtl::clamped(secs, 1).unwrap()
}

/// A table in which these leases were granted at the start, with these TTLs.
fn table(leases: &[(LeaseId, i64)]) -> LeaseTable {
    let mut table = LeaseTable::new();
    for &(id, secs) in leases {
        table.granted(id, ttl(secs), at(0)).unwrap();
    }
    table
}

#[test]
fn a_lease_is_due_when_its_ttl_has_passed_and_not_before() {
    let mut table = table(&[(A, 10)]);
    assert_eq!(table.next_deadline(), Some(at(10)));
    assert_eq!(table.expire_due(at(10) - Duration::from_nanos(1), 10), []);
    assert_eq!(table.expire_due(at(10), 10), [A]);
    assert_eq!(table.next_deadline(), None);
}

#[test]
fn a_keepalive_gives_the_full_ttl_again() {
    let mut table = table(&[(A, 10), (B, 12)]);
    assert_eq!(table.renew(A, at(9)), Renewal::Renewed(ttl(10)));
    assert_eq!(table.remaining(A, at(9)), Some(TimeLeft { granted: ttl(10), left: at(10) }));
    assert_eq!(table.expire_due(at(18), 10), [B]);
    assert_eq!(table.expire_due(at(19), 10), [A]);
}

#[test]
fn a_late_stamped_keepalive_takes_no_time_away() {
    let mut table = table(&[(A, 10)]);
    table.renew(A, at(8));
    assert_eq!(table.renew(A, at(5)), Renewal::Renewed(ttl(10)));
    assert_eq!(table.next_deadline(), Some(at(18)));
}

#[test]
fn an_expired_lease_cannot_be_renewed_even_before_anybody_took_it() {
    let mut table = table(&[(A, 10)]);
    assert_eq!(table.renew(A, at(10)), Renewal::Revoking);
    assert_eq!(table.expire_due(at(11), 10), [A]);
    assert_eq!(table.renew(A, at(11)), Renewal::Revoking);
    table.requeue(A, at(20));
    assert_eq!(table.renew(A, at(12)), Renewal::Revoking);
    table.vanished(A).unwrap();
    assert_eq!(table.renew(A, at(12)), Renewal::Unknown);
}

#[test]
fn leases_expire_in_the_order_of_their_deadlines_a_few_at_a_time() {
    let mut table = table(&[(C, 5), (A, 7), (B, 6), (LeaseId(9), 100)]);
    assert_eq!(table.expire_due(at(50), 2), [C, B]);
    assert_eq!(table.expire_due(at(50), 0), []);
    assert_eq!(table.expire_due(at(50), 2), [A]);
    assert_eq!(table.expire_due(at(50), 2), []);
}

#[test]
fn a_failed_revocation_is_handed_out_again_only_after_it_was_requeued() {
    let mut table = table(&[(A, 10), (B, 15)]);
    assert_eq!(table.expire_due(at(10), 10), [A]);
    assert_eq!(table.expire_due(at(14), 10), []);
    table.requeue(A, at(13));
    assert_eq!(table.next_deadline(), Some(at(13)));
    assert_eq!(table.expire_due(at(12), 10), []);
    assert_eq!(table.expire_due(at(20), 10), [A, B]);
}

#[test]
fn the_last_requeue_counts() {
    let mut table = table(&[(A, 10)]);
    table.expire_due(at(10), 1);
    table.requeue(A, at(11));
    table.requeue(A, at(30));
    assert_eq!(table.expire_due(at(29), 10), []);
    assert_eq!(table.expire_due(at(30), 10), [A]);
    assert_eq!(table.expire_due(at(30), 10), []);
}

#[test]
fn requeuing_does_not_shorten_or_revive_a_lease() {
    let mut table = table(&[(A, 10)]);
    table.requeue(A, at(1));
    assert_eq!(table.next_deadline(), Some(at(10)));
    table.expire_due(at(10), 1);
    table.vanished(A).unwrap();
    table.requeue(A, at(1));
    assert!(table.is_empty());
    assert_eq!(table.next_deadline(), None);
}

#[test]
fn a_lease_revoked_by_its_client_does_not_expire_as_well() {
    let mut table = table(&[(A, 10)]);
    table.revoking(A).unwrap();
    assert_eq!(table.expire_due(at(100), 10), []);
    assert_eq!(table.renew(A, at(1)), Renewal::Revoking);
    table.requeue(A, at(5));
    assert_eq!(table.expire_due(at(5), 10), [A]);
    assert_eq!(table.state(A), Some(LeaseState::Revoking));
}

#[test]
fn a_lease_being_revoked_exists_but_takes_no_keys() {
    let mut table = table(&[(A, 10)]);
    assert!(table.exists(A) && table.attachable(A));
    table.expire_due(at(10), 1);
    assert!(table.exists(A) && table.attachable(A), "expired, but not marked yet");
    table.revoking(A).unwrap();
    assert!(table.exists(A) && !table.attachable(A));
    assert_eq!(table.granted(A, ttl(5), at(11)), Err(ApplyError::Exists(A)));
    table.vanished(A).unwrap();
    assert!(!table.exists(A) && !table.attachable(A));
    table.granted(A, ttl(5), at(12)).unwrap();
    assert_eq!(table.next_deadline(), Some(at(17)));
}

#[test]
fn the_mark_may_be_applied_twice_and_does_not_take_a_requeued_lease_out_of_the_queue() {
    let mut table = table(&[(A, 10)]);
    table.revoking(A).unwrap();
    table.requeue(A, at(3));
    table.revoking(A).unwrap();
    assert_eq!(table.expire_due(at(3), 10), [A]);
}

#[test]
fn records_about_unknown_leases_are_refused() {
    let mut table = LeaseTable::new();
    assert_eq!(table.revoking(A), Err(ApplyError::Unknown(A)));
    assert_eq!(table.vanished(A), Err(ApplyError::Unknown(A)));
    assert_eq!(table.renew(A, at(0)), Renewal::Unknown);
    assert_eq!(table.remaining(A, at(0)), None);
    assert_eq!(
        ApplyError::Unknown(A).to_string(),
        "lease 0000000000000001 is revoked or vanishes although it does not exist"
    );
}

#[test]
fn a_restart_gives_every_live_lease_its_full_ttl_again() {
    let entries = [(A, ttl(10), LeaseState::Live), (B, ttl(20), LeaseState::Live)];
    let mut table = LeaseTable::load(entries.into_iter(), at(1000));
    assert_eq!(table.remaining(A, at(1000)), Some(TimeLeft { granted: ttl(10), left: at(10) }));
    assert_eq!(table.expire_due(at(1009), 10), []);
    assert_eq!(table.expire_due(at(1020), 10), [A, B]);
}

#[test]
fn a_restart_finishes_the_revocations_that_were_begun() {
    let entries = [(A, ttl(10), LeaseState::Live), (B, ttl(20), LeaseState::Revoking)];
    let mut table = LeaseTable::load(entries.into_iter(), at(1000));
    assert_eq!(table.next_deadline(), Some(at(1000)));
    assert_eq!(table.renew(B, at(1000)), Renewal::Revoking);
    assert_eq!(table.expire_due(at(1000), 10), [B]);
    assert_eq!(table.expire_due(at(1000), 10), []);
}

#[test]
fn a_new_leader_starts_all_over_whatever_its_deadlines_were() {
    let mut table = table(&[(A, 10), (B, 10), (C, 10)]);
    assert_eq!(table.expire_due(at(10), 2), [A, B]);
    table.revoking(B).unwrap();
    table.promote(at(50));
    assert_eq!(table.renew(A, at(50)), Renewal::Renewed(ttl(10)), "expired, but never marked: it lives on");
    assert_eq!(table.expire_due(at(59), 10), [B]);
    assert_eq!(table.expire_due(at(60), 10), [A, C]);
}

#[test]
fn leases_are_listed_with_the_least_time_left_first() {
    let mut table =
        table(&[(LeaseId(5), 30), (LeaseId(4), 20), (LeaseId(9), 10), (LeaseId(8), 10), (LeaseId(7), 5)]);
    table.renew(LeaseId(4), at(4));
    table.expire_due(at(5), 10);
    let want = [7, 8, 9, 4, 5].map(LeaseId);
    assert_eq!(table.list(), want);
    assert_eq!(table.len(), want.len());
}

#[test]
fn the_longest_ttl_and_negative_ids_are_leases_like_others() {
    let id = LeaseId(i64::MIN);
    let mut table = table(&[(id, LeaseTtl::SECS_MAX)]);
    assert_eq!(table.expire_due(at(LeaseTtl::SECS_MAX as u64 - 1), 1), []);
    assert_eq!(table.expire_due(Duration::MAX, 1), [id]);
    table.vanished(id).unwrap();
    table.granted(id, ttl(LeaseTtl::SECS_MAX), Duration::MAX).unwrap();
    assert_eq!(table.next_deadline(), Some(Duration::MAX), "the end of time, not an overflow");
}
