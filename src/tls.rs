//! TLS that does not come about: what a person must mend, and how.

use std::{error::Error, io, path::Path};

use anyhow::{Context, ensure};
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use time::OffsetDateTime;

/// What has to be done about an error that TLS is the reason of, and that waiting does not mend;
/// none for any other error.
///
/// The two names are the settings that say whom to trust, and who we are.
pub fn what_to_do(error: &(dyn Error + 'static), authority: &str, ours: &str) -> Option<String> {
    Some(match cause(error)? {
        TlsError::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => format!("name a file with the certificate of the server's authority with {authority}"),
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "use a name that the server's certificate has".to_owned(),
        TlsError::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "renew the server's certificate".to_owned(),
        TlsError::InvalidCertificate(_) => "replace the server's certificate".to_owned(),
        TlsError::InvalidMessage(_) => "the server speaks no TLS there".to_owned(),
        TlsError::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA,
        ) => format!("give a client's certificate that the server trusts with {ours}"),
        _ => return None,
    })
}

/// What TLS says, where it is TLS that says something.
pub fn verdict(error: &(dyn Error + 'static)) -> Option<String> {
    Some(match cause(error)? {
        // its own text counts seconds
        TlsError::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            let seconds = i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX);
            let end = OffsetDateTime::from_unix_timestamp(seconds).map(OffsetDateTime::date);
            let end = end.map_or_else(|_| "long ago".to_owned(), |date| date.to_string());
            format!("invalid peer certificate: it was valid until {end}")
        }
        other => other.to_string(),
    })
}

fn cause<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e TlsError> {
    let mut error = Some(error);
    while let Some(one) = error {
        if let Some(found) = one.downcast_ref() {
            return Some(found);
        }
        // an I/O error passes over what is in it when it is asked for its source
        let inner = one.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        error = match inner {
            Some(inner) => Some(inner),
            None => one.source(),
        };
    }
    None
}

/// Reads a file of certificates, or of a key, that a setting names: `kind` is what its PEM blocks
/// are called.
pub fn pem_file(setting: &str, file: &Path, kind: &str) -> anyhow::Result<Vec<u8>> {
    let pem = std::fs::read(file)
        .with_context(|| format!("{setting}: {} can't be read", file.display()))?;
    let is_there = String::from_utf8_lossy(&pem)
        .lines()
        .any(|line| line.starts_with("-----BEGIN ") && line.ends_with(&format!("{kind}-----")));
    ensure!(is_there, "{setting}: {} holds no PEM {}", file.display(), kind.to_lowercase());
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_done_is_found_under_other_errors() {
        let told = |error: TlsError| {
            let error = anyhow::Error::new(io::Error::other(error)).context("no connection");
            what_to_do(error.as_ref(), "--authority", "--ours")
        };
        let certificate = |error| told(TlsError::InvalidCertificate(error)).unwrap();
        assert!(certificate(CertificateError::UnknownIssuer).contains("--authority"));
        assert!(certificate(CertificateError::NotValidForName).contains("name"));
        assert!(certificate(CertificateError::Expired).contains("renew"));
        assert!(certificate(CertificateError::Revoked).contains("replace"));
        let alert = |alert| told(TlsError::AlertReceived(alert));
        assert!(alert(AlertDescription::CertificateRequired).unwrap().contains("--ours"));
        // a server that is in trouble may be out of it in a moment
        assert_eq!(alert(AlertDescription::InternalError), None);
        assert_eq!(told(TlsError::DecryptError), None);
        assert_eq!(what_to_do(&io::Error::other("reset"), "", ""), None);
    }

    #[test]
    fn a_file_without_what_it_is_named_for_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.pem");
        let told = |kind| format!("{:#}", pem_file("--kafka-ca", &file, kind).unwrap_err());
        assert!(told("CERTIFICATE").contains("can't be read"));
        std::fs::write(&file, "-----BEGIN PRIVATE KEY-----\n").unwrap();
        assert!(told("CERTIFICATE").ends_with("a.pem holds no PEM certificate"));
        assert!(pem_file("--kafka-key", &file, "PRIVATE KEY").is_ok());
    }
}
