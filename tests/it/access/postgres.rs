//! A Postgres that is spoken to over TLS, with a password or a client's certificate.

use super::{
    Authority, Cases, Certified, Environment, Flags, NO_FLAGS, SECRET, run, the_pipeline_runs,
    yesterday,
};
use crate::{
    services::Services,
    support::{Fixture, poll, readings, repository},
};

/// Nobody comes in without TLS but the test itself; `certified` comes in by certificate alone.
const RULES: &str = "host all sluicegate 127.0.0.1/32 scram-sha-256
hostssl all certified 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 scram-sha-256";

const USERS: &str = "CREATE ROLE secure LOGIN PASSWORD 'hunter2'; CREATE ROLE certified LOGIN; \
    CREATE ROLE poor LOGIN PASSWORD 'hunter2'; GRANT sluicegate TO secure; GRANT secure TO certified";

struct Secured {
    authority: Authority,
    fixture: Fixture,
    /// `HOST:PORT/NAME`, the host by the one name that its certificate has.
    place: String,
    _services: Services,
}

impl Secured {
    fn up() -> Secured {
        let services = Services::up(&["postgres"]);
        let addresses = services.addresses();
        let (_, place) = addresses["DATABASE_URL"].rsplit_once('@').unwrap();
        let place = place.replace("127.0.0.1", "localhost");
        let mut fixture = Fixture::on(addresses.clone());
        let topic = fixture.stream("readings", readings());
        fixture.create_topic(&topic, 1);
        let secured = Secured {
            authority: Authority::new("the server's"),
            fixture,
            place,
            _services: services,
        };
        secured.write("authority.pem", secured.authority.pem());
        secured.write("pg_hba.conf", RULES);
        secured.fixture.sql(USERS);
        for setting in ["ssl = on", "ssl_ca_file = 'authority.pem'"] {
            secured.fixture.sql(&format!("ALTER SYSTEM SET {setting}"));
        }
        secured.certify(&secured.authority.server());
        secured
    }

    /// Gives the running server another certificate.
    fn certify(&self, server: &Certified) {
        self.write("server.crt", &server.certificate);
        self.write("server.key", &server.key);
        let loaded = "extract(epoch FROM pg_conf_load_time()) * 1000000";
        let before = self.fixture.number(loaded);
        self.fixture.sql("SELECT pg_reload_conf()");
        // a new connection is that of a new process, which has what the server has loaded
        let is_loaded = || (self.fixture.number(loaded) > before).then_some(());
        poll(is_loaded).expect("the certificate to be loaded");
    }

    /// Writes a file of the server's own folder, as the server.
    fn write(&self, name: &str, text: &str) {
        let lines = format!(
            "SELECT unnest(string_to_array('{}', E'\\n'))",
            text.trim().replace('\'', "''")
        );
        self.fixture.sql(&format!("COPY ({lines}) TO PROGRAM 'umask 077; cat > {name}'"));
    }

    /// Makes a user who may do what is granted to `pipeline`.
    fn grant(&self, user: &str, grants: &str) {
        self.fixture.sql(&format!("CREATE ROLE {user} LOGIN PASSWORD 'hunter2'"));
        self.fixture.sql(&grants.replace("pipeline", user));
    }

    fn url(&self, user: &str, parameters: &str) -> String {
        format!("postgres://{user}@{}?{parameters}", self.place)
    }

    /// What every verb that needs the database says of an address.
    #[track_caller]
    fn refused(&self, url: &str, environment: Environment<'_>) -> String {
        let verbs = [&["migrate"][..], &["consume", "--exit-when-drained"], &["stats"]];
        let said = verbs.map(|verb| {
            let told = [verb, &["--database-url", url]].concat();
            run(&self.fixture, &told, environment).one_clear_error()
        });
        assert!(said.iter().all(|line| *line == said[0]), "{said:#?}");
        let port = self.place.split(['/', ':']).nth(1).unwrap();
        said[0].replace(port, "[port]").replace(&yesterday(), "[yesterday]")
    }
}

/// What the documentation says that `pipeline` must be allowed, with the names of here.
fn listed(schema: &str) -> String {
    let page = std::fs::read_to_string(repository("docs/access.md")).unwrap();
    let grants = page.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    grants.replace("events", "sluicegate").replace("public", &format!("\"{schema}\""))
}

