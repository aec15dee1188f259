//! A registry that speaks TLS, by itself and behind a gate that asks who is there.

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{
    Authority, Cases, Environment, Flags, NO_FLAGS, SECRET,
    gate::{self, Asks, Credentials},
    run, the_pipeline_runs, yesterday,
};
use crate::{
    services::{Services, free_port},
    support::{Fixture, readings},
};

/// The verbs that speak to a registry.
const VERBS: [&str; 4] = ["check", "register", "produce", "consume"];

struct Secured {
    authority: Authority,
    fixture: Fixture,
    /// The registry's own address over TLS.
    tls: String,
    /// Where it is without.
    plain: String,
    _services: Services,
}

impl Secured {
    fn up() -> Secured {
        let authority = Authority::new("the registry's");
        let server = authority.server();
        let port = free_port().to_string();
        let settings = [
            ("QUARKUS_HTTP_SSL_PORT", port.clone()),
            (
                "QUARKUS_HTTP_SSL_CERTIFICATE_FILES",
                authority.file("server.pem", &server.certificate),
            ),
            ("QUARKUS_HTTP_SSL_CERTIFICATE_KEY_FILES", authority.file("server.key", &server.key)),
        ];
        let services = Services::up_with(&["registry"], &settings);
        let addresses = services.addresses();
        let plain = addresses["SCHEMA_REGISTRY_URL"].clone();
        let path = plain.splitn(4, '/').nth(3).unwrap();
        let tls = format!("https://localhost:{port}/{path}");
        let mut fixture = Fixture::on(addresses);
        let topic = fixture.stream("readings", readings());
        fixture.create_topic(&topic, 1);
        Secured { authority, fixture, tls, plain, _services: services }
    }

    /// A gate before it; gives its address.
    fn gate(&self, asks: &Asks<'_>) -> String {
        self.gate_with(&self.authority.server(), asks)
    }

    fn gate_with(&self, server: &super::Certified, asks: &Asks<'_>) -> String {
        let (scheme_and_host, path) = self.plain.split_at(self.plain.find("/apis").unwrap());
        format!("{}{path}", gate::open(scheme_and_host, server, asks))
    }

    /// What those verbs say that need the registry, each after its own words.
    #[track_caller]
    fn refused(&self, environment: Environment<'_>) -> String {
        let verbs = [&["register"][..], &["check"], &["consume", "--exit-when-drained"]];
        let said = verbs.map(|verb| {
            let line = run(&self.fixture, verb, environment).one_clear_error();
            let at = line.find("no access to the schema registry: ");
            line[at.unwrap_or_else(|| panic!("{line}"))..].to_owned()
        });
        self.redacted(&said.join("\n"))
    }

    /// Without what is another every time.
    fn redacted(&self, said: &str) -> String {
        let said = said.replace(&self.fixture.prefix, "[prefix]");
        let said = said.replace(&yesterday(), "[yesterday]");
        let mut parts = said.split("localhost:").map(str::to_owned);
        let first = parts.next().unwrap();
        let rest =
            parts.map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned());
        rest.fold(first, |all, part| format!("{all}localhost:[port]{part}"))
    }
}

fn basic(login: &str) -> &'static str {
    format!("Basic {}", BASE64_STANDARD.encode(login)).leak()
}

