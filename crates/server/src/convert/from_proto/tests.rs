use prost::Message;

use super::*;
use EtcdError::*;

fn key(text: &'static str) -> Key {
    Key::new(text).unwrap()
}

fn range_of(key: &'static str, range_end: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() }
}

fn put_of(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), ..Default::default() }
}

fn delete_of(key: &'static str, range_end: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: false }
}

fn op_of(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn puts(keys: &[&'static str]) -> Vec<RequestOp> {
    keys.iter().map(|key| op_of(Request::RequestPut(put_of(key)))).collect()
}

fn deletes(ranges: &[(&'static str, &'static str)]) -> Vec<RequestOp> {
    ranges.iter().map(|(key, end)| op_of(Request::RequestDeleteRange(delete_of(key, end)))).collect()
}

fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    op_of(Request::RequestTxn(TxnRequest { compare: Vec::new(), success, failure }))
}

fn txn_of(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..Default::default() }
}

fn compare_of(key: &'static str) -> WireCompare {
    WireCompare { key: key.into(), ..Default::default() }
}

fn check_txn(request: TxnRequest, expected: Result<(), EtcdError>) {
    assert_eq!(txn(request.clone(), TXN_OPS_MAX_DEFAULT).map(|_| ()), expected, "{request:?}");
}

#[test]
fn a_range_needs_a_key_before_anything_else() {
    let request = RangeRequest { sort_order: 9, ..range_of("", "z") };
    assert_eq!(range(request), Err(EmptyKey));
}

#[test]
fn a_range_with_an_unknown_order_or_target_is_refused() {
    for number in [-1, 3] {
        let request = RangeRequest { sort_order: number, ..range_of("a", "") };
        assert_eq!(range(request), Err(InvalidSortOption));
    }
    for number in [-1, 5] {
        let request = RangeRequest { sort_target: number, ..range_of("a", "") };
        assert_eq!(range(request), Err(InvalidSortOption));
    }
}

#[test]
fn a_range_keeps_all_that_it_was_asked() {
    let request = RangeRequest {
        limit: 5,
        revision: 6,
        sort_order: WireOrder::Descend.into(),
        sort_target: WireSortTarget::Mod.into(),
        serializable: true,
        keys_only: true,
        count_only: true,
        min_mod_revision: 1,
        max_mod_revision: 2,
        min_create_revision: 3,
        max_create_revision: 4,
        ..range_of("a", "b")
    };
    let expected = RangeOp {
        range: KeyRange::between(&key("a"), "b"),
        revision: ReadRevision::At(Revision::new(6)),
        limit: 5,
        order: SortOrder::Descend,
        target: SortTarget::Mod,
        filter: RangeFilter {
            mod_revision_min: Revision::new(1),
            mod_revision_max: Revision::new(2),
            create_revision_min: Revision::new(3),
            create_revision_max: Revision::new(4),
        },
        keys_only: true,
        count_only: true,
    };
    assert_eq!(range(request), Ok(expected));
}

#[test]
fn every_order_and_target_has_its_number() {
    let orders = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
    for (number, order) in (0..).zip(orders) {
        assert_eq!(range(RangeRequest { sort_order: number, ..range_of("a", "") }).unwrap().order, order);
    }
    let targets =
        [SortTarget::Key, SortTarget::Version, SortTarget::Create, SortTarget::Mod, SortTarget::Value];
    for (number, target) in (0..).zip(targets) {
        assert_eq!(range(RangeRequest { sort_target: number, ..range_of("a", "") }).unwrap().target, target);
    }
}

#[test]
fn negative_numbers_in_a_range_are_read_as_etcd_reads_them() {
    let op = range(RangeRequest { limit: -1, revision: -1, ..range_of("a", "\0") }).unwrap();
    assert_eq!(op, RangeOp::of(KeyRange::from(&key("a"))));

    let op =
        range(RangeRequest { min_mod_revision: -1, min_create_revision: -1, ..range_of("a", "") }).unwrap();
    assert_eq!(op.filter, RangeFilter::default());

    for request in [
        RangeRequest { max_mod_revision: -1, ..range_of("a", "") },
        RangeRequest { max_create_revision: -1, ..range_of("a", "") },
    ] {
        let filter = range(request).unwrap().filter;
        assert!(!filter.admits(Revision::new(1), Revision::new(1)), "nothing lies below a negative maximum");
    }
}

