use std::fmt;
use std::str::FromStr;

use http::Uri;
use thiserror::Error;

/// Where a peer listens: `http://` or `https://`, a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerUrl {
    is_secure: bool,
    host: String,
    port: u16,
}

/// A text is no URL of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a URL of a peer: expected http:// or https://, a host and a port")]
pub struct PeerUrlError(String);

impl PeerUrl {
    /// Whether it is `https://`: with TLS.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The name or address of the machine.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for PeerUrl {
    type Err = PeerUrlError;

    fn from_str(text: &str) -> Result<PeerUrl, PeerUrlError> {
        let wrong = || PeerUrlError(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let has_path = uri.path_and_query().is_some_and(|path| !matches!(path.as_str(), "" | "/"));
        match (uri.scheme_str(), uri.host(), uri.port_u16()) {
            (Some(scheme @ ("http" | "https")), Some(host), Some(port)) if !has_path && !host.is_empty() => {
                // Brackets belong to the URL, not to the address.
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                Ok(PeerUrl { is_secure: scheme == "https", host, port })
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_reads_back_and_names_host_and_port() {
        for (text, host) in
            [("http://10.0.0.1:2380", "10.0.0.1"), ("http://[::1]:2380", "::1"), ("https://a.b:2380", "a.b")]
        {
            let url: PeerUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.port(), url.to_string().as_str()), (host, 2380, text));
            assert_eq!(url.is_secure(), text.starts_with("https"));
        }
        assert_eq!("http://a:1/".parse::<PeerUrl>().unwrap().to_string(), "http://a:1");
    }

    #[test]
    fn what_is_no_url_of_a_peer_is_named() {
        for wrong in ["", "a:1", "ftp://a:1", "http://a", "http://a:1/x", "http://:1", "http://a:99999"] {
            let error = wrong.parse::<PeerUrl>().unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")), "{error}");
        }
    }
}
