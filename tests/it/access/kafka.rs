//! A Kafka that lets in who has a password or a certificate, and lets each do what it may.

use std::process::Command;

use super::{
    Authority, Cases, Certified, Environment, Flags, NO_FLAGS, SECRET, acls, run,
    the_pipeline_runs, yesterday,
};
use crate::{
    services::{Services, free_port},
    support::{Fixture, Ran, readings},
};

/// The verbs that speak to Kafka.
const VERBS: [&str; 4] = ["produce", "consume", "stats", "audit"];

/// What asks for a password: `gate` may do what the pipeline does with topics of the fixture's
/// prefix, `reader` may read them and has no group, `poor` may do nothing.
const PROPERTIES: &str = r#"
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PASSWORD:SASL_SSL,CERTIFICATE:SSL,EXPIRED:SASL_SSL,CLEAR:SASL_PLAINTEXT
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
ssl.truststore.type=PEM
ssl.principal.mapping.rules=RULE:^CN=(.*)$/$1/
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.certificate.ssl.client.auth=required
listener.name.password.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_gate="hunter2" user_reader="hunter2" user_poor="hunter2";
listener.name.expired.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_gate="hunter2";
listener.name.password.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.password.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.password.scram-sha-512.connections.max.reauth.ms=3000
listener.name.expired.sasl.enabled.mechanisms=PLAIN
listener.name.clear.sasl.enabled.mechanisms=PLAIN
listener.name.clear.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_gate="hunter2";
"#;

struct Secured {
    authority: Authority,
    /// By the name of the listener, which says what it asks for.
    password: String,
    certificate: String,
    expired: String,
    clear: String,
    fixture: Fixture,
    services: Services,
}

impl Secured {
    fn up() -> Secured {
        let authority = Authority::new("the brokers'");
        let [password, certificate, expired, clear] =
            std::array::from_fn(|_| format!("localhost:{}", free_port()));
        let listeners = [
            format!("PASSWORD://{password},CERTIFICATE://{certificate}"),
            format!("EXPIRED://{expired},CLEAR://{clear}"),
        ];
        let properties = [
            PROPERTIES.to_owned(),
            format!("ssl.truststore.certificates={}\n", one_line(authority.pem())),
            keys("password", &authority.server()),
            keys("certificate", &authority.server()),
            keys("expired", &authority.expired_server()),
        ];
        let settings =
            [("KAFKA_LISTENERS", listeners.join(",")), ("KAFKA_PROPERTIES", properties.concat())];
        let services = Services::up_with(&["kafka"], &settings);
        let mut fixture = Fixture::on(services.addresses());
        fixture.stream("readings", readings());
        let secured =
            Secured { authority, password, certificate, expired, clear, fixture, services };
        std::thread::scope(|scope| {
            scope.spawn(|| secured.set_password("SCRAM-SHA-256", SECRET));
            secured.set_password("SCRAM-SHA-512", SECRET);
        });
        let prefix = &secured.fixture.prefix;
        acls::allow(
            secured.fixture.address("KAFKA_BROKERS"),
            &[
                acls::topic(prefix, "gate", acls::READ),
                acls::topic(prefix, "gate", acls::WRITE),
                acls::topic(prefix, "gate", acls::CREATE),
                acls::group(prefix, "gate", acls::READ),
                acls::topic(prefix, "reader", acls::READ),
            ],
        );
        secured
    }

    /// Gives `gate` a password for a mechanism.
    fn set_password(&self, mechanism: &str, password: &str) {
        let secret = format!("{mechanism}=[iterations=4096,password={password}]");
        // with the Java and the libraries that run Kafka
        let line = format!("/proc/{}/cmdline", self.services.processes("kafka")[0]);
        let line = std::fs::read_to_string(line).unwrap();
        let java = line.split('\0').next().unwrap();
        let libraries = line.split('\0').skip_while(|word| *word != "-cp").nth(1).unwrap();
        let mut command = Command::new(java);
        command.args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", libraries]);
        command.arg("kafka.admin.ConfigCommand");
        command.args(["--bootstrap-server", self.fixture.address("KAFKA_BROKERS"), "--alter"]);
        command.args(["--entity-type", "users", "--entity-name", "gate"]);
        Ran::of(command.args(["--add-config", &secret])).success();
    }

