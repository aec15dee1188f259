//! Where the registry is and how to be let in.

use std::{collections::BTreeSet, fmt, net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Context, bail, ensure};
use reqwest::{Certificate, ClientBuilder, Identity, Url, header::HeaderValue};
use schema_registry_converter::async_impl::schema_registry::SrSettings;

use super::client::{Client, retries};
use crate::{secret::Secret, tls::pem_file};

/// What [`Registry::new`](super::Registry::new) needs to know.
#[derive(Clone)]
pub struct RegistryConfig {
    /// Addresses of one registry, tried in order. A `user:password@` in one of them is taken out
    /// and used as [`RegistryAuth::Basic`] when `auth` is `None`.
    pub urls: Vec<String>,
    /// Credentials, sent with every request.
    pub auth: RegistryAuth,
    /// A file of PEM certificates trusted besides the system's own.
    pub ca_file: Option<PathBuf>,
    /// The files of the client's PEM certificate and of its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How long one request may take, connecting and reading included.
    pub timeout: Duration,
}

/// The credentials that the registry asks for.
#[derive(Debug, Clone, Default)]
pub enum RegistryAuth {
    /// None at all.
    #[default]
    None,
    /// HTTP basic authentication; on Confluent Cloud an API key and its secret.
    Basic {
        /// The user or API key.
        user: String,
        /// The password or API secret.
        password: Secret,
    },
    /// A bearer token.
    Bearer(Secret),
}

impl RegistryConfig {
    /// Makes the two HTTP clients, ours and schema_registry_converter's, from the same settings.
    pub(super) fn connect(&self) -> anyhow::Result<(Client, SrSettings)> {
        let (urls, auth) = self.addresses()?;
        auth.check()?;
        let (certificates, identity) = (self.certificates()?, self.identity()?);
        let builder = || {
            let builder = self.http(&urls, certificates.clone());
            match identity.clone() {
                Some(identity) => builder.identity(identity),
                None => builder,
            }
        };

        let http = builder().build().context("cannot set up TLS for the schema registry")?;
        let settings = converter_settings(&urls, &auth, self.timeout, builder())?;
        Ok((Client::new(http, urls, auth), settings))
    }

    /// The base addresses without credentials or trailing slash, and the credentials.
    fn addresses(&self) -> anyhow::Result<(Vec<String>, RegistryAuth)> {
        ensure!(!self.urls.is_empty(), "no schema registry address given");
        let mut addresses = Vec::new();
        let mut found = BTreeSet::new();
        for (number, text) in (1..).zip(&self.urls) {
            let mut url = parse_address(text).with_context(|| {
                format!(
                    "schema registry address number {number} is unusable; expected \
                     SCHEMA_REGISTRY_URL=http://HOST:PORT"
                )
            })?;
            if !url.username().is_empty() || url.password().is_some() {
                found.insert((decode(url.username()), decode(url.password().unwrap_or_default())));
            }
            // these two only refuse addresses without a host, which parse_address has refused
            let _ = url.set_username("");
            let _ = url.set_password(None);
            addresses.push(url.as_str().trim_end_matches('/').to_owned());
        }
        Ok((addresses, self.credentials(found)?))
    }

    fn credentials(&self, mut found: BTreeSet<(String, String)>) -> anyhow::Result<RegistryAuth> {
        if !matches!(self.auth, RegistryAuth::None) {
            return Ok(self.auth.clone());
        }
        ensure!(
            found.len() <= 1,
            "the schema registry addresses carry different credentials; give one user and password"
        );
        Ok(match found.pop_first() {
            Some((user, password)) => RegistryAuth::Basic { user, password: Secret::new(password) },
            None => RegistryAuth::None,
        })
    }

    fn certificates(&self) -> anyhow::Result<Vec<Certificate>> {
        let Some(file) = &self.ca_file else { return Ok(Vec::new()) };
        let pem = pem_file("--registry-ca", file, "CERTIFICATE")?;
        Certificate::from_pem_bundle(&pem)
            .with_context(|| format!("{} does not hold PEM certificates", file.display()))
    }

    fn identity(&self) -> anyhow::Result<Option<Identity>> {
        let Some((certificate, key)) = &self.identity else { return Ok(None) };
        let mut pem = pem_file("--registry-certificate", certificate, "CERTIFICATE")?;
        pem.extend(pem_file("--registry-key", key, "PRIVATE KEY")?);
        let identity = Identity::from_pem(&pem)
            .context("the registry client's certificate and key can't be read")?;
        Ok(Some(identity))
    }

    fn http(&self, urls: &[String], certificates: Vec<Certificate>) -> ClientBuilder {
        let builder = reqwest::Client::builder()
            .timeout(self.timeout)
            .retry(retries())
            .user_agent(concat!("sluicegate/", env!("CARGO_PKG_VERSION")));
        // what is on this machine is behind no proxy, whatever HTTP_PROXY says
        let builder = if urls.iter().all(|url| is_on_this_machine(url)) {
            builder.no_proxy()
        } else {
            builder
        };
        if certificates.is_empty() && urls.iter().all(|url| url.starts_with("http:")) {
            // a slim image has no system certificates, and loading none is an error even
            // where no TLS is spoken
            builder.tls_certs_only(certificates)
        } else {
            builder.tls_certs_merge(certificates)
        }
    }
}

impl fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<_> = self.urls.iter().map(|url| without_credentials(url)).collect();
        f.debug_struct("RegistryConfig")
            .field("urls", &urls)
            .field("auth", &self.auth)
            .field("ca_file", &self.ca_file)
            .field("identity", &self.identity)
            .field("timeout", &self.timeout)
            .finish()
    }
}

