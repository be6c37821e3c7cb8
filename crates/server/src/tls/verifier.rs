use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::name::ClientName;
use super::settings::AllowedClients;

/// Lets in the clients whose certificate is good and has one of some names.
#[derive(Debug)]
pub(super) struct NamedClients {
    /// Says whether a certificate is good.
    good: Arc<dyn ClientCertVerifier>,
    allowed: Allowed,
}

#[derive(Debug)]
enum Allowed {
    All,
    CommonNames(Vec<String>),
    Hostnames(Vec<ServerName<'static>>),
}

impl NamedClients {
    /// Fails on a host name that is none.
    pub(super) fn new(
        good: Arc<dyn ClientCertVerifier>,
        allowed: &AllowedClients,
    ) -> Result<NamedClients, Error> {
        let allowed = match allowed {
            AllowedClients::All => Allowed::All,
            AllowedClients::CommonNames(names) => Allowed::CommonNames(names.clone()),
            AllowedClients::Hostnames(names) => Allowed::Hostnames(
                names
                    .iter()
                    .map(|name| ServerName::try_from(name.clone()))
                    .collect::<Result<_, _>>()
                    .map_err(|error| Error::General(format!("a host name of allowed clients: {error}")))?,
            ),
        };
        Ok(NamedClients { good, allowed })
    }

    fn is_allowed(&self, certificate: &CertificateDer<'_>) -> Result<bool, Error> {
        Ok(match &self.allowed {
            Allowed::All => true,
            Allowed::CommonNames(names) => {
                let name = ClientName::of(certificate);
                name.is_some_and(|name| names.iter().any(|allowed| allowed == name.as_str()))
            }
            Allowed::Hostnames(names) => {
                let certificate = ParsedCertificate::try_from(certificate)?;
                names.iter().any(|name| verify_server_name(&certificate, name).is_ok())
            }
        })
    }
}

impl ClientCertVerifier for NamedClients {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.good.verify_client_cert(end_entity, intermediates, now)?;
        match self.is_allowed(end_entity)? {
            true => Ok(verified),
            false => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }

    fn offer_client_auth(&self) -> bool {
        self.good.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.good.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.good.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.good.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.good.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.good.supported_verify_schemes()
    }
}
