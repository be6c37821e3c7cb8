use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::settings::SETTINGS;
use super::{Command, Config, EngineKind, LogFormat, Source, read};

/// A source that a test wrote.
#[derive(Default)]
struct Fake {
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    files: HashMap<PathBuf, String>,
}

impl Source for Fake {
    fn arguments(&self) -> Vec<OsString> {
        self.arguments.clone()
    }

    fn variables(&self) -> Vec<(OsString, OsString)> {
        self.variables.clone()
    }

    fn read_file(&self, path: &Path) -> io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// `arguments` separated by spaces.
fn args(arguments: &str) -> Fake {
    Fake { arguments: arguments.split_whitespace().map(OsString::from).collect(), ..Fake::default() }
}

impl Fake {
    fn variable(mut self, name: &str, value: &str) -> Fake {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn file(mut self, path: &str, text: &str) -> Fake {
        self.files.insert(path.into(), text.to_owned());
        self
    }

    fn config(&self) -> Config {
        match read(self) {
            Ok(Command::Serve(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    fn problems(&self) -> Vec<String> {
        read(self).unwrap_err().lines().to_vec()
    }

    fn printed(&self) -> String {
        match read(self) {
            Ok(Command::Print(text)) => text,
            other => panic!("{other:?}"),
        }
    }
}

/// The source is refused with exactly these lines.
#[track_caller]
fn refused(source: &Fake, expected: &[&str]) {
    assert_eq!(source.problems(), expected);
}

#[test]
fn without_anything_it_serves_on_loopback_with_data_in_the_working_directory() {
    let config = args("").config();
    assert_eq!(config, args("serve").config());
    assert_eq!(config.data_dir, Path::new("./orlop-data"));
    assert_eq!(config.listen_client_urls[0].to_string(), "http://127.0.0.1:2379");
    assert_eq!(config.engine, EngineKind::Embedded);
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(600));
    assert_eq!((config.max_request_bytes, config.max_txn_ops), (1_572_864, 128));
    assert_eq!((config.log.level, config.log.format), (tracing::Level::INFO, LogFormat::Human));
}

#[test]
fn a_flag_goes_before_a_variable_and_a_variable_before_the_file() {
    let file = "name = 'file'\ndata-dir = 'file'\nmax-txn-ops = 7";
    let source = args("--config-file a.toml --name flag")
        .variable("ORLOP_NAME", "variable")
        .variable("ORLOP_DATA_DIR", "variable")
        .file("a.toml", file);
    let config = source.config();
    assert_eq!(
        (config.name.as_str(), config.data_dir.to_str().unwrap(), config.max_txn_ops),
        ("flag", "variable", 7)
    );
    assert_eq!(config.file.as_deref(), Some(Path::new("a.toml")));
}

#[test]
fn every_setting_can_be_given_in_all_three_ways() {
    let examples = HashMap::from([
        ("name", "n1"),
        ("data-dir", "/d"),
        ("listen-client-urls", "http://127.0.0.1:1,http://[::1]:1"),
        ("advertise-client-urls", "http://db:1"),
        ("listen-peer-urls", "http://127.0.0.1:3"),
        ("advertise-peer-urls", "http://peer:1"),
        ("peer-cert-file", "/cert"),
        ("peer-key-file", "/key"),
        ("peer-trusted-ca-file", "/ca"),
        ("peer-client-cert-auth", "true"),
        ("watch-progress-notify-interval", "1m30s"),
        ("max-request-bytes", "2000000"),
        ("max-txn-ops", "1000"),
        ("quota-backend-bytes", "8589934592"),
        ("log-level", "debug"),
        ("log-format", "json"),
        ("enable-distributed-tracing", "true"),
        ("distributed-tracing-address", "collector:4317"),
        ("distributed-tracing-service-name", "store"),
        ("distributed-tracing-instance-id", "first"),
        ("distributed-tracing-sampling-rate", "100"),
        ("engine", "memory"),
        ("pd-endpoints", "127.0.0.1:1,pd:2"),
        ("tikv-ca-file", "/ca"),
        ("tikv-cert-file", "/cert"),
        ("tikv-key-file", "/key"),
        ("tikv-gc-lifetime", "30m"),
        ("tikv-gc", "hold"),
        ("leader-lease", "5s"),
        ("listen-metrics-urls", "http://127.0.0.1:1,http://[::1]:1"),
        ("max-concurrent-streams", "250"),
        ("max-connections", "10000"),
        ("max-connections-per-client", "100"),
        ("max-calls-per-client", "7"),
        ("max-inflight-bytes-per-client", "1000000000"),
        ("client-permissions-file", "/permissions"),
        ("cert-file", "/cert"),
        ("key-file", "/key"),
        ("trusted-ca-file", "/ca"),
        ("client-cert-auth", "true"),
        ("client-crl-file", "/crl"),
        ("client-cert-allowed-hostname", "a.example.org,192.0.2.1"),
        ("client-cert-allowed-cn", "a,b"),
        ("tls-min-version", "TLS1.3"),
        ("tls-max-version", "TLS1.2"),
        ("cipher-suites", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_AES_128_GCM_SHA256"),
        ("key-prefix", "/one/"),
        ("initial-partition-splits", "/a,/b"),
        ("partition-owners", "leader"),
        ("history-bytes", "1"),
        ("cache-bytes", "2"),
    ]);
    for setting in SETTINGS.iter().filter(|setting| setting.name != "config-file") {
        let value = examples[setting.name];
        let (without, others) = companions(setting.name);
        let by_flag = args(&format!("--{}={value} {others}", setting.name)).config();
        assert_ne!(by_flag, args(without).config(), "{} has no effect", setting.name);
        assert_eq!(by_flag, args(&format!("serve --{} {value} {others}", setting.name)).config());
        assert_eq!(by_flag, args(others).variable(&setting.variable(), value).config());
        let file = format!("{} = {value:?}", setting.name);
        let by_file = args(others).variable("ORLOP_CONFIG_FILE", "a.toml").file("a.toml", &file).config();
        assert_eq!(Config { file: None, ..by_file }, by_flag);
    }
}

/// What has to be there without a setting, and what with it.
fn companions(setting: &str) -> (&'static str, &'static str) {
    let certificate = "--cert-file=/c --key-file=/k";
    let authority = "--cert-file=/c --key-file=/k --trusted-ca-file=/a";
    match setting {
        "cert-file" => ("", "--key-file=/k"),
        "key-file" => ("", "--cert-file=/c"),
        "trusted-ca-file" => (certificate, certificate),
        name if name.starts_with("client-") => (authority, authority),
        _ => ("", ""),
    }
}

#[test]
fn a_name_is_chosen_later_unless_one_is_given_and_blanks_are_none() {
    assert_eq!(args("").config().name, "");
    let blank = args("").variable("ORLOP_NAME", " ");
    refused(&blank, &["ORLOP_NAME: \" \": expected some text"]);
}

#[test]
fn between_servers_tls_is_for_both_sides_or_not_at_all() {
    let on_tikv = |more: &str| args(&format!("--engine=tikv --pd-endpoints=pd:1 {more}"));
    let all = "--peer-cert-file=/c --peer-key-file=/k --peer-trusted-ca-file=/a";
    if !cfg!(feature = "tikv") {
        return;
    }
    let config = on_tikv(&format!("{all} --listen-peer-urls=https://127.0.0.1:1")).config();
    assert!(config.peer_tls.settings().is_some() && config.peer_tls.connector().is_some());
    let flags = "--peer-cert-file, --peer-key-file and --peer-trusted-ca-file";
    let incomplete = format!("{flags}: for TLS between servers all three have to be given");
    for some in
        ["--peer-cert-file=/c --peer-key-file=/k", "--peer-trusted-ca-file=/a", "--peer-client-cert-auth"]
    {
        refused(&on_tikv(some), &[&incomplete]);
    }
    for (flag, url) in
        [("--listen-peer-urls", "https://127.0.0.1:1"), ("--advertise-peer-urls", "https://a:1")]
    {
        let missing = format!("{flag}: {url}: TLS between servers needs certificates: give {flags}");
        refused(&on_tikv(&format!("{flag}={url}")), &[&missing]);
    }
}

#[test]
fn numbers_and_lists_of_a_file_need_no_quotes() {
    let file = "max-txn-ops = 1_000\nlisten-client-urls = ['http://127.0.0.1:1', 'http://127.0.0.1:2']";
    let config = args("--config-file=a.toml").file("a.toml", file).config();
    assert_eq!((config.max_txn_ops, config.listen_client_urls.len()), (1000, 2));
    let file = "client-cert-auth = true\ncert-file = '/c'\nkey-file = '/k'\ntrusted-ca-file = '/a'";
    assert!(args("--config-file=a.toml").file("a.toml", file).config().client_tls.client_cert_auth);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let source =
        args("serve --datadir /d --max-txn-ops many --config-file a.toml --auto-tls=true stray --name")
            .variable("ORLOP_LOGLEVEL", "debug")
            .variable("ORLOP_LOG_LEVEL", "loud")
            .variable("ORLOP_PORT_2379_TCP", "tcp://10.0.0.1:2379")
            .variable("PATH", "/bin")
            .file(
                "a.toml",
                "engin = 'memory'\nhistory-bytes = 1.5\nquota-backend-bytes = 'lots'\nconfig-file = 'b'",
            );
    refused(
        &source,
        &[
            "--datadir: there is no such flag; did you mean --data-dir?",
            "--auto-tls: there is no such flag; certificates are made elsewhere: say where they are with --cert-file and \
             --key-file",
            "stray: expected a flag, which begins with --",
            "--name: expected a NAME behind it",
            "ORLOP_LOGLEVEL: no setting has this environment variable; did you mean ORLOP_LOG_LEVEL?",
            "a.toml: config-file: a file cannot name another file",
            "a.toml: engin: there is no such setting; did you mean engine?",
            "a.toml: history-bytes: expected a text, a number, true or false, or a list of texts",
            "a.toml: quota-backend-bytes: \"lots\": expected a whole number from -9223372036854775808 to \
             9223372036854775807",
            "ORLOP_LOG_LEVEL: \"loud\": expected one of: error, warn, info, debug, trace",
            "--max-txn-ops: \"many\": expected a whole number from 1 to 65536",
        ],
    );
}

#[test]
fn wrong_values_are_refused_with_what_was_expected() {
    let cases = [
        ("--engine=bolt", "--engine: \"bolt\": expected one of: embedded, tikv, memory"),
        ("--pd-endpoints=pd", "--pd-endpoints: \"pd\": pd: expected host and port, such as 127.0.0.1:2379"),
        ("--tikv-gc-lifetime=59s", "--tikv-gc-lifetime: \"59s\": expected at least 60s"),
        (
            "--watch-progress-notify-interval=99ms",
            "--watch-progress-notify-interval: \"99ms\": expected at least 100ms",
        ),
        (
            "--watch-progress-notify-interval=5",
            "--watch-progress-notify-interval: \"5\": expected a duration such as 10m, 5s or 1m30s",
        ),
        ("--max-request-bytes=0", "--max-request-bytes: \"0\": expected a whole number from 1 to 67108864"),
        (
            "--initial-partition-splits=/b,/a",
            "--initial-partition-splits: \"/b,/a\": split keys must ascend: b\"/b\" does not come before b\"/a\"",
        ),
        ("--key-prefix=ä", "--key-prefix: \"ä\": expected at most 64 printable ASCII characters"),
        (
            "--listen-client-urls=https://127.0.0.1:1",
            "--listen-client-urls: https://127.0.0.1:1: TLS needs a certificate and its key: give --cert-file and \
             --key-file",
        ),
        (
            "--listen-client-urls=http://0.0.0.0:1",
            "--listen-client-urls: http://0.0.0.0:1 is every address of this machine: say with \
             --advertise-client-urls which URL clients can connect to",
        ),
        (
            "--listen-metrics-urls=http://127.0.0.1:2379",
            "--listen-metrics-urls: http://127.0.0.1:2379 is among --listen-client-urls too, which serve the same",
        ),
        (
            "--max-connections=10 --max-connections-per-client=11",
            "--max-connections-per-client: is more than --max-connections",
        ),
        (
            "--max-inflight-bytes-per-client=1",
            "--max-inflight-bytes-per-client: \"1\": expected a whole number from 134217728 to 1099511627776",
        ),
        ("--config-file=gone.toml", "gone.toml: the configuration file cannot be read: entity not found"),
        ("start", "start: there is no such command"),
        ("sevre", "sevre: there is no such command; did you mean serve?"),
        ("lig", "lig: there is no such command; did you mean log?"),
        ("--data-dir --engine=memory", "--data-dir: expected a DIR behind it"),
        (
            "--initial-cluster=a=b",
            "--initial-cluster: there is no such flag; a server belongs to the store that it is started on: leave it \
             out",
        ),
    ];
    for (arguments, expected) in cases {
        refused(&args(arguments), &[expected]);
    }
}

#[test]
fn what_tls_needs_is_said() {
    let nothing_asks = "--trusted-ca-file and what else is asked of clients: nothing asks for it without --cert-file \
                        and --key-file";
    let certificate = "--cert-file=/c --key-file=/k";
    refused(
        &args("--listen-metrics-urls=https://127.0.0.1:1"),
        &[
            "--listen-metrics-urls: https://127.0.0.1:1: TLS needs a certificate and its key: give --cert-file and \
           --key-file",
        ],
    );
    refused(
        &args(&format!("{certificate} --client-permissions-file=/p")),
        &[
            "--client-permissions-file: clients have names by their certificates: say with --trusted-ca-file which \
           authority signs them",
        ],
    );
    refused(&args("--cert-file=/c"), &["--cert-file, --key-file: both have to be given, or none"]);
    refused(&args("--trusted-ca-file=/a --client-cert-auth"), &[nothing_asks]);
    refused(
        &args(&format!(
            "{certificate} --client-cert-auth --client-crl-file=/l --client-cert-allowed-cn=a \
             --client-cert-allowed-hostname=a"
        )),
        &[
            "--client-cert-auth: say with --trusted-ca-file which authority signs the certificates of clients",
            "--client-crl-file: say with --trusted-ca-file which authority signs the certificates of clients",
            "--client-cert-allowed-cn: say with --trusted-ca-file which authority signs the certificates of clients",
            "--client-cert-allowed-hostname: say with --trusted-ca-file which authority signs the certificates of \
             clients",
            "--client-cert-allowed-cn, --client-cert-allowed-hostname: only one of them can be given",
        ],
    );
    refused(
        &args("--tls-min-version=TLS1.3 --tls-max-version=TLS1.2 --cipher-suites=TLS_AES_128_GCM_SHA256"),
        &[
            "--tls-min-version, --tls-max-version: TLS1.3 is above TLS1.2",
            "--cipher-suites: cipher suites cannot be configured when only TLS1.3 is enabled",
        ],
    );
    let complaint = args("--cipher-suites=TLS_RSA_WITH_RC4_128_SHA").problems();
    assert!(complaint[0].contains("TLS_RSA_WITH_RC4_128_SHA: expected one of: TLS_AES_128"), "{complaint:?}");
    refused(
        &args("--tls-min-version=TLS1.1 --client-cert-allowed-hostname=*.example.org"),
        &[
            "--tls-min-version: \"TLS1.1\": expected one of: TLS1.2, TLS1.3",
            "--client-cert-allowed-hostname: \"*.example.org\": *.example.org: expected a host name or an IP address",
        ],
    );
}

#[test]
fn a_switch_is_on_without_a_value_and_takes_only_its_own() {
    let rest = "--cert-file=/c --key-file=/k --trusted-ca-file=/a --name n";
    for (switch, is_on) in [
        ("--client-cert-auth", true),
        ("--client-cert-auth=true", true),
        ("--client-cert-auth false", false),
        ("-client-cert-auth=false", false),
        ("", false),
    ] {
        let config = args(&format!("{switch} {rest}")).config();
        assert_eq!((config.client_tls.client_cert_auth, config.name.as_str()), (is_on, "n"), "{switch}");
    }
    refused(
        &args(&format!("{rest} --client-cert-auth=maybe")),
        &["--client-cert-auth: \"maybe\": expected one of: true, false"],
    );
}

#[cfg(feature = "tikv")]
#[test]
fn what_tikv_needs_and_what_it_cannot_do_is_said() {
    refused(
        &args("--engine=tikv --quota-backend-bytes=1 --max-request-bytes=8388608 --tikv-ca-file=/ca"),
        &[
            "--pd-endpoints: has to be given with --engine tikv, such as 127.0.0.1:2379",
            "--tikv-ca-file, --tikv-cert-file, --tikv-key-file: for TLS all three have to be given",
            "--quota-backend-bytes: TiKV does not say what a store occupies, so there is no quota with --engine tikv",
            "--max-request-bytes: with --engine tikv at most 4194304: TiKV takes no larger value",
        ],
    );
    assert_eq!(args("--engine=tikv --pd-endpoints=pd:1").config().engine, EngineKind::Tikv);
}

#[cfg(not(feature = "tikv"))]
#[test]
fn a_program_without_tikv_says_so() {
    let without = "--engine: \"tikv\": this orlop was built without TiKV (cargo feature `tikv`)";
    refused(&args("--engine=tikv --pd-endpoints=pd:1"), &[without]);
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_its_line() {
    let problems = args("--config-file=a.toml").file("a.toml", "name = 'x'\ndata-dir == 3").problems();
    assert!(problems.len() == 1 && problems[0].starts_with("a.toml: line 2: "), "{problems:?}");
}

#[test]
fn a_problem_is_one_line_whatever_the_value_holds() {
    let source = Fake { arguments: vec!["--a\nb".into()], ..Fake::default() };
    refused(&source, &["--a\u{fffd}b: there is no such flag"]);
}

#[test]
fn one_dash_and_repeated_flags_work_as_with_etcd() {
    let config = args("-name a --quota-backend-bytes -1 --name b").config();
    assert_eq!((config.name.as_str(), config.quota_backend_bytes), ("b", 0));
}

#[test]
fn help_and_version_are_printed_whatever_else_is_there() {
    assert_eq!(args("--version").printed(), "orlop 0.1.0 (etcd API 3.7)\n");
    assert_eq!(args("version").printed(), args("serve --nonsense --version").printed());
    let help = args("serve --nonsense --help").printed();
    assert_eq!(help, args("help").printed());
    assert!(SETTINGS.iter().all(|setting| help.contains(&setting.flag())), "{help}");
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
}
