use std::path::PathBuf;

use rustls::crypto::ring::ALL_CIPHER_SUITES;
use rustls::pki_types::ServerName;
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};

/// What a listener with TLS needs to know. Data only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificate and those between it and the root, PEM, its own first.
    pub cert_file: PathBuf,
    /// The private key of the certificate, PEM: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key_file: PathBuf,
    /// The certificates of the authorities whose clients are let in, PEM. With it a client has to show a certificate;
    /// without it none is asked for.
    pub trusted_ca_file: Option<PathBuf>,
    /// Certificates that these authorities have taken back: revocation lists, PEM or one in DER.
    pub crl_file: Option<PathBuf>,
    /// Which of the clients with a good certificate are let in.
    pub allowed_clients: AllowedClients,
    /// The oldest version of the protocol that is spoken.
    pub version_min: TlsVersion,
    /// The newest.
    pub version_max: TlsVersion,
    /// The cipher suites of TLS 1.2; empty: all that are safe. Those of TLS 1.3 are all on, as in Go.
    pub cipher_suites: Vec<CipherSuite>,
}

/// Which of the clients with a good certificate are let in. Only looked at when clients show certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowedClients {
    /// All of them.
    #[default]
    All,
    /// Those whose certificate has one of these common names.
    CommonNames(Vec<String>),
    /// Those whose certificate is good for one of these host names or IP addresses.
    Hostnames(Vec<String>),
}

/// Whether a text can be in [`AllowedClients::Hostnames`]: a host name without wildcards, or an IP address.
pub fn is_hostname(text: &str) -> bool {
    ServerName::try_from(text).is_ok()
}

/// A version of TLS. Older ones are not spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl TlsVersion {
    /// etcd's name for it: `TLS1.2`, `TLS1.3`.
    pub fn name(self) -> &'static str {
        match self {
            TlsVersion::Tls12 => "TLS1.2",
            TlsVersion::Tls13 => "TLS1.3",
        }
    }

    pub(super) fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            TlsVersion::Tls12 => &version::TLS12,
            TlsVersion::Tls13 => &version::TLS13,
        }
    }
}

/// A cipher suite that can be spoken, by the name that Go and etcd have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CipherSuite(&'static str);

/// Go's names, IANA's but for those of TLS 1.2 with ChaCha20, for which both are known.
const NAMES: [&str; 9] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

impl CipherSuite {
    /// The suite with this name, if it is one that can be spoken.
    pub fn named(name: &str) -> Option<CipherSuite> {
        let known = NAMES.iter().find(|known| {
            name == **known
                || known.contains("ECDHE")
                    && known
                        .strip_suffix("_SHA256")
                        .is_some_and(|known| known.ends_with("POLY1305") && known == name)
        });
        known.map(|name| CipherSuite(name))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// The names of all suites that can be spoken.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.into_iter()
    }

    pub(super) fn supported(self) -> SupportedCipherSuite {
        let name_of = |suite: &SupportedCipherSuite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
        *ALL_CIPHER_SUITES.iter().find(|suite| name_of(suite) == self.0).expect("a test compares both lists")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_all_suites_that_the_library_has() {
        assert_eq!(NAMES.len(), ALL_CIPHER_SUITES.len());
        for name in CipherSuite::names() {
            let suite = CipherSuite::named(name).unwrap();
            assert_eq!(suite.name(), name);
            suite.supported();
        }
    }

    #[test]
    fn gos_older_names_are_known_and_unsafe_suites_are_not() {
        let short = CipherSuite::named("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305").unwrap();
        assert_eq!(short.name(), "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256");
        for unknown in ["TLS_RSA_WITH_AES_128_CBC_SHA", "TLS_CHACHA20_POLY1305", "TLS_AES_128_GCM", "", "x"] {
            assert_eq!(CipherSuite::named(unknown), None, "{unknown}");
        }
    }
}
