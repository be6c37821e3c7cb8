use proptest::prelude::*;
use prost::Message;
use proto::mvccpb::KeyValue;

use super::*;
use crate::index::tests::{any_key, any_meta};

fn as_message(key: &Key, meta: &KeyMeta, value: &[u8]) -> KeyValue {
    KeyValue {
        key: key.bytes().clone(),
        create_revision: meta.create_revision.get(),
        mod_revision: meta.mod_revision.get(),
        version: meta.version,
        value: Bytes::copy_from_slice(value),
        lease: meta.lease.0,
    }
}

proptest! {
    #[test]
    fn an_object_is_the_protobuf_encoding_of_the_key_value(key in any_key(), meta in any_meta(), value: Vec<u8>) {
        let space = KeySpace::new("p").unwrap();
        let record = space.object_key(key.as_slice(), meta.mod_revision);
        let sealed = space.encode_put(&record, key.as_slice(), &meta, &value);
        let message = as_message(&key, &meta, &value);
        let expected = Bytes::from(message.encode_to_vec());
        prop_assert_eq!(space.decode_object(&record, &sealed), Ok(Object::Put(expected.clone())));
        prop_assert_eq!(key_value_of(&sealed), expected.clone());
        let value_len = u32::try_from(value.len()).unwrap();
        prop_assert_eq!(meta_of(&expected), Ok(KeyMeta { value_len, ..meta }));
        prop_assert_eq!(value_of(&expected), Ok(Bytes::from(value)));
        let valueless = KeyValue { value: Bytes::new(), ..message };
        prop_assert_eq!(without_value(&expected), Ok(Bytes::from(valueless.encode_to_vec())));
        prop_assert_eq!(key_of(&expected), Ok(key.bytes().clone()));
        let key_only = KeyValue { lease: 0, ..valueless };
        prop_assert_eq!(encode_key_only(key.as_slice(), &meta), Bytes::from(key_only.encode_to_vec()));
    }

    #[test]
    fn a_deletion_carries_its_key_and_revision(key in any_key(), revision in 1..i64::MAX) {
        let deleted = KeyValue { key: key.bytes().clone(), mod_revision: revision, ..KeyValue::default() };
        prop_assert_eq!(
            encode_deleted(key.as_slice(), Revision::new(revision)),
            Bytes::from(deleted.encode_to_vec())
        );
    }

    #[test]
    fn objects_lie_in_the_order_of_key_and_revision(
        a in any_key(), b in any_key(), at in 0..i64::MAX, bt in 0..i64::MAX,
    ) {
        let space = KeySpace::new("p").unwrap();
        let first = space.object_key(a.as_slice(), Revision::new(at));
        let second = space.object_key(b.as_slice(), Revision::new(bt));
        prop_assert_eq!(first.cmp(&second), (&a, at).cmp(&(&b, bt)));
        prop_assert_eq!(space.decode_object_key(&first), Ok((a, Revision::new(at))));
    }

    #[test]
    fn a_span_holds_the_objects_of_the_keys_in_its_range(
        start in any_key(), end in any_key(), key in any_key(), shape in 0..3u8, revision in 0..i64::MAX,
    ) {
        let space = KeySpace::new("p").unwrap();
        let range = match shape {
            0 => KeyRange::single(&start),
            1 => KeyRange::between(&start, end.bytes().clone()),
            _ => KeyRange::from(&start),
        };
        let span = space.object_span(&range);
        for candidate in [&key, &start, &end, &start.successor()] {
            let record = space.object_key(candidate.as_slice(), Revision::new(revision));
            prop_assert_eq!(span.start <= record && record < span.end, range.contains(candidate.as_slice()));
        }
    }

    #[test]
    fn a_flipped_bit_is_an_error_that_names_the_record(key in any_key(), meta in any_meta(), bit: usize) {
        let space = KeySpace::new("").unwrap();
        let record = space.object_key(key.as_slice(), meta.mod_revision);
        let mut sealed = space.encode_put(&record, key.as_slice(), &meta, b"value").to_vec();
        let bit = bit % (sealed.len() * 8);
        sealed[bit / 8] ^= 1 << (bit % 8);
        let error = space.decode_object(&record, &sealed.into()).unwrap_err();
        prop_assert!(error.to_string().contains("object record"));
    }
}

#[test]
fn an_empty_value_is_no_tombstone() {
    let space = KeySpace::new("").unwrap();
    let record = space.object_key(b"k", Revision::new(2));
    let meta = KeyMeta {
        create_revision: Revision::new(2),
        mod_revision: Revision::new(2),
        version: 1,
        lease: model::LeaseId::NONE,
        value_len: 0,
    };
    let put = space.encode_put(&record, b"k", &meta, b"");
    assert!(matches!(space.decode_object(&record, &put), Ok(Object::Put(_))));
    assert_eq!(space.decode_object(&record, &space.encode_tombstone(&record)), Ok(Object::Tombstone));
}