#[test]
fn postgres_is_spoken_to_over_tls_that_proves_who_it_is() {
    let secured = Secured::up();
    let Secured { authority, fixture, .. } = &secured;
    let ca = authority.file("authority.pem", authority.pem());
    let stranger = Authority::new("a stranger's");
    let other_ca = stranger.file("authority.pem", stranger.pem());
    let full = format!("sslmode=verify-full&sslrootcert={ca}");
    let mut cases = Cases::default();

    cases.case("the pipeline runs with verify-full, the password in a file", || {
        let password = authority.file("password", &format!("{SECRET}\n"));
        let environment = [
            ("DATABASE_URL", &*secured.url("secure", &full)),
            ("DATABASE_PASSWORD_FILE", &password),
        ];
        the_pipeline_runs(fixture, NO_FLAGS, &environment);
    });
    cases.case("the pipeline runs with a client's certificate, told by flags", || {
        let client = authority.client("certified");
        let certificate = authority.file("client.pem", &client.certificate);
        let key = authority.file("client.key", &client.key);
        let url = secured.url("certified", &format!("{full}&sslcert={certificate}&sslkey={key}"));
        let words = ["--database-url", &url];
        let flags = Flags { verbs: &["migrate", "consume", "stats", "audit"], words: &words };
        the_pipeline_runs(fixture, flags, &[]);
    });
    let said = |url: &str| secured.refused(url, &[]);
    cases.case("an authority that is not the server's", || {
        let url =
            secured.url("secure:hunter2", &format!("sslmode=verify-full&sslrootcert={other_ca}"));
        insta::assert_snapshot!(said(&url), @"error: can't connect to Postgres at localhost:[port]: invalid peer certificate: UnknownIssuer; name a file with the certificate of the server's authority with sslrootcert in DATABASE_URL");
    });
    cases.case("no authority at all", || {
        insta::assert_snapshot!(said(&secured.url("secure:hunter2", "sslmode=verify-full")), @"error: can't connect to Postgres at localhost:[port]: invalid peer certificate: UnknownIssuer; name a file with the certificate of the server's authority with sslrootcert in DATABASE_URL");
    });
    cases.case("a file of no certificates", || {
        let empty = authority.file("empty.pem", "");
        let url =
            secured.url("secure:hunter2", &format!("sslmode=verify-full&sslrootcert={empty}"));
        insta::assert_snapshot!(said(&url).replace(&empty, "[empty]"), @"error: sslrootcert in DATABASE_URL: [empty] holds no PEM certificate");
        let nowhere = "sslmode=verify-full&sslrootcert=/nowhere.pem";
        insta::assert_snapshot!(said(&secured.url("secure:hunter2", nowhere)), @"error: sslrootcert in DATABASE_URL: /nowhere.pem can't be read: No such file or directory (os error 2)");
    });
    cases.case("a name that is not the server's", || {
        let url = secured.url("secure:hunter2", &full).replace("localhost", "127.0.0.1");
        insta::assert_snapshot!(said(&url), @r#"error: can't connect to Postgres at 127.0.0.1:[port]: invalid peer certificate: certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("localhost"); use a name that the server's certificate has"#);
    });
    cases.case("no encryption, where the server insists on it", || {
        insta::assert_snapshot!(said(&secured.url("secure:hunter2", "sslmode=disable")), @r#"error: can't connect to Postgres at localhost:[port]: no pg_hba.conf entry for host "127.0.0.1", user "secure", database "sluicegate", no encryption; check DATABASE_URL"#);
    });
    cases.case("a wrong password, and a user that there is not", || {
        insta::assert_snapshot!(said(&secured.url("secure:hunter2wrong", &full)), @r#"error: can't connect to Postgres at localhost:[port]: password authentication failed for user "secure"; check DATABASE_URL"#);
        insta::assert_snapshot!(said(&secured.url("nobody:hunter2wrong", &full)), @r#"error: can't connect to Postgres at localhost:[port]: password authentication failed for user "nobody"; check DATABASE_URL"#);
    });
    cases.case("no client's certificate, and another's", || {
        insta::assert_snapshot!(said(&secured.url("certified", &full)), @"error: can't connect to Postgres at localhost:[port]: connection requires a valid client certificate; check DATABASE_URL");
        let client = authority.client("secure");
        let certificate = authority.file("other.pem", &client.certificate);
        let key = authority.file("other.key", &client.key);
        let url = secured.url("certified", &format!("{full}&sslcert={certificate}&sslkey={key}"));
        insta::assert_snapshot!(said(&url), @r#"error: can't connect to Postgres at localhost:[port]: certificate authentication failed for user "certified"; check DATABASE_URL"#);
        let url = secured.url("certified", &format!("{full}&sslcert={certificate}"));
        insta::assert_snapshot!(said(&url), @"error: can't connect to Postgres at localhost:[port]: user auth key and certs must be given together; check DATABASE_URL");
    });
    cases.case("a user who may not read the tables", || {
        fixture.sql(&format!("GRANT USAGE ON SCHEMA \"{}\" TO poor", fixture.prefix));
        let url = secured.url("poor:hunter2", &full);
        let told = |verb: &[&str]| {
            run(fixture, &[verb, &["--database-url", &url]].concat(), &[]).one_clear_error().replace(&fixture.prefix, "[prefix]")
        };
        insta::assert_snapshot!(told(&["migrate"]), @"error: the fixed tables can't be migrated: permission denied for schema [prefix]");
        insta::assert_snapshot!(told(&["consume"]), @"error: readings: Postgres says: permission denied for table ledger (42501); grant the privilege to the user of DATABASE_URL, and start again");
        insta::assert_snapshot!(told(&["stats"]), @"error: readings: can't be counted: permission denied for table ledger; grant the privilege to the user of DATABASE_URL");
    });
    cases.case("a parameter of the address that there is not", || {
        let url = secured.url("secure:hunter2", "sslmod=verify-full");
        insta::assert_snapshot!(said(&url), @r#"error: DATABASE_URL has a parameter "sslmod", which there is not; expected one of sslmode, ssl-mode, statement-cache-capacity, host, hostaddr, port, dbname, user, password, application_name, options, sslrootcert, sslcert, sslkey"#);
    });
    // that anybody may connect and make temporary tables is but a default
    fixture.sql("REVOKE ALL ON DATABASE sluicegate FROM PUBLIC");
    let run_as = |user: &str, verb: &[&str], schema: &str| {
        let url = secured.url(&format!("{user}:hunter2"), &full);
        let told = [verb, &["--database-url", &url]].concat();
        run(fixture, &told, &[("DATABASE_SCHEMA", schema)])
    };
    let ours = &*fixture.prefix;
    cases.case(
        "consume, stats and audit run as a user with the grants that the page lists",
        || {
            secured.grant("listed", &listed(ours));
            run(fixture, &["produce", "readings", "--count", "5"], &[]).success();
            fixture.send(&fixture.topic(), None, Some(b"nonsense"));
            let before = fixture.ledger();
            run_as("listed", &["consume", "--exit-when-drained"], ours).success();
            let after = fixture.ledger();
            assert_eq!(after.inserted, before.inserted + 5);
            assert_eq!(after.dead_lettered, before.dead_lettered + 1);
            for verb in
                [&["stats"][..], &["audit", "--drained"], &["audit", "readings", "--accept-gaps"]]
            {
                run_as("listed", verb, ours).success();
            }
        },
    );
    cases.case("stats and audit run as a user who may only read", || {
        let all = "SELECT, INSERT, UPDATE, DELETE";
        secured.grant("counting", &listed(ours).replace(all, "SELECT").replace(", TEMPORARY", ""));
        for verb in ["stats", "audit"] {
            run_as("counting", &[verb], ours).success();
        }
        let accept = || run_as("counting", &["audit", "readings", "--accept-gaps"], ours);
        let refused = accept().one_clear_error();
        assert!(refused.contains("permission denied for table ledger_gaps"), "{refused}");
        fixture.sql("GRANT UPDATE ON ledger_gaps TO counting");
        accept().success();
    });
    cases.case("migrate runs as a user who may create", || {
        fixture.sql("CREATE SCHEMA there");
        let grants = "GRANT CONNECT ON DATABASE sluicegate TO pipeline; \
                      GRANT USAGE, CREATE ON SCHEMA there TO pipeline";
        secured.grant("maker", grants);
        run_as("maker", &["migrate"], "there").success();
        let elsewhere = || run_as("maker", &["migrate"], "elsewhere");
        insta::assert_snapshot!(elsewhere().one_clear_error(), @r#"error: the schema "elsewhere" can't be created: permission denied for database sluicegate; create it, or grant the privilege"#);
        fixture.sql("GRANT CREATE ON DATABASE sluicegate TO maker");
        elsewhere().success();
        elsewhere().success();
    });
    secured.certify(&authority.expired_server());
    cases.case("a certificate that is over", || {
        insta::assert_snapshot!(said(&secured.url("secure:hunter2", &full)), @"error: can't connect to Postgres at localhost:[port]: invalid peer certificate: it was valid until [yesterday]; renew the server's certificate");
    });
    cases.all_held();
}
