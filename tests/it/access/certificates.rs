//! Certificates of a test's own: an authority that nobody else trusts, and what it signs.

use std::{path::PathBuf, process::Command, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::support::Ran;

pub const DAY: Duration = Duration::from_secs(86_400);

/// A certificate authority, and a folder of PEM files.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: TempDir,
}

/// A certificate and its key, as PEM.
pub struct Certified {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = params(name, OffsetDateTime::now_utc() + DAY);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem, folder: TempDir::new().unwrap() }
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// For a server that is called `localhost`, and by no other name or address.
    pub fn server(&self) -> Certified {
        self.server_until(OffsetDateTime::now_utc() + DAY)
    }

    /// For the same server, and over since yesterday.
    pub fn expired_server(&self) -> Certified {
        self.server_until(OffsetDateTime::now_utc() - DAY)
    }

    /// For a client of this name.
    pub fn client(&self, name: &str) -> Certified {
        let mut params = params(name, OffsetDateTime::now_utc() + DAY);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    /// Writes a file that the program is told of; gives its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Writes a key that can be read with a password alone; gives its path.
    pub fn encrypted(&self, key: &str, password: &str) -> String {
        let encrypted = format!("{key}.encrypted");
        let mut openssl = Command::new("openssl");
        openssl.args(["pkcs8", "-topk8", "-in", key, "-out", &encrypted]);
        Ran::of(openssl.args(["-passout", &format!("pass:{password}")])).success();
        encrypted
    }

    fn server_until(&self, end: OffsetDateTime) -> Certified {
        let mut params = params("a server of a test", end);
        params.subject_alt_names =
            CertificateParams::new(["localhost".to_owned()]).unwrap().subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Certified {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Certified { certificate, key: key.serialize_pem() }
    }
}

fn params(name: &str, end: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.not_before = end - 30 * DAY;
    params.not_after = end;
    params
}
