//! An authority that signs certificates, for tests.

use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationList, CertificateRevocationListParams,
    CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// An authority.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    serial: AtomicU64,
}

/// A certificate and its key.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) cert_pem: String,
    pub(super) key_pem: String,
    serial: SerialNumber,
}

impl Credentials {
    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.cert_pem.as_bytes()).unwrap()]
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap()
    }
}

impl Authority {
    pub(super) fn new(name: &str) -> Authority {
        let mut params = named(&[name], &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Authority { issuer, serial: AtomicU64::new(1) }
    }

    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(super) fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// For a server on this machine.
    pub(super) fn server(&self) -> Credentials {
        let mut params = named(&["server"], &["localhost"]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// For a client with a common name, or with none when it is empty.
    pub(super) fn client(&self, name: &str) -> Credentials {
        let names = [name];
        self.client_named(if name.is_empty() { &[] } else { &names }, &[])
    }

    /// For a client with several common names, and with host names or addresses.
    pub(super) fn client_named(&self, names: &[&str], hosts: &[&str]) -> Credentials {
        self.sign(client(names, hosts))
    }

    pub(super) fn expired_client(&self, name: &str) -> Credentials {
        let mut params = client(&[name], &[]);
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(params)
    }

    pub(super) fn future_client(&self, name: &str) -> Credentials {
        let mut params = client(&[name], &[]);
        params.not_before = date_time_ymd(3001, 1, 1);
        self.sign(params)
    }

    /// The list of what was taken back.
    pub(super) fn revocation_list(&self, taken_back: &[&Credentials]) -> CertificateRevocationList {
        let taken_back = taken_back.iter().map(|credentials| RevokedCertParams {
            serial_number: credentials.serial.clone(),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: taken_back.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap()
    }

    fn sign(&self, mut params: CertificateParams) -> Credentials {
        let serial = SerialNumber::from(self.serial.fetch_add(1, Ordering::Relaxed));
        params.serial_number = Some(serial.clone());
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Credentials { cert_pem: certificate.pem(), key_pem: key.serialize_pem(), serial }
    }
}

fn client(names: &[&str], hosts: &[&str]) -> CertificateParams {
    let mut params = named(names, hosts);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn named(names: &[&str], hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = DistinguishedName::new();
    for name in names {
        params.distinguished_name.push(DnType::CommonName, *name);
    }
    params
}