impl RegistryAuth {
    /// Basic credentials are sent as base64, a token as it is: a stray line break in it would
    /// otherwise surface as a failing request later.
    fn check(&self) -> anyhow::Result<()> {
        if let Self::Bearer(token) = self
            && HeaderValue::from_str(token.expose()).is_err()
        {
            bail!(
                "the schema registry token has a character that no header can carry, such as a line break"
            );
        }
        Ok(())
    }
}

/// The error never repeats the text, which may hold a password.
fn parse_address(text: &str) -> anyhow::Result<Url> {
    let url = Url::parse(text.trim())?;
    ensure!(
        matches!(url.scheme(), "http" | "https") && url.has_host(),
        "it must begin with http:// or https:// and name a host"
    );
    ensure!(
        url.query().is_none() && url.fragment().is_none(),
        "it must end with the path, without ? or #"
    );
    Ok(url)
}

fn is_on_this_machine(url: &str) -> bool {
    let url = Url::parse(url).ok();
    url.as_ref().and_then(Url::host_str).is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

fn without_credentials(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((front, host)) => {
            let scheme = front.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://***@{host}")
        }
        None => text.to_owned(),
    }
}

fn converter_settings(
    urls: &[String],
    auth: &RegistryAuth,
    timeout: Duration,
    builder: ClientBuilder,
) -> anyhow::Result<SrSettings> {
    let (first, others) = urls.split_first().context("no schema registry address given")?;
    let mut settings = SrSettings::new_builder(first.clone());
    for url in others {
        settings.add_url(url.clone());
    }
    match auth {
        RegistryAuth::None => {}
        RegistryAuth::Basic { user, password } => {
            settings.set_basic_authorization(user, Some(password.expose()));
        }
        RegistryAuth::Bearer(token) => {
            settings.set_token_authorization(token.expose());
        }
    }
    settings
        .set_timeout(timeout)
        .build_with(builder)
        .context("cannot set up TLS for the schema registry")
}

/// Undoes the percent-encoding of a user or password inside an address.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| after.split_first_chunk::<2>()).flatten().and_then(
            |(digits, after)| {
                let digits = std::str::from_utf8(digits).ok()?;
                Some((u8::from_str_radix(digits, 16).ok()?, after))
            },
        );
        let (byte, after) = escaped.unwrap_or((byte, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(urls: &[&str]) -> RegistryConfig {
        RegistryConfig {
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            auth: RegistryAuth::None,
            ca_file: None,
            identity: None,
            timeout: Duration::from_secs(5),
        }
    }

    #[test]
    fn credentials_move_from_the_address_into_basic_auth() {
        let config = config(&["https://key:p%40ss%2fw%25rd@registry.example/apis/ccompat/v7/"]);
        let (urls, auth) = config.addresses().unwrap();
        assert_eq!(urls, ["https://registry.example/apis/ccompat/v7"]);
        let RegistryAuth::Basic { user, password } = auth else { panic!("{auth:?}") };
        assert_eq!((user.as_str(), password.expose()), ("key", "p@ss/w%rd"));
    }

    #[test]
    fn given_credentials_win_and_contradicting_ones_are_refused() {
        let mut config = config(&["http://a:b@one", "http://c:d@two"]);
        let error = format!("{:#}", config.addresses().unwrap_err());
        assert!(error.contains("different credentials"), "{error}");
        config.auth = RegistryAuth::Bearer(Secret::new("token"));
        let (urls, auth) = config.addresses().unwrap();
        assert_eq!(urls, ["http://one", "http://two"]);
        assert!(matches!(auth, RegistryAuth::Bearer(_)));
    }

    #[test]
    fn debug_shows_no_secret() {
        let mut config = config(&["http://user:hunter2@one:8081", "not a url:hunter2@x"]);
        config.auth = RegistryAuth::Basic { user: "user".into(), password: Secret::new("hunter2") };
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && shown.contains("***@one:8081"), "{shown}");
        config.auth = RegistryAuth::Bearer(Secret::new("hunter2"));
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn unusable_addresses_are_named_without_their_secrets() {
        for (url, wanted) in [
            ("localhost:8081", "must begin with http"),
            ("ftp://u:hunter2@host", "must begin with http"),
            ("http://u:hunter2@host:port", "invalid port"),
            ("http://host/?key=hunter2", "without ? or #"),
            ("", "relative URL"),
        ] {
            let error = format!("{:#}", config(&["http://fine", url]).addresses().unwrap_err());
            assert!(error.contains("address number 2") && error.contains(wanted), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(config(&[]).addresses().is_err());
    }

    #[test]
    fn ca_file_errors_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let mut config = config(&["https://registry"]);
        config.ca_file = Some(file.clone());
        let error = format!("{:#}", config.connect().err().unwrap());
        assert!(error.contains("can't be read") && error.contains("ca.pem"), "{error}");
        std::fs::write(&file, "no certificate").unwrap();
        let error = format!("{:#}", config.connect().err().unwrap());
        assert!(error.contains("holds no PEM certificate") && error.contains("ca.pem"), "{error}");
    }

    #[test]
    fn token_with_a_line_break_is_refused() {
        let mut config = config(&["http://registry"]);
        config.auth = RegistryAuth::Bearer(Secret::new("hunter2\n"));
        let error = format!("{:#}", config.connect().err().unwrap());
        assert!(error.contains("line break") && !error.contains("hunter2"), "{error}");
    }
}
