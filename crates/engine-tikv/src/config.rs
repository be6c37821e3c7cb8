use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, SystemClock};
use thiserror::Error;

use crate::limits::GC_LIFETIME_MIN;

/// What opening the engine needs to know.
#[derive(Clone)]
pub struct Config {
    /// The members of PD, each as `host:port`, at least one.
    pub pd_endpoints: Vec<String>,
    /// The files for TLS to PD and TiKV; without them everything is sent in the clear.
    pub tls: Option<Tls>,
    /// For how long old versions are kept. A snapshot can be read for half of it.
    pub gc_lifetime: Duration,
    /// Who moves the cluster's safe point.
    pub collecting: Collecting,
    /// The name under which PD keeps how far this store allows others to collect. One for each store on a cluster.
    pub service: String,
    /// What deadlines and pauses go by. The timers of `tikv-client` are its own.
    pub clock: Arc<dyn Clock>,
}

/// The files for TLS, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificates of the authorities that sign those of PD and TiKV.
    pub ca_file: PathBuf,
    /// The certificate that PD and TiKV are shown.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// Who moves the safe point, below which the whole cluster forgets old versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collecting {
    /// This engine: nothing else on the cluster does. Without anybody, old versions stay for ever.
    Here,
    /// Something else, such as a TiDB on the same cluster. The engine only says how far it may go.
    Elsewhere,
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// No member of PD was named.
    #[error("no PD endpoint is given; expected one such as 127.0.0.1:2379")]
    NoEndpoint,
    /// One was named twice.
    #[error("the PD endpoint {0} is given twice")]
    EndpointTwice(String),
    /// Old versions would be gone before a list could be read.
    #[error("old versions would be kept for {0:?}, at least {GC_LIFETIME_MIN:?} is needed")]
    GcLifetime(Duration),
    /// A file for TLS cannot be read.
    #[error("TLS to TiKV: {0}")]
    Tls(String),
}

impl Config {
    /// The configuration for the cluster of this PD, in the clear, with old versions kept for ten minutes.
    pub fn new(pd_endpoints: Vec<String>) -> Config {
        Config {
            pd_endpoints,
            tls: None,
            gc_lifetime: Duration::from_secs(600),
            collecting: Collecting::Here,
            service: "orlop".to_owned(),
            clock: Arc::new(SystemClock),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.pd_endpoints.is_empty() {
            return Err(ConfigError::NoEndpoint);
        }
        for (index, endpoint) in self.pd_endpoints.iter().enumerate() {
            if self.pd_endpoints.iter().skip(index + 1).any(|other| other == endpoint) {
                return Err(ConfigError::EndpointTwice(endpoint.clone()));
            }
        }
        if self.gc_lifetime < GC_LIFETIME_MIN {
            return Err(ConfigError::GcLifetime(self.gc_lifetime));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_before_anything_is_connected() {
        assert_eq!(Config::new(Vec::new()).check(), Err(ConfigError::NoEndpoint));
        let twice = Config::new(vec!["a:1".into(), "b:1".into(), "a:1".into()]);
        assert_eq!(twice.check(), Err(ConfigError::EndpointTwice("a:1".into())));
        let short = Config { gc_lifetime: Duration::from_secs(59), ..Config::new(vec!["a:1".into()]) };
        assert_eq!(short.check(), Err(ConfigError::GcLifetime(Duration::from_secs(59))));
        assert_eq!(Config::new(vec!["a:1".into()]).check(), Ok(()));
    }
}