#[test]
fn a_streamed_range_is_checked_like_a_range_and_then_for_order_and_filters() {
    let order = |order, target| RangeRequest {
        sort_order: WireOrder::into(order),
        sort_target: WireSortTarget::into(target),
        ..range_of("a", "b")
    };
    let plain = RangeOp::of(KeyRange::between(&key("a"), "b"));
    assert_eq!(range_stream(range_of("", "")), Err(EmptyKey));
    assert_eq!(range_stream(RangeRequest { sort_order: 9, ..range_of("a", "") }), Err(InvalidSortOption));
    assert_eq!(range_stream(order(WireOrder::Ascend, WireSortTarget::Key)), Ok(plain.clone()));
    assert_eq!(range_stream(order(WireOrder::None, WireSortTarget::Mod)), Ok(plain));
    for (by, target) in [(WireOrder::Descend, WireSortTarget::Key), (WireOrder::Ascend, WireSortTarget::Mod)]
    {
        let request = RangeRequest { min_mod_revision: 1, ..order(by, target) };
        assert_eq!(range_stream(request), Err(RangeStreamSorted));
    }
    for request in [
        RangeRequest { min_mod_revision: -1, ..range_of("a", "b") },
        RangeRequest { max_mod_revision: 1, ..range_of("a", "b") },
        RangeRequest { min_create_revision: 1, ..range_of("a", "b") },
        RangeRequest { max_create_revision: 1, ..range_of("a", "b") },
    ] {
        assert_eq!(range_stream(request), Err(RangeStreamFiltered));
    }
}

#[test]
fn a_put_is_refused_for_its_key_then_its_value_then_its_lease() {
    let all =
        PutRequest { value: "v".into(), lease: 1, ignore_value: true, ignore_lease: true, ..put_of("") };
    assert_eq!(put(all.clone()), Err(EmptyKey));
    assert_eq!(put(PutRequest { key: "a".into(), ..all.clone() }), Err(ValueProvided));
    assert_eq!(put(PutRequest { key: "a".into(), value: Bytes::new(), ..all }), Err(LeaseProvided));
}

#[test]
fn a_put_sets_or_keeps_value_and_lease() {
    let request = PutRequest { value: "v".into(), lease: -3, prev_kv: true, ..put_of("a") };
    let (value, lease) = (PutValue::Set("v".into()), PutLease::Set(LeaseId(-3)));
    assert_eq!(put(request), Ok(PutOp { key: key("a"), value, lease, return_previous: true }));

    let request = PutRequest { ignore_value: true, ignore_lease: true, ..put_of("a") };
    let (value, lease) = (PutValue::Keep, PutLease::Keep);
    assert_eq!(put(request), Ok(PutOp { key: key("a"), value, lease, return_previous: false }));
}

#[test]
fn a_deletion_needs_a_key() {
    assert_eq!(delete(delete_of("", "z")), Err(EmptyKey));
    let request = DeleteRangeRequest { prev_kv: true, ..delete_of("a", "") };
    assert_eq!(delete(request), Ok(DeleteOp { range: KeyRange::single(&key("a")), return_previous: true }));
}

#[test]
fn a_negative_revision_cannot_be_compacted() {
    let revision = |revision| compaction(CompactionRequest { revision, physical: true });
    assert_eq!(revision(-1), Err(Compacted));
    assert_eq!(revision(0), Ok(Revision::NONE));
    assert_eq!(revision(5), Ok(Revision::new(5)));
}

#[test]
fn a_transaction_has_a_bounded_number_of_conditions_and_operations() {
    let ops = |count: usize| vec![op_of(Request::RequestRange(range_of("a", ""))); count];
    let with = |conditions: usize, success: usize, failure: usize| TxnRequest {
        compare: vec![compare_of("a"); conditions],
        success: ops(success),
        failure: ops(failure),
    };
    for permitted in [with(128, 0, 0), with(0, 128, 0), with(0, 0, 128), with(128, 128, 128)] {
        check_txn(permitted, Ok(()));
    }
    for too_many in [with(129, 0, 0), with(0, 129, 0), with(0, 0, 129)] {
        check_txn(too_many, Err(TooManyOps));
    }
}

#[test]
fn a_nested_transaction_has_as_many_operations_less_as_its_parent_uses() {
    let with = |parent: usize, child: usize| {
        let ops = |count: usize| vec![op_of(Request::RequestRange(range_of("a", ""))); count];
        let mut success = ops(parent - 1);
        success.push(nested(ops(child), Vec::new()));
        txn_of(success)
    };
    check_txn(with(100, 28), Ok(()));
    check_txn(with(100, 29), Err(TooManyOps));
    check_txn(with(128, 0), Ok(()));
    check_txn(with(128, 1), Err(TooManyOps));
}

