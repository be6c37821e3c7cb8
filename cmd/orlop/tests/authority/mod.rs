//! An authority that signs the certificates of servers.

#![allow(clippy::unwrap_used, reason = "a test whose equipment breaks has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// An authority, and where its files are.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
}

impl Authority {
    /// One that keeps its files in `dir`.
    pub fn new(dir: &Path) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("ca"), issuer.pem()).unwrap();
        Authority { issuer, dir: dir.to_owned() }
    }

    /// The flags of a server on this machine that shows a new certificate, and believes those of `trusted`.
    pub fn flags(&self, name: &str, trusted: &Authority) -> [String; 3] {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let (cert_file, key_file) = (self.dir.join(name), self.dir.join(format!("{name}.key")));
        fs::write(&cert_file, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        [
            format!("--peer-cert-file={}", cert_file.display()),
            format!("--peer-key-file={}", key_file.display()),
            format!("--peer-trusted-ca-file={}", trusted.dir.join("ca").display()),
        ]
    }
}
