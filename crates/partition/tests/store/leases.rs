//! Keys on leases: attached, moved, detached, and deleted with them.

use bytes::Bytes;
use model::{KeyRange, LeaseId, LeaseTtl, Op, PutLease, PutOp, PutValue, Revision, Txn};
use partition::{Detached, TxnFailure};

use crate::common::{Machine, key, put, put_op, retentive};

const ONE: LeaseId = LeaseId(1);
const TWO: LeaseId = LeaseId(-2);

async fn with_leases() -> Machine {
    let machine = Machine::start(retentive()).await;
    for lease in [ONE, TWO] {
        machine.store.system.grant(lease, LeaseTtl::clamped(60, 1).unwrap()).await.unwrap();
    }
    machine
}

async fn attach(machine: &Machine, key: &str, lease: LeaseId) -> Result<(), TxnFailure> {
    machine.txn(Txn::only(put_op(key, "x", lease))).await.map(drop)
}

#[tokio::test]
async fn a_key_hangs_on_the_lease_of_its_last_put_over_restarts() {
    let machine = with_leases().await;
    for key in ["a", "b", "c", "d"] {
        attach(&machine, key, ONE).await.unwrap();
    }
    attach(&machine, "b", TWO).await.unwrap();
    attach(&machine, "c", LeaseId::NONE).await.unwrap();
    let keep = PutOp {
        key: key("d"),
        value: PutValue::Set(Bytes::from("y")),
        lease: PutLease::Keep,
        return_previous: false,
    };
    machine.txn(Txn::only(Op::Put(keep))).await.unwrap();
    machine.delete("a").await;
    let check = |machine: &Machine| {
        let partition = &machine.store.keys;
        assert_eq!(partition.attached(ONE), ["d"]);
        assert_eq!(partition.attached(TWO), ["b"]);
    };
    check(&machine);
    check(&machine.restart().await);
}

#[tokio::test]
async fn a_lease_that_does_not_exist_or_is_being_revoked_takes_no_key() {
    let machine = with_leases().await;
    assert_eq!(attach(&machine, "a", LeaseId(7)).await, Err(TxnFailure::LeaseNotFound));
    machine.store.system.begin_revoke(ONE).await.unwrap();
    assert_eq!(attach(&machine, "a", ONE).await, Err(TxnFailure::LeaseNotFound));
    let machine = machine.restart().await;
    assert_eq!(attach(&machine, "a", ONE).await, Err(TxnFailure::LeaseNotFound));
    assert_eq!(machine.revision(), 1);
    attach(&machine, "a", TWO).await.unwrap();
}

#[tokio::test]
async fn the_keys_of_a_lease_go_in_pieces_with_ordinary_events() {
    let machine = with_leases().await;
    for key in ["a", "b", "c", "d", "e"] {
        attach(&machine, key, ONE).await.unwrap();
    }
    machine.put("f", "stays").await;
    let partition = &machine.store.keys;
    let expected = [(2, 3), (2, 1), (1, 0), (0, 0)];
    for (deleted, left) in expected {
        assert_eq!(partition.delete_attached(ONE, 2).await, Ok(Detached { deleted, left }));
    }
    assert_eq!(machine.revision(), 10, "one revision for each piece that deleted something");
    let page = partition.events(Revision::new(8), &KeyRange::all()).await.unwrap();
    let mut gone = Vec::new();
    for event in &page.events {
        let (key, revision, new, previous) = crate::model::happened(partition, event).await;
        assert_eq!((new, previous.unwrap().lease), (None, ONE));
        gone.push((key, revision));
    }
    let expected = [("a", 8), ("b", 8), ("c", 9), ("d", 9), ("e", 10)];
    assert_eq!(gone, expected.map(|(key, revision)| (Bytes::from(key), revision)));
    assert_eq!(partition.key_count(), 1);
    machine.store.system.begin_revoke(ONE).await.unwrap();
    machine.store.system.finish_revoke(ONE).await.unwrap();
    let machine = machine.restart().await;
    assert_eq!(machine.store.system.lease(ONE), None);
}

#[tokio::test]
async fn keys_that_move_in_the_same_batch_are_counted_where_they_hang_then() {
    let machine = with_leases().await;
    for key in ["a", "b", "c"] {
        attach(&machine, key, ONE).await.unwrap();
    }
    let (moved, attached, detached, gone, late) = tokio::join!(
        attach(&machine, "a", TWO),
        attach(&machine, "d", ONE),
        machine.txn(put("b", "no lease")),
        machine.store.keys.delete_attached(ONE, 10),
        attach(&machine, "e", ONE),
    );
    assert!(moved.is_ok() && attached.is_ok() && detached.is_ok() && late.is_ok());
    assert_eq!(gone, Ok(Detached { deleted: 2, left: 0 }), "c and d");
    assert_eq!(machine.slots(crate::common::USER).await.len(), 6, "all in one batch");
    assert_eq!(machine.store.keys.attached(ONE), ["e"]);
    assert_eq!(machine.store.keys.attached(TWO), ["a"]);
    assert_eq!(machine.store.keys.key_count(), 3);
}

#[tokio::test]
async fn a_put_on_its_way_when_its_leases_revocation_begins_is_deleted_with_the_others() {
    let machine = with_leases().await;
    attach(&machine, "a", ONE).await.unwrap();
    let hold = machine.engine.hold_next_answer();
    let (attached, detached) = tokio::join!(attach(&machine, "b", ONE), async {
        hold.reached().await;
        // Begun while the put is durable and nobody knows: the system partition goes its own way.
        machine.store.system.begin_revoke(ONE).await.unwrap();
        let (detached, ()) = tokio::join!(machine.store.keys.delete_attached(ONE, 10), async {
            hold.release();
        });
        detached
    });
    attached.unwrap();
    assert_eq!(detached.unwrap(), Detached { deleted: 2, left: 0 });
    assert_eq!(attach(&machine, "c", ONE).await, Err(TxnFailure::LeaseNotFound));
    assert_eq!(machine.store.keys.key_count(), 0);
}