#[test]
fn transactions_nest_to_a_bounded_depth_that_the_decoder_still_reads() {
    let deep = |depth: usize| {
        (1..depth).fold(txn_of(puts(&["a"])), |inner, _| txn_of(vec![op_of(Request::RequestTxn(inner))]))
    };
    check_txn(deep(TXN_DEPTH_MAX), Ok(()));
    check_txn(deep(TXN_DEPTH_MAX + 1), Err(TooManyOps));
    let decoded = |depth| TxnRequest::decode(deep(depth).encode_to_vec().as_slice()).is_ok();
    assert!(decoded(TXN_DEPTH_MAX + 1) && !decoded(51));
}

#[test]
fn the_first_error_is_etcds() {
    let empty_compare = TxnRequest { compare: vec![compare_of("")], ..txn_of(vec![RequestOp::default()]) };
    check_txn(empty_compare, Err(EmptyKey));
    let mut many = vec![RequestOp::default(); 129];
    check_txn(txn_of(many.clone()), Err(TooManyOps));
    many.truncate(128);
    check_txn(txn_of(many), Err(KeyNotFound));
    // Success before failure, and every single operation before two of them are compared.
    let mut success = puts(&["a", "a"]);
    let failure = deletes(&[("", "")]);
    check_txn(TxnRequest { failure: failure.clone(), ..txn_of(success.clone()) }, Err(EmptyKey));
    success.push(RequestOp::default());
    check_txn(TxnRequest { failure, ..txn_of(success) }, Err(KeyNotFound));
}

#[test]
fn every_operation_of_a_transaction_is_checked_as_on_its_own() {
    let unsorted = RangeRequest { sort_target: 9, ..range_of("a", "") };
    let valued = PutRequest { ignore_value: true, value: "v".into(), ..put_of("a") };
    let leased = PutRequest { ignore_lease: true, lease: 1, ..put_of("a") };
    for (request, error) in [
        (Request::RequestRange(range_of("", "")), EmptyKey),
        (Request::RequestRange(unsorted), InvalidSortOption),
        (Request::RequestPut(put_of("")), EmptyKey),
        (Request::RequestPut(valued), ValueProvided),
        (Request::RequestPut(leased), LeaseProvided),
        (Request::RequestDeleteRange(delete_of("", "")), EmptyKey),
    ] {
        let op = op_of(request);
        check_txn(txn_of(vec![op.clone()]), Err(error));
        check_txn(TxnRequest { failure: vec![op.clone()], ..Default::default() }, Err(error));
        check_txn(txn_of(vec![nested(Vec::new(), vec![op])]), Err(error));
    }
}

#[test]
fn a_transaction_keeps_its_operations_in_their_order() {
    let request = TxnRequest {
        compare: vec![compare_of("c")],
        success: vec![
            op_of(Request::RequestPut(put_of("a"))),
            op_of(Request::RequestRange(range_of("a", ""))),
        ],
        failure: vec![nested(deletes(&[("a", "b")]), Vec::new())],
    };
    let converted = txn(request, TXN_OPS_MAX_DEFAULT).unwrap();
    let delete = Op::Delete(delete(delete_of("a", "b")).unwrap());
    let expected = Txn {
        compares: compare(compare_of("c")).unwrap().into_iter().collect(),
        success: vec![Op::Put(put(put_of("a")).unwrap()), Op::Range(range(range_of("a", "")).unwrap())],
        failure: vec![Op::Txn(Txn { success: vec![delete], ..Default::default() })],
    };
    assert_eq!(converted, expected);
}

#[test]
fn inside_a_transaction_a_negative_revision_lies_below_every_other() {
    let request = RangeRequest { revision: -1, ..range_of("a", "") };
    let converted = txn(txn_of(vec![op_of(Request::RequestRange(request))]), 1).unwrap();
    let [Op::Range(op)] = &converted.success[..] else { panic!("{converted:?}") };
    assert_eq!(op.revision, ReadRevision::At(Revision::NONE));
}

#[test]
fn a_branch_puts_a_key_once() {
    check_txn(txn_of(puts(&["a", "b"])), Ok(()));
    check_txn(txn_of(puts(&["a", "b", "a"])), Err(DuplicateKey));
    check_txn(TxnRequest { failure: puts(&["a", "a"]), ..Default::default() }, Err(DuplicateKey));
    check_txn(TxnRequest { failure: puts(&["a"]), ..txn_of(puts(&["a"])) }, Ok(()));
}

