use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use layout::map::PartitionMap;
use model::Key;
use server::tls::CipherSuite;

/// A name, or none.
pub(crate) fn name(value: &str) -> Result<&str, String> {
    if value.is_empty() { Ok(value) } else { text(value) }
}

/// Text that is not empty.
pub(crate) fn text(value: &str) -> Result<&str, String> {
    if value.trim().is_empty() { Err("expected some text".to_owned()) } else { Ok(value) }
}

/// Texts separated by commas, or none.
pub(crate) fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

/// Host names and IP addresses separated by commas, or none.
pub(crate) fn hosts(value: &str) -> Result<Vec<String>, String> {
    let hosts = list(value);
    match hosts.iter().find(|host| !server::tls::is_hostname(host)) {
        Some(wrong) => Err(format!("{wrong}: expected a host name or an IP address")),
        None => Ok(hosts),
    }
}

/// Cipher suites by their names, separated by commas, or none.
pub(crate) fn cipher_suites(value: &str) -> Result<Vec<CipherSuite>, String> {
    let suites = list(value).into_iter().map(|name| {
        CipherSuite::named(&name).ok_or_else(|| {
            let names: Vec<_> = CipherSuite::names().collect();
            format!("{name}: expected one of: {}", names.join(", "))
        })
    });
    suites.collect()
}

/// The name of a file, or none.
pub(crate) fn file(value: &str) -> Result<Option<PathBuf>, String> {
    Ok((!value.is_empty()).then(|| value.into()))
}

/// Addresses of the form `host:port`, separated by commas, each once; a URL is reduced to that.
pub(crate) fn addresses(value: &str) -> Result<Vec<String>, String> {
    let mut addresses: Vec<String> = Vec::new();
    for given in value.split(',').map(str::trim).filter(|given| !given.is_empty()) {
        let bare = given.strip_prefix("http://").or_else(|| given.strip_prefix("https://")).unwrap_or(given);
        let address = bare.trim_end_matches('/');
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
        if !port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0)) {
            return Err(format!("{given}: expected host and port, such as 127.0.0.1:2379"));
        }
        if addresses.iter().any(|other| other == address) {
            return Err(format!("{given} is there twice"));
        }
        addresses.push(address.to_owned());
    }
    Ok(addresses)
}

/// One address of the form `host:port`.
pub(crate) fn address(value: &str) -> Result<String, String> {
    if value.trim().starts_with("https://") {
        return Err(format!("{value}: TLS is not spoken there; expected host and port"));
    }
    match addresses(value)?.as_slice() {
        [address] => Ok(address.clone()),
        _ => Err(format!("{value}: expected one host and port, such as 127.0.0.1:4317")),
    }
}

/// A whole number within bounds.
pub(crate) fn number<T>(value: &str, bounds: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    match value.trim().parse::<T>() {
        Ok(number) if bounds.contains(&number) => Ok(number),
        _ => Err(format!("expected a whole number from {} to {}", bounds.start(), bounds.end())),
    }
}

/// One of a few words.
pub(crate) fn choice<T: Copy>(value: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(value.trim()));
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        format!("expected one of: {}", words.join(", "))
    })
}

/// The borders of the resources that a large cluster writes most, as kube-apiserver lays them out by default.
const KUBERNETES_SPLITS: [&str; 8] = [
    "/registry/events/",
    "/registry/events0",
    "/registry/leases/",
    "/registry/leases0",
    "/registry/minions/",
    "/registry/minions0",
    "/registry/pods/",
    "/registry/pods0",
];

/// Keys to split before, or the word for those of Kubernetes.
pub(crate) fn partitions(value: &str) -> Result<PartitionMap, String> {
    let splits = match value {
        "kubernetes" => KUBERNETES_SPLITS.map(str::to_owned).to_vec(),
        value => list(value),
    };
    let keys: Result<Vec<Key>, _> = splits.into_iter().map(Key::new).collect();
    let keys = keys.map_err(|_| "expected keys, separated by commas, or `kubernetes`".to_owned())?;
    PartitionMap::split_at(&keys).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_exactly_one_in_the_clear() {
        assert_eq!(address("http://localhost:4317").unwrap(), "localhost:4317");
        for wrong in ["", "a:1,b:1", "a", "https://a:1"] {
            assert!(address(wrong).unwrap_err().contains("expected"), "{wrong:?}");
        }
    }

    #[test]
    fn addresses_are_host_and_port_each_once() {
        let good = [
            ("", vec![]),
            ("127.0.0.1:2379", vec!["127.0.0.1:2379"]),
            (
                "http://pd-0.pd:2379/, https://pd-1.pd:2379,[::1]:9",
                vec!["pd-0.pd:2379", "pd-1.pd:2379", "[::1]:9"],
            ),
        ];
        for (value, want) in good {
            assert_eq!(addresses(value).unwrap(), want, "{value:?}");
        }
        for (value, part) in [
            ("pd", "expected host and port"),
            ("pd:0", "expected host and port"),
            (":2379", "expected host and port"),
            ("pd:2379/x", "expected host and port"),
            ("pd/x:2379", "expected host and port"),
            ("pd:1,http://pd:1", "is there twice"),
        ] {
            let complaint = addresses(value).unwrap_err();
            assert!(complaint.contains(part), "{value:?}: {complaint}");
        }
    }
}
