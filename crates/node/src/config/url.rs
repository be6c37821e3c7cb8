use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::Uri;

/// A URL to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenUrl {
    /// The address that it names. Port 0 stands for any free one.
    pub address: SocketAddr,
    /// Whether it is `https://`: with TLS.
    pub is_tls: bool,
}

impl ListenUrl {
    /// Whether the URL stands for every address of the machine, so that no client can connect to it as it is.
    pub fn is_unspecified(&self) -> bool {
        self.address.ip().is_unspecified()
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(formatter, "{scheme}://{}", self.address)
    }
}

/// The URLs to listen on, at least one.
pub(crate) fn listen(value: &str) -> Result<Vec<ListenUrl>, String> {
    match listen_or_not(value) {
        Ok(urls) if urls.is_empty() => {
            Err("expected at least one URL such as http://127.0.0.1:2379".to_owned())
        }
        urls => urls,
    }
}

/// The URLs to listen on, or none.
pub(crate) fn listen_or_not(value: &str) -> Result<Vec<ListenUrl>, String> {
    let urls = each(value, listen_url)?;
    let mut seen = HashSet::new();
    // Also with another scheme: an address is listened on once.
    match urls.iter().find(|url| url.address.port() != 0 && !seen.insert(url.address)) {
        Some(twice) => Err(format!("{twice} is there twice")),
        None => Ok(urls),
    }
}

/// The URLs that clients are told, or none.
pub(crate) fn advertise(value: &str) -> Result<Vec<String>, String> {
    each(value, |url| {
        split(url)?;
        Ok(url.trim_end_matches('/').to_owned())
    })
}

/// Reads every URL of a list, and complains about all that are wrong.
fn each<T>(value: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let mut urls = Vec::new();
    let mut wrong = Vec::new();
    for url in value.split(',').map(str::trim).filter(|url| !url.is_empty()) {
        match read(url) {
            Ok(read) => urls.push(read),
            Err(reason) => wrong.push(format!("{url}: {reason}")),
        }
    }
    if wrong.is_empty() { Ok(urls) } else { Err(wrong.join("; ")) }
}

fn listen_url(url: &str) -> Result<ListenUrl, String> {
    let (scheme, host, port) = split(url)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) if host.eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST.into(),
        Err(_) => return Err("expected an IP address or localhost to listen on, not a name".to_owned()),
    };
    Ok(ListenUrl { address: SocketAddr::new(ip, port), is_tls: scheme == "https" })
}

/// Scheme, host and port of a URL that has nothing else.
fn split(url: &str) -> Result<(String, String, u16), String> {
    let expected = "expected a URL such as http://127.0.0.1:2379";
    let uri: Uri = url.parse().map_err(|_| expected.to_owned())?;
    let scheme = match uri.scheme_str() {
        Some(scheme @ ("http" | "https")) => scheme.to_owned(),
        Some(scheme) => return Err(format!("expected http:// or https://, not {scheme}://")),
        None => return Err(expected.to_owned()),
    };
    if uri.path().len() > 1 || uri.query().is_some() {
        return Err("expected nothing behind the port".to_owned());
    }
    let authority = uri.authority().ok_or_else(|| expected.to_owned())?;
    if authority.as_str().contains('@') {
        return Err("expected no user name in it".to_owned());
    }
    match (authority.host(), authority.port_u16()) {
        ("", _) => Err(expected.to_owned()),
        (_, None) => Err("expected a port, such as :2379 at its end".to_owned()),
        (host, Some(port)) => Ok((scheme, host.to_owned(), port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_to_listen_on_are_http_or_https_with_an_address_and_a_port() {
        let cases = [
            ("http://127.0.0.1:2379", Ok("http://127.0.0.1:2379")),
            ("http://localhost:2379/", Ok("http://127.0.0.1:2379")),
            ("http://[::1]:0", Ok("http://[::1]:0")),
            ("http://0.0.0.0:1, http://10.0.0.1:1,", Ok("http://0.0.0.0:1 http://10.0.0.1:1")),
            ("http://127.0.0.1:0,http://127.0.0.1:0", Ok("http://127.0.0.1:0 http://127.0.0.1:0")),
            ("https://127.0.0.1:2379", Ok("https://127.0.0.1:2379")),
            ("http://127.0.0.1", Err("expected a port")),
            ("http://127.0.0.1:99999", Err("expected")),
            ("127.0.0.1:2379", Err("expected a URL such as")),
            ("unix:///run/orlop", Err("expected")),
            ("http://db.example.org:2379", Err("not a name")),
            ("http://127.0.0.1:2379/v3", Err("nothing behind the port")),
            ("http://me@127.0.0.1:2379", Err("no user name")),
            ("http://127.0.0.1:1,http://127.0.0.1:1", Err("is there twice")),
            ("http://127.0.0.1:1,https://127.0.0.1:1", Err("is there twice")),
            (",", Err("at least one URL")),
        ];
        for (text, expected) in cases {
            let found =
                listen(text).map(|urls| urls.iter().map(ListenUrl::to_string).collect::<Vec<_>>().join(" "));
            match (&found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text:?}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{text:?}: {found}"),
                _ => panic!("{text:?}: {found:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn every_wrong_url_of_a_list_is_named() {
        let complaint = listen("http://a:1,http://127.0.0.1:1,ftp://b").unwrap_err();
        assert!(complaint.contains("http://a:1: ") && complaint.contains("ftp://b: "), "{complaint}");
    }

    #[test]
    fn any_host_and_also_https_can_be_advertised() {
        assert_eq!(advertise("https://db.example.org:2379/").unwrap(), ["https://db.example.org:2379"]);
        assert_eq!(advertise("").unwrap(), Vec::<String>::new());
        assert!(advertise("db.example.org").is_err());
    }
}