#[test]
fn a_branch_does_not_put_what_it_deletes() {
    let both = |deletes: Vec<RequestOp>, puts: Vec<RequestOp>| {
        [txn_of([deletes.clone(), puts.clone()].concat()), txn_of([puts, deletes].concat())]
    };
    for (start, end, key, expected) in [
        ("a", "", "a", Err(DuplicateKey)),
        ("a", "", "a\0", Ok(())),
        ("a", "c", "b", Err(DuplicateKey)),
        ("a", "c", "c", Ok(())),
        ("b", "c", "a", Ok(())),
        ("c", "a", "b", Ok(())),
        ("a", "\0", "b", Err(DuplicateKey)),
        ("b", "\0", "a", Ok(())),
    ] {
        for request in both(deletes(&[(start, end)]), puts(&[key])) {
            check_txn(request, expected);
        }
    }
    check_txn(txn_of(deletes(&[("a", "c"), ("b", "d"), ("b", "")])), Ok(()));
}

#[test]
fn nested_transactions_count_with_both_branches_but_these_exclude_one_another() {
    check_txn(txn_of(vec![nested(puts(&["a"]), puts(&["a"]))]), Ok(()));
    check_txn(txn_of(vec![nested(puts(&["a"]), deletes(&[("a", "")]))]), Ok(()));
    check_txn(txn_of(vec![nested(puts(&["a", "a"]), Vec::new())]), Err(DuplicateKey));
    for branch in [|ops| nested(ops, Vec::new()), |ops| nested(Vec::new(), ops)] {
        let beside = |one: RequestOp, other: RequestOp| {
            [txn_of(vec![one.clone(), other.clone()]), txn_of(vec![other, one])]
        };
        let [put, delete] = [puts(&["a"]), deletes(&[("a", "b")])];
        let conflicts = [
            beside(branch(put.clone()), put[0].clone()),
            beside(branch(put.clone()), delete[0].clone()),
            beside(branch(delete.clone()), put[0].clone()),
            beside(branch(put.clone()), branch(put)),
            beside(branch(puts(&["a"])), branch(delete)),
        ];
        for request in conflicts.into_iter().flatten() {
            check_txn(request, Err(DuplicateKey));
        }
    }
}

#[test]
fn a_condition_reads_the_field_of_its_target() {
    let value = || Bytes::from("v");
    for (target, union, expected) in [
        (WireTarget::Version, WireUnion::Version(1), CompareTarget::Version(1)),
        (WireTarget::Create, WireUnion::CreateRevision(2), CompareTarget::CreateRevision(2)),
        (WireTarget::Mod, WireUnion::ModRevision(-3), CompareTarget::ModRevision(-3)),
        (WireTarget::Value, WireUnion::Value(value()), CompareTarget::Value(value())),
        (WireTarget::Lease, WireUnion::Lease(4), CompareTarget::Lease(4)),
        (WireTarget::Version, WireUnion::Lease(5), CompareTarget::Version(0)),
        (WireTarget::Create, WireUnion::Version(5), CompareTarget::CreateRevision(0)),
        (WireTarget::Mod, WireUnion::Version(5), CompareTarget::ModRevision(0)),
        (WireTarget::Value, WireUnion::Version(5), CompareTarget::Value(Bytes::new())),
        (WireTarget::Lease, WireUnion::Value(value()), CompareTarget::Lease(0)),
    ] {
        let request = WireCompare {
            result: WireOperator::Greater.into(),
            target: target.into(),
            range_end: "b".into(),
            target_union: Some(union),
            ..compare_of("a")
        };
        let range = KeyRange::between(&key("a"), "b");
        let expected = Compare { range, operator: CompareOperator::Greater, target: expected };
        assert_eq!(compare(request), Ok(Some(expected)));
    }
}

#[test]
fn every_operator_has_its_number() {
    let operators =
        [CompareOperator::Equal, CompareOperator::Greater, CompareOperator::Less, CompareOperator::NotEqual];
    for (number, operator) in (0..).zip(operators) {
        let converted = compare(WireCompare { result: number, ..compare_of("a") }).unwrap().unwrap();
        assert_eq!((converted.operator, converted.target), (operator, CompareTarget::Version(0)));
    }
}

#[test]
fn unknown_operators_and_targets_mean_what_etcd_makes_of_them() {
    let with = |result, target| compare(WireCompare { result, target, ..compare_of("a") }).unwrap();
    let of = |operator, target| Some(Compare { range: KeyRange::single(&key("a")), operator, target });
    let never = || of(CompareOperator::Less, CompareTarget::Version(i64::MIN));
    let if_the_key_exists = of(CompareOperator::NotEqual, CompareTarget::Version(0));
    assert_eq!(with(9, WireTarget::Mod.into()), None);
    assert_eq!(with(9, 9), None);
    assert_eq!(with(9, WireTarget::Value.into()), if_the_key_exists);
    assert_eq!(with(WireOperator::Equal.into(), 9), None);
    for operator in [WireOperator::Greater, WireOperator::Less, WireOperator::NotEqual] {
        assert_eq!(with(operator.into(), 9), never());
    }
}
