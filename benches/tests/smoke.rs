//! The bench, small: the floor that it starts, and an Orlop of this process as a peer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test whose equipment breaks has failed")]

use std::ffi::OsString;
use std::path::Path;
use std::process::Output;

use node::config::{Command, Config, Source, read};
use node::{App, World};
use serde_json::Value;

struct Arguments(Vec<String>);

impl Source for Arguments {
    fn arguments(&self) -> Vec<OsString> {
        self.0.iter().map(Into::into).collect()
    }

    fn variables(&self) -> Vec<(OsString, OsString)> {
        Vec::new()
    }

    fn read_file(&self, _: &Path) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

fn config(dir: &Path) -> Config {
    let data = format!("--data-dir={}", dir.display());
    match read(&Arguments(vec!["--listen-client-urls=http://127.0.0.1:0".into(), data])).unwrap() {
        Command::Serve(config) => *config,
        other => panic!("{other:?}"),
    }
}

/// Runs the bench with these arguments to its end.
async fn bench(arguments: &[String]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_orlop-bench"));
    command.arg("run").args(arguments);
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_floor_and_orlop_are_measured_side_by_side_and_compared_with_an_earlier_run() {
    let (data, results) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let app = App::build(&config(data.path()), World::default()).await.unwrap();
    let url = app.listen_urls().next().unwrap().to_string();
    let running = app.start();

    let rows = "create/512b-16c,update/512b-16c,get/512b-16c,delete/512b-16c,kubebrain,watch/10,watch-start";
    let result = results.path().join("result.json");
    let arguments: Vec<String> = [
        "--quick",
        "--rounds=1",
        "--seconds=0.2",
        "--system=floor",
        &format!("--peer=orlop={url},{}", std::process::id()),
        &format!("--load={rows}"),
        &format!("--dir={}", results.path().display()),
    ]
    .map(str::to_owned)
    .to_vec();
    let ran = bench(&arguments).await;
    assert!(ran.status.success(), "{}", text(&ran.stderr));

    let json: Value = serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
    assert_eq!(json["missing"], Value::Array(Vec::new()));
    let measured = json["measurements"].as_array().unwrap();
    let of = |system: &str| measured.iter().filter(|one| one["system"] == system).collect::<Vec<_>>();
    assert_eq!((of("floor").len(), of("orlop").len()), (7, 9), "{json}");
    for one in measured {
        assert!(one["ops"].as_u64().unwrap() > 0, "{one}");
        assert!(one["p50_us"].as_u64() <= one["p999_us"].as_u64(), "{one}");
        assert!(one["rss_mib"].as_f64().unwrap() > 0.0, "{one}");
    }
    let written = of("orlop").iter().map(|one| one["written_bytes"].as_f64().unwrap()).sum::<f64>();
    assert!(written > 0.0, "Orlop writes to its disk");
    let said = text(&ran.stdout);
    assert!(said.contains("### create/512b-16c") && said.contains("| orlop |"), "{said}");
    assert!(std::fs::read_to_string(results.path().join("result.svg")).unwrap().contains("orlop"));

    // Against what was just written.
    let earlier = results.path().join("earlier.json");
    std::fs::rename(&result, &earlier).unwrap();
    let against = format!("--against={}", earlier.display());
    let again = ["--load=get/512b-16c", "--quick", "--rounds=1", "--seconds=0.1", "--system=floor", &against];
    let mut again = again.map(str::to_owned).to_vec();
    again.push(format!("--dir={}", results.path().display()));
    let ran = bench(&again).await;
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let said = text(&ran.stdout);
    assert!(said.contains("NOT COMPARABLE"), "the phases are shorter: {said}");
    assert!(said.contains("| get/512b-16c | floor | "), "{said}");
    running.drain().await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_is_named_before_anything_starts() {
    let ran = bench(&["--load=creation".to_owned()]).await;
    assert!(!ran.status.success());
    assert!(text(&ran.stderr).contains("no row has the name creation"), "{}", text(&ran.stderr));
}
