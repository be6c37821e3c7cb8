//! TLS to PD and TiKV.

use std::path::Path;

use engine::{Engine, KeySpan};

use super::cluster::{Cluster, batch_of, values};
use crate::{Config, ConfigError, ConnectError, TikvEngine, Tls};

fn files(dir: &Path) -> Tls {
    Tls { ca_file: dir.join("ca.pem"), cert_file: dir.join("cert.pem"), key_file: dir.join("key.pem") }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_over_tls_when_there_are_files_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let Some(cluster) = Cluster::with_tls(dir.path()) else { return };
    let engine = cluster.connect_with(Config { tls: Some(files(dir.path())), ..cluster.config() }).await;
    let (slot, record) = (cluster.key("slot"), cluster.key("record"));
    assert_eq!(engine.commit(batch_of(&slot, &[(&record, "1")])).await, Ok(()));
    assert_eq!(values(&engine, &[&slot, &record]).await, [Some("slot".into()), Some("1".into())]);
    // The calls to PD that are our own go the same way.
    let everything = KeySpan { start: cluster.key(""), end: None };
    assert_eq!(engine.split_points(everything, 4).await, Ok(Vec::new()));
    engine.reclaim().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_certificate_or_believes_another_authority_is_not_let_in() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(cluster) = Cluster::with_tls(dir.path()) else { return };
    let Some(_other) = Cluster::with_tls(other.path()) else { return };
    for tls in [None, Some(files(other.path()))] {
        let refused = TikvEngine::connect(Config { tls, ..cluster.config() }).await.err().unwrap();
        assert!(matches!(refused, ConnectError::Unreachable { .. }), "{refused}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_and_not_waited_for() {
    let tls = Some(files(Path::new("/nowhere")));
    let refused = TikvEngine::connect(Config { tls, ..Config::new(vec!["127.0.0.1:1".into()]) }).await;
    match refused.err().unwrap() {
        ConnectError::Config(ConfigError::Tls(why)) => assert!(why.contains("/nowhere/"), "{why}"),
        other => panic!("{other}"),
    }
}
