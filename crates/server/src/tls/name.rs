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

    /// As it stands in a header between servers: its bytes in hexadecimal, as a name may hold what a header may not.
    pub(crate) fn to_hex(&self) -> String {
        self.0.bytes().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What [`ClientName::to_hex`] has written; none for anything else.
    pub(crate) fn from_hex(text: &str) -> Option<ClientName> {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let byte = |pair: &[u8]| match pair {
            [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        let name = String::from_utf8(bytes?).ok()?;
        (!name.is_empty()).then(|| ClientName(name.into()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_comes_through_a_header() {
        for name in ["kube-apiserver", "system:node:a", "J\u{e4}ger \n\0", " "] {
            let name = ClientName(name.into());
            assert_eq!(ClientName::from_hex(&name.to_hex()), Some(name));
        }
        for wrong in ["", "6", "6g", "ff", "+1", "616"] {
            assert_eq!(ClientName::from_hex(wrong), None, "{wrong:?}");
        }
    }
}
