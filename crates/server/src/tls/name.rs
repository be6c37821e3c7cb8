use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode as _, Tag, Tagged as _};

/// commonName, X.520.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// The common name in the certificate that a client has shown, never empty. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientName(Arc<str>);

impl ClientName {
    /// The name in a certificate: the last common name of its subject, as Go has it. None when there is no name in
    /// it, or it is not text.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<ClientName> {
        let certificate = Certificate::from_der(certificate).ok()?;
        let subject = certificate.tbs_certificate().subject();
        let last = subject.iter().filter(|attribute| attribute.oid == COMMON_NAME).last()?;
        let is_text = matches!(
            last.value.tag(),
            Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::TeletexString
        );
        let name = std::str::from_utf8(last.value.value()).ok()?;
        (is_text && !name.is_empty()).then(|| ClientName(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