#[test]
fn a_registry_lets_in_who_proves_who_it_is() {
    let secured = Secured::up();
    let Secured { authority, fixture, tls, plain, .. } = &secured;
    let ca = &*authority.file("authority.pem", authority.pem());
    let stranger = Authority::new("a stranger's");
    let other_ca = &*stranger.file("authority.pem", stranger.pem());
    let credentials = Credentials { all: basic("gate:hunter2"), reading: basic("reader:hunter2") };
    let by_password = &*secured.gate(&Asks::For(credentials));
    let credentials = Credentials { all: "Bearer hunter2", reading: "Bearer hunter2reads" };
    let by_token = &*secured.gate(&Asks::For(credentials));
    let by_certificate = &*secured.gate(&Asks::Certificate(authority));
    let said = |environment: Environment<'_>| secured.refused(environment);
    let mut cases = Cases::default();

    cases.case("the pipeline runs over its own TLS, told by flags", || {
        let words = ["--registry-url", &**tls, "--registry-ca", ca];
        the_pipeline_runs(fixture, Flags { verbs: &VERBS, words: &words }, &[]);
    });
    cases.case("the pipeline runs with a user and a password in a file", || {
        let password = authority.file("password", &format!("{SECRET}\n"));
        the_pipeline_runs(
            fixture,
            NO_FLAGS,
            &[
                ("SCHEMA_REGISTRY_URL", by_password),
                ("SCHEMA_REGISTRY_CA", ca),
                ("SCHEMA_REGISTRY_USER", "gate"),
                ("SCHEMA_REGISTRY_PASSWORD_FILE", &password),
            ],
        );
    });
    cases.case("the pipeline runs with a token in a file", || {
        let token = authority.file("token", &format!("{SECRET}\n"));
        the_pipeline_runs(
            fixture,
            NO_FLAGS,
            &[
                ("SCHEMA_REGISTRY_URL", by_token),
                ("SCHEMA_REGISTRY_CA", ca),
                ("SCHEMA_REGISTRY_TOKEN_FILE", &token),
            ],
        );
    });
    cases.case(
        "a user and a password may stand in the address, and a token in the environment",
        || {
            let address = by_password.replace("://", "://gate:hunter2@");
            let told = [("SCHEMA_REGISTRY_URL", &*address), ("SCHEMA_REGISTRY_CA", ca)];
            run(fixture, &["register"], &told).success();
            let told =
                [("SCHEMA_REGISTRY_URL", by_token), told[1], ("SCHEMA_REGISTRY_TOKEN", SECRET)];
            run(fixture, &["register"], &told).success();
        },
    );
    cases.case("the pipeline runs with a client's certificate", || {
        let client = authority.client("gate");
        let certificate = authority.file("client.pem", &client.certificate);
        let key = authority.file("client.key", &client.key);
        the_pipeline_runs(
            fixture,
            NO_FLAGS,
            &[
                ("SCHEMA_REGISTRY_URL", by_certificate),
                ("SCHEMA_REGISTRY_CA", ca),
                ("SCHEMA_REGISTRY_CERTIFICATE", &certificate),
                ("SCHEMA_REGISTRY_KEY", &key),
            ],
        );
    });
    // what is on the topic has a schema to be asked for
    run(fixture, &["produce", "readings", "--count", "1"], &[]).success();
    cases.case("no client's certificate", || {
        let told = [("SCHEMA_REGISTRY_URL", by_certificate), ("SCHEMA_REGISTRY_CA", ca)];
        insta::assert_snapshot!(said(&told), @"
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/config/[prefix].readings-value: received fatal alert: CertificateRequired; give a client's certificate that the server trusts with --registry-certificate and --registry-key
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/subjects/[prefix].readings-value/versions/latest: received fatal alert: CertificateRequired; give a client's certificate that the server trusts with --registry-certificate and --registry-key
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/schemas/ids/1?deleted=true: received fatal alert: CertificateRequired; give a client's certificate that the server trusts with --registry-certificate and --registry-key
        ");
    });
    cases.case("an authority that is not the registry's, and none at all", || {
        let told = [("SCHEMA_REGISTRY_URL", &**tls), ("SCHEMA_REGISTRY_CA", other_ca)];
        insta::assert_snapshot!(said(&told), @"
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/config/[prefix].readings-value: invalid peer certificate: UnknownIssuer; name a file with the certificate of the server's authority with --registry-ca
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/subjects/[prefix].readings-value/versions/latest: invalid peer certificate: UnknownIssuer; name a file with the certificate of the server's authority with --registry-ca
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/schemas/ids/1?deleted=true: invalid peer certificate: UnknownIssuer; name a file with the certificate of the server's authority with --registry-ca
        ");
        insta::assert_snapshot!(said(&told[..1]), @"
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/config/[prefix].readings-value: invalid peer certificate: UnknownIssuer; name a file with the certificate of the server's authority with --registry-ca
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/subjects/[prefix].readings-value/versions/latest: invalid peer certificate: UnknownIssuer; name a file with the certificate of the server's authority with --registry-ca
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/schemas/ids/1?deleted=true: invalid peer certificate: UnknownIssuer; name a file with the certificate of the server's authority with --registry-ca
        ");
    });
    cases.case("a name that is not the registry's", || {
        let address = tls.replace("localhost", "127.0.0.1");
        let told = [("SCHEMA_REGISTRY_URL", &*address), ("SCHEMA_REGISTRY_CA", ca)];
        let port = address.split([':', '/']).nth(4).unwrap();
        insta::assert_snapshot!(said(&told).replace(port, "[port]"), @r#"
        no access to the schema registry: https://127.0.0.1:[port]/apis/ccompat/v7/config/[prefix].readings-value: invalid peer certificate: certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("localhost"); use a name that the server's certificate has
        no access to the schema registry: https://127.0.0.1:[port]/apis/ccompat/v7/subjects/[prefix].readings-value/versions/latest: invalid peer certificate: certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("localhost"); use a name that the server's certificate has
        no access to the schema registry: https://127.0.0.1:[port]/apis/ccompat/v7/schemas/ids/1?deleted=true: invalid peer certificate: certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("localhost"); use a name that the server's certificate has
        "#);
    });
    cases.case("a certificate that is over", || {
        let address = secured.gate_with(&authority.expired_server(), &Asks::Certificate(authority));
        let told = [("SCHEMA_REGISTRY_URL", &*address), ("SCHEMA_REGISTRY_CA", ca)];
        insta::assert_snapshot!(said(&told), @"
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/config/[prefix].readings-value: invalid peer certificate: it was valid until [yesterday]; renew the server's certificate
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/subjects/[prefix].readings-value/versions/latest: invalid peer certificate: it was valid until [yesterday]; renew the server's certificate
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/schemas/ids/1?deleted=true: invalid peer certificate: it was valid until [yesterday]; renew the server's certificate
        ");
    });
    cases.case("a wrong password, a wrong token, and none", || {
        let mut told = [
            ("SCHEMA_REGISTRY_URL", by_password),
            ("SCHEMA_REGISTRY_CA", ca),
            ("SCHEMA_REGISTRY_USER", "gate"),
            ("SCHEMA_REGISTRY_PASSWORD", "hunter2wrong"),
        ];
        insta::assert_snapshot!(said(&told), @"
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/config/[prefix].readings-value answered 401 Unauthorized: said by the gate; check --registry-user and its password, or --registry-token, and what they may do
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/subjects/[prefix].readings-value/versions/latest answered 401 Unauthorized: said by the gate; check --registry-user and its password, or --registry-token, and what they may do
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/schemas/ids/1?deleted=true answered 401 Unauthorized: said by the gate; check --registry-user and its password, or --registry-token, and what they may do
        ");
        assert_eq!(said(&told[..2]), said(&told));
        told[0].1 = by_token;
        told[2] = ("SCHEMA_REGISTRY_TOKEN", "hunter2wrong");
        assert_eq!(said(&told[..3]), said(&told[..2]));
    });
    cases.case("who may only read", || {
        let told = [
            ("SCHEMA_REGISTRY_URL", by_token),
            ("SCHEMA_REGISTRY_CA", ca),
            ("SCHEMA_REGISTRY_TOKEN", "hunter2reads"),
        ];
        let told = run(fixture, &["register"], &told).one_clear_error();
        insta::assert_snapshot!(secured.redacted(&told), @r#"error: "[prefix].readings-value" can't be registered: no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/subjects/[prefix].readings-value?deleted=false answered 403 Forbidden: said by the gate; check --registry-user and its password, or --registry-token, and what they may do"#);
    });
    cases.case("TLS where it is not spoken, and plain text where it is", || {
        let address = plain.replace("http://127.0.0.1", "https://localhost");
        insta::assert_snapshot!(said(&[("SCHEMA_REGISTRY_URL", &*address), ("SCHEMA_REGISTRY_CA", ca)]), @"
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/config/[prefix].readings-value: received corrupt message of type InvalidContentType; the server speaks no TLS there
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/subjects/[prefix].readings-value/versions/latest: received corrupt message of type InvalidContentType; the server speaks no TLS there
        no access to the schema registry: https://localhost:[port]/apis/ccompat/v7/schemas/ids/1?deleted=true: received corrupt message of type InvalidContentType; the server speaks no TLS there
        ");
        let address = tls.replace("https:", "http:");
        let told = run(fixture, &["register"], &[("SCHEMA_REGISTRY_URL", &*address)]);
        insta::assert_snapshot!(secured.redacted(&told.one_clear_error()), @"error: no schema registry answers; start it with `make up`, or set SCHEMA_REGISTRY_URL: the schema registry is away: error sending request for url (http://localhost:[port]/apis/ccompat/v7/config/[prefix].readings-value): client error (SendRequest): connection closed before message completed");
    });
    cases.all_held();
}