    /// What every verb that needs Kafka says.
    #[track_caller]
    fn refused(&self, environment: Environment<'_>) -> String {
        let consume = &["consume", "--exit-when-drained"][..];
        let verbs = [consume, &["produce", "readings"], &["stats"], &["audit"]];
        // at once: some of them wait for a broker to say something else
        let said = std::thread::scope(|scope| {
            let run = |verb| reason(run(&self.fixture, verb, environment));
            verbs.map(|verb| scope.spawn(move || run(verb))).map(|run| run.join().unwrap())
        });
        assert!(said.iter().all(|line| *line == said[0]), "{said:#?}");
        let ports = [&self.password, &self.certificate, &self.expired];
        let ports = ports.map(|place| place.split(':').nth(1).unwrap());
        let said = ports.iter().fold(said[0].clone(), |said, port| said.replace(port, "[port]"));
        let said = without_words_of_openssl(&said);
        said.replace(&self.fixture.prefix, "[prefix]").replace(&yesterday(), "[yesterday]")
    }
}

/// The error, or what `stats` leaves out the lag for: it counts all the same.
#[track_caller]
fn reason(ran: Ran) -> String {
    let warning = |line: &str| Some(line.split_once("lag is unknown: ")?.1.to_owned());
    match ran.stderr.lines().find_map(warning) {
        Some(why) if ran.code == 0 => format!("error: {why}"),
        _ => ran.one_clear_error(),
    }
}

/// Its versions have different words for an alert, and one number; and so for what is no key.
fn without_words_of_openssl(said: &str) -> String {
    let without = |from: &str, to: &str| {
        let (before, rest) = said.split_once(from)?;
        let (_, after) = rest.split_once(to)?;
        Some(format!("{before}{from}{to}{after}"))
    };
    let alert = without(" over TLS: ", "SSL alert number");
    alert.or_else(|| without("key.location failed: error:", ";")).unwrap_or(said.to_owned())
}

/// A property's value has no line breaks.
fn one_line(pem: &str) -> String {
    pem.trim().replace('\n', "\\n")
}

fn keys(listener: &str, Certified { certificate, key }: &Certified) -> String {
    let (certificate, key) = (one_line(certificate), one_line(key));
    [
        format!("listener.name.{listener}.ssl.keystore.type=PEM\n"),
        format!("listener.name.{listener}.ssl.keystore.certificate.chain={certificate}\n"),
        format!("listener.name.{listener}.ssl.keystore.key={key}\n"),
    ]
    .concat()
}

/// What the program is told to come in with a password.
fn login<'e>(
    brokers: &'e str,
    mechanism: &'e str,
    user: &'e str,
    password: &'e str,
    ca: &'e str,
) -> [(&'e str, &'e str); 6] {
    [
        ("KAFKA_BROKERS", brokers),
        ("KAFKA_SECURITY_PROTOCOL", "sasl_ssl"),
        ("KAFKA_SASL_MECHANISM", mechanism),
        ("KAFKA_SASL_USERNAME", user),
        ("KAFKA_SASL_PASSWORD", password),
        ("KAFKA_CA", ca),
    ]
}

