//! TLS for a listener: certificates from files that are read again when they change, client certificates, and
//! handshakes that hold up nobody.
//!
//! [`TlsConnector`] is the other side, for connections to other servers of the store.
//!
//! Knows nothing of what is served: every listener takes a [`TlsAcceptor`] of its own, with its own files.

mod acceptor;
mod config;
mod connector;
mod files;
mod name;
mod pending;
mod settings;
mod verifier;

pub use acceptor::{Accepted, HandshakeError, TlsAcceptor};
pub use connector::TlsConnector;
pub use files::TlsError;
pub use name::ClientName;
pub use settings::{AllowedClients, CipherSuite, TlsSettings, TlsVersion, is_hostname};
