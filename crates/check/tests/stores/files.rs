//! What is damaged in a file is named with the file, and all other records are checked all the same.

use std::sync::Arc;

use check::Problem;
use engine::{Batch, Engine, MemoryEngine};
use engine_embedded::{Config, EmbeddedEngine, ReadOnlyEngine};
use model::{LeaseId, Revision};

use crate::common::{Machine, check_in, space};

#[tokio::test]
async fn a_record_that_cannot_be_read_hides_no_other() {
    let machine = Machine::start(Arc::new(MemoryEngine::new())).await;
    for number in 0..40 {
        machine.put(&format!("k{number:02}"), &format!("<{number:02}>").repeat(100), LeaseId::NONE).await;
    }
    let records = machine.records().await;
    machine.stop().await;
    let temp = tempfile::tempdir().unwrap();
    let settings = Config { segment_bytes: 4096, reserve_bytes: 0, ..Config::new(temp.path()) };
    let engine = EmbeddedEngine::open(settings.clone()).unwrap();
    for (key, value) in &records.0 {
        let mut batch = Batch::new();
        batch.put(key.clone(), value.clone());
        engine.commit(batch).await.unwrap();
    }
    engine.close().await;
    drop(engine);
    let mut damaged = Vec::new();
    for number in [7, 8, 20] {
        let needle = format!("<{number:02}>").repeat(90).into_bytes();
        for entry in std::fs::read_dir(temp.path()).unwrap() {
            let path = entry.unwrap().path();
            let mut content = std::fs::read(&path).unwrap();
            if let Some(at) = content.windows(needle.len()).position(|bytes| bytes == needle) {
                content[at + 5] ^= 0x10;
                std::fs::write(&path, content).unwrap();
                damaged.push((path, number));
            }
        }
    }
    assert_eq!(damaged.len(), 3);
    let engine = ReadOnlyEngine::open(settings).unwrap();
    let snapshot = engine.snapshot().unwrap();
    let (report, findings) = check_in(snapshot.as_ref()).await;
    let report = report.unwrap();
    assert_eq!((report.keys, report.objects, report.problems), (40, 40, 3), "{findings:?}");
    for ((path, number), finding) in damaged.iter().zip(&findings) {
        assert_eq!(finding.problem, Problem::Damaged);
        assert!(finding.text.contains(&path.display().to_string()), "{}", finding.text);
        let key = space().object_key(format!("k{number:02}").as_bytes(), Revision::new(number + 2));
        assert_eq!(finding.record, Some(key));
    }
}