#[test]
fn kafka_lets_in_who_proves_who_it_is() {
    let secured = Secured::up();
    let Secured { authority, fixture, password, certificate, expired, clear, .. } = &secured;
    let ca = &*authority.file("authority.pem", authority.pem());
    let stranger = Authority::new("a stranger's");
    let other_ca = &*stranger.file("authority.pem", stranger.pem());
    let said = |environment: Environment<'_>| secured.refused(environment);
    let scram = "SCRAM-SHA-256";
    let mut cases = Cases::default();

    cases.case("the pipeline runs with SCRAM-SHA-256, told by flags", || {
        let words = [
            "--kafka-brokers",
            password,
            "--kafka-security-protocol",
            "SASL_SSL",
            "--kafka-sasl-mechanism",
            scram,
            "--kafka-sasl-username",
            "gate",
            "--kafka-sasl-password",
            SECRET,
            "--kafka-ca",
            ca,
        ];
        the_pipeline_runs(fixture, Flags { verbs: &VERBS, words: &words }, &[]);
    });
    cases.case("the pipeline runs with SCRAM-SHA-512, the password in a file", || {
        let file = authority.file("password", &format!("{SECRET}\n"));
        let mut told = login(password, "SCRAM-SHA-512", "gate", &file, ca);
        told[4].0 = "KAFKA_SASL_PASSWORD_FILE";
        the_pipeline_runs(fixture, NO_FLAGS, &told);
    });
    cases.case("the pipeline runs with PLAIN, told by the environment", || {
        the_pipeline_runs(fixture, NO_FLAGS, &login(password, "PLAIN", "gate", SECRET, ca));
    });
    cases.case("the pipeline runs with a password and no TLS", || {
        let mut told = login(clear, "PLAIN", "gate", SECRET, ca);
        told[1].1 = "sasl_plaintext";
        the_pipeline_runs(fixture, NO_FLAGS, &told[..5]);
    });
    let client = authority.client("gate");
    let key = authority.file("client.key", &client.key);
    let client = authority.file("client.pem", &client.certificate);
    let by_certificate = [
        ("KAFKA_BROKERS", &**certificate),
        ("KAFKA_SECURITY_PROTOCOL", "ssl"),
        ("KAFKA_CA", ca),
        ("KAFKA_CERTIFICATE", &client),
        ("KAFKA_KEY", &key),
    ];
    cases.case("the pipeline runs with a client's certificate", || {
        the_pipeline_runs(fixture, NO_FLAGS, &by_certificate);
    });
    cases.case("the pipeline runs with a client's certificate whose key has a password", || {
        let encrypted = authority.encrypted(&key, SECRET);
        let password = authority.file("key-password", &format!("{SECRET}\n"));
        let mut told = by_certificate;
        told[4].1 = &encrypted;
        the_pipeline_runs(fixture, NO_FLAGS, &[&told[..], &[("KAFKA_KEY_PASSWORD_FILE", &password)]].concat());
        let wrong = authority.file("wrong-password", "hunter2wrong\n");
        insta::assert_snapshot!(said(&[&told[..], &[("KAFKA_KEY_PASSWORD_FILE", &wrong)]].concat()), @"error: librdkafka refuses its properties: ssl.key.location failed: error:; check --kafka-key, and --kafka-key-password-file if the key has a password");
    });
    cases.case("no client's certificate, or one of a stranger's", || {
        insta::assert_snapshot!(said(&by_certificate[..3]), @"error: Kafka at localhost:[port] can't be spoken to over TLS: SSL alert number 42; give a client's certificate that the server trusts with --kafka-certificate and --kafka-key");
        let client = stranger.client("gate");
        let key = stranger.file("client.key", &client.key);
        let client = stranger.file("client.pem", &client.certificate);
        let mut told = by_certificate;
        (told[3].1, told[4].1) = (&client, &key);
        insta::assert_snapshot!(said(&told), @"error: Kafka at localhost:[port] can't be spoken to over TLS: SSL alert number 42; give a client's certificate that the server trusts with --kafka-certificate and --kafka-key");
        insta::assert_snapshot!(said(&by_certificate[..4]), @"error: --kafka-certificate and --kafka-key go together; give both");
    });
    cases.case("an authority that is not the broker's, and none at all", || {
        insta::assert_snapshot!(said(&login(password, scram, "gate", SECRET, other_ca)), @"error: Kafka at localhost:[port] can't be spoken to over TLS: invalid peer certificate: UnknownIssuer; name a file with the certificate of the server's authority with --kafka-ca");
        insta::assert_snapshot!(said(&login(password, scram, "gate", SECRET, ca)[..5]), @"error: Kafka at localhost:[port] can't be spoken to over TLS: invalid peer certificate: UnknownIssuer; name a file with the certificate of the server's authority with --kafka-ca");
    });
    cases.case("a name that is not the broker's", || {
        let address = password.replace("localhost", "127.0.0.1");
        insta::assert_snapshot!(said(&login(&address, scram, "gate", SECRET, ca)), @r#"error: Kafka at 127.0.0.1:[port] can't be spoken to over TLS: invalid peer certificate: certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("localhost"); use a name that the server's certificate has"#);
    });
    cases.case("a certificate that is over", || {
        insta::assert_snapshot!(said(&login(expired, "PLAIN", "gate", SECRET, ca)), @"error: Kafka at localhost:[port] can't be spoken to over TLS: invalid peer certificate: it was valid until [yesterday]; renew the server's certificate");
    });
    cases.case("a wrong password, and a user that there is not", || {
        insta::assert_snapshot!(said(&login(password, scram, "gate", "hunter2wrong", ca)), @"error: Kafka at localhost:[port] does not let us in: SASL authentication error: Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256; check the user, its password and the mechanism");
        insta::assert_snapshot!(said(&login(password, scram, "nobody", SECRET, ca)), @"error: Kafka at localhost:[port] does not let us in: SASL authentication error: Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256; check the user, its password and the mechanism");
        insta::assert_snapshot!(said(&login(password, "PLAIN", "gate", "hunter2wrong", ca)), @"error: Kafka at localhost:[port] does not let us in: SASL authentication error: Authentication failed: Invalid username or password; check the user, its password and the mechanism");
    });
    cases.case("plain text where TLS is spoken, and TLS where it is not", || {
        insta::assert_snapshot!(said(&[("KAFKA_BROKERS", password)]), @"error: Kafka at localhost:[port] hangs up: Disconnected: connection closed by peer: receive 0 after POLLIN; set --kafka-security-protocol to what it speaks there");
        let plain = fixture.address("KAFKA_BROKERS").replace("127.0.0.1", "localhost");
        let told = [("KAFKA_BROKERS", &*plain), ("KAFKA_SECURITY_PROTOCOL", "ssl"), ("KAFKA_CA", ca)];
        insta::assert_snapshot!(said(&told).replace(plain.split_once(':').unwrap().1, "[plain]"), @"error: Kafka at localhost:[plain] hangs up: SSL handshake failed: Disconnected: SSL connection closed by peer: connecting to a PLAINTEXT broker listener?; set --kafka-security-protocol to what it speaks there");
    });
    cases.case("settings that would not be used", || {
        let told = login(password, scram, "gate", SECRET, ca);
        insta::assert_snapshot!(said(&[told[0], told[2], told[3], told[4]]), @"error: a user of SASL is given, and would not be used: Kafka's security protocol is plaintext; set --kafka-security-protocol to sasl_ssl");
        insta::assert_snapshot!(said(&[told[0], told[5]]), @"error: --kafka-ca is given, and would not be used: Kafka's security protocol is plaintext; set --kafka-security-protocol to ssl or sasl_ssl");
        insta::assert_snapshot!(said(&[told[0], told[1], told[3], told[4]]), @"error: sasl_ssl needs a mechanism; set --kafka-sasl-mechanism to one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512");
    });
    cases.case("who may nothing, and who may only read", || {
        let told = |user, verb: &[&str]| {
            let environment = login(password, "PLAIN", user, SECRET, ca);
            reason(run(fixture, verb, &environment)).replace(&fixture.prefix, "[prefix]")
        };
        let missing = told("poor", &["consume", "--exit-when-drained"]);
        insta::assert_snapshot!(missing, @r#"error: the topic "[prefix].readings" is not there for us, and we may not create it; let our user describe it, or create it"#);
        assert_eq!(told("poor", &["produce", "readings"]), missing);
        insta::assert_snapshot!(told("poor", &["stats"]), @r#"error: Kafka says of the topic "[prefix].readings": TopicAuthorizationFailed (Broker: Topic authorization failed) stream="readings""#);
        insta::assert_snapshot!(told("poor", &["audit"]), @r#"error: readings can't be audited: Kafka says of the topic "[prefix].readings": TopicAuthorizationFailed (Broker: Topic authorization failed)"#);
        for verb in ["stats", "audit"] {
            let said = told("reader", &[verb]);
            let (what, why) = said.split_once(" has committed").unwrap_or_else(|| panic!("{said}"));
            assert!(what.ends_with(r#"Kafka does not say what the group "[prefix].readings""#), "{said}");
            assert!(why.contains("; may our user read it?"), "{said}");
        }
        insta::assert_snapshot!(told("reader", &["consume", "--exit-when-drained"]), @"error: readings: Kafka refuses us: Message consumption error: GroupAuthorizationFailed (Broker: Group authorization failed); check Kafka's credentials, certificates and permissions, and start again");
        insta::assert_snapshot!(told("reader", &["produce", "readings", "--count", "1"]), @"error: we may not write to \"[prefix].readings\"; let our user do so");
    });
    cases.case("a password that is another now stops a consumer that runs", || {
        let told = login(password, "SCRAM-SHA-512", "gate", SECRET, ca);
        let trace = [&told[..], &[("SLUICEGATE_LOG", "trace")]].concat();
        let mut running = fixture.start_with(&["consume"], &trace);
        running.wait_for_log("partitions assigned");
        secured.set_password("SCRAM-SHA-512", "hunter2new");
        assert_eq!(running.wait(), Some(1));
        let log = running.log();
        insta::assert_snapshot!(log.lines().find(|line| line.starts_with("error: ")).unwrap(), @"error: readings: Kafka refuses us: Message consumption error: Authentication (Local: Authentication failure); check Kafka's credentials, certificates and permissions, and start again");
    });
    cases.all_held();
}
