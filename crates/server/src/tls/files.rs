use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use thiserror::Error;

use super::settings::TlsSettings;
use crate::files;

/// The largest file that is read: a revocation list with hundreds of thousands of entries.
const TLS_FILE_BYTES_MAX: u64 = 16 << 20;

/// Why files cannot be used for TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {reason}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// What was chosen does not fit together.
    #[error("TLS cannot be set up: {0}")]
    SetUp(#[from] rustls::Error),
}

impl TlsError {
    pub(super) fn content(file: &Path, reason: impl Into<String>) -> TlsError {
        TlsError::Content { file: file.to_owned(), reason: reason.into() }
    }
}

/// What the files hold.
pub(super) struct Material {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) roots: Option<RootCertStore>,
    pub(super) crls: Vec<CertificateRevocationListDer<'static>>,
}

/// Reads all files.
pub(super) fn load(settings: &TlsSettings) -> Result<Material, TlsError> {
    let crls = match &settings.crl_file {
        Some(file) => revocation_lists(file)?,
        None => Vec::new(),
    };
    Ok(Material {
        chain: certificates(&settings.cert_file)?,
        key: private_key(&settings.key_file)?,
        roots: settings.trusted_ca_file.as_deref().map(roots).transpose()?,
        crls,
    })
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    files::read(file, TLS_FILE_BYTES_MAX)
        .map_err(|source| TlsError::Unreadable { file: file.to_owned(), source })
}

pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(file)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(none) if none.is_empty() => {
            Err(TlsError::content(file, "no certificate in it: expected PEM (-----BEGIN CERTIFICATE-----)"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(TlsError::content(file, format!("not PEM: {error}"))),
    }
}

pub(super) fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => TlsError::content(
            file,
            "no private key in it: expected PEM (-----BEGIN PRIVATE KEY-----), not encrypted",
        ),
        error => TlsError::content(file, format!("not PEM: {error}")),
    })
}

pub(super) fn roots(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| {
            TlsError::content(file, format!("a certificate in it cannot be trusted: {error}"))
        })?;
    }
    Ok(roots)
}

/// PEM, as our certificates; or DER, as etcd reads it.
fn revocation_lists(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let bytes = read(file)?;
    // A DER file is a SEQUENCE; PEM is text.
    if bytes.first() == Some(&0x30) {
        return Ok(vec![bytes.into()]);
    }
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    match lists {
        Ok(none) if none.is_empty() => Err(TlsError::content(
            file,
            "no revocation list in it: expected PEM (-----BEGIN X509 CRL-----) or DER",
        )),
        Ok(lists) => Ok(lists),
        Err(error) => Err(TlsError::content(file, format!("not PEM: {error}"))),
    }
}
