//! Whatever is asked, and whatever goes wrong: no secret is printed.
//!
//! That holds for runs that get in as well: `access` runs them against servers that ask who is there.

use std::{path::Path, process::Command};

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::support::{Fixture, Ran, readings, variable};

/// A part of every secret that a test here gives.
pub const SECRET: &str = "hunter2";

const VERBS: [&[&str]; 7] = [
    &["audit"],
    &["consume", "--duration", "1s"],
    &["produce", "readings", "--count", "1"],
    &["migrate"],
    &["register"],
    &["check"],
    &["stats"],
];

/// What a program is given in its environment.
type Given = Vec<(&'static str, String)>;

#[test]
fn no_run_that_fails_shows_a_secret() {
    let fixture = Fixture::with_stream(readings());
    for given in given(fixture.schemas.path()) {
        for verb in VERBS {
            let mut command = fixture.command(verb);
            run(command.args(["--log", "trace"]).envs(given.clone()));
            let mut command = fixture.command(verb);
            run(command.args(["--log", "debug", "--log-format", "json"]).envs(given.clone()));
        }
    }
}

#[test]
fn no_help_and_no_wrong_command_line_shows_a_secret() {
    let fixture = Fixture::with_stream(readings());
    let given = given(fixture.schemas.path()).concat();
    let property = format!("sasl.pasword={SECRET}");
    let both = [
        &["--kafka-sasl-password", SECRET, "--kafka-sasl-password-file", "file"][..],
        &["--registry-token", SECRET, "--registry-user", "user"],
        &["--kafka-property", SECRET],
        &["--kafka-property", &property],
        &["--registry-url", SECRET],
        &["--database-url", SECRET],
        &["--database-url", &format!("postgres://localhost/any?passwrd={SECRET}")],
        &[&format!("--kafka-sasl-pasword={SECRET}")],
        &[&format!("--registry-password={SECRET}")],
        &["--help"],
        &["-h"],
        &["--no-such-flag"],
    ];
    for verb in VERBS {
        for more in &both {
            // a flag that the verb does not have is said not to be there
            run(fixture.command(verb).args(*more).env("SLUICEGATE_LOG", "trace"));
            run(fixture.command(verb).args(*more).envs(given.clone()));
        }
    }
}

#[test]
fn a_configuration_file_shows_none_of_its_secrets() {
    let fixture = Fixture::with_stream(readings());
    let file = fixture.schemas.path().join("sluicegate.toml");
    let sound = format!(
        "database-url = 'postgres://sluicegate:{SECRET}@127.0.0.1:1/none'\n\
         registry-url = 'http://user:{SECRET}@127.0.0.1:1'\nregistry-user = 'user'\n\
         registry-password = '{SECRET}'\nkafka-sasl-password = '{SECRET}'\n\
         [kafka]\n'ssl.key.password' = '{SECRET}'\n"
    );
    let broken = [
        format!("registry-password = '{SECRET}"),
        format!("registry-password = ['{SECRET}']"),
        format!("registry-password = '{SECRET}'\nregistry-password = '{SECRET}'"),
        format!("registry_password = '{SECRET}'"),
        format!("registry-timeout = '{SECRET}'\nregistry-password = '{SECRET}'")
            .replacen(SECRET, "soon", 1),
        format!("[kafka]\n'sasl.pasword' = '{SECRET}'"),
        format!("[kafka]\n'sasl.password' = ['{SECRET}']"),
        format!("kafka = '{SECRET}'"),
    ];
    for text in [&[sound][..], &broken].concat() {
        std::fs::write(&file, &text).unwrap();
        for verb in [&["consume", "--help"][..], &["register"], &["migrate"], &["stats"]] {
            let mut command = fixture.command(verb);
            // the file is weaker than the environment
            command.env_remove("DATABASE_URL").env_remove("SCHEMA_REGISTRY_URL");
            run(command.env("SLUICEGATE_LOG", "trace"));
        }
    }
}

/// Services that are not there or do not let us in, each with a secret in its address or beside.
fn given(folder: &Path) -> [Given; 4] {
    let database = |place: &str| format!("postgres://sluicegate:{SECRET}@{place}");
    let here = variable("DATABASE_URL");
    let (_, place) = here.rsplit_once('@').unwrap();
    let file = folder.join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let file = file.to_str().unwrap();
    let sasl = [
        ("KAFKA_SECURITY_PROTOCOL", "sasl_plaintext".to_owned()),
        ("KAFKA_SASL_MECHANISM", "PLAIN".into()),
        ("KAFKA_SASL_USERNAME", "user".into()),
    ];
    [
        vec![
            ("DATABASE_URL", database(place)),
            ("SCHEMA_REGISTRY_USER", "user".into()),
            ("SCHEMA_REGISTRY_PASSWORD", SECRET.into()),
        ],
        vec![
            ("DATABASE_URL", database("127.0.0.1:1/none")),
            ("SCHEMA_REGISTRY_URL", format!("http://user:{SECRET}@127.0.0.1:1")),
        ],
        [
            &sasl[..],
            &[
                ("DATABASE_URL", database("[/none")),
                ("SCHEMA_REGISTRY_TOKEN", SECRET.into()),
                ("KAFKA_SASL_PASSWORD", SECRET.into()),
            ],
        ]
        .concat(),
        vec![
            ("DATABASE_PASSWORD_FILE", file.into()),
            ("SCHEMA_REGISTRY_TOKEN_FILE", file.into()),
            ("KAFKA_SASL_PASSWORD_FILE", file.into()),
        ],
    ]
}

#[track_caller]
fn run(command: &mut Command) {
    let ran = Ran::of(command);
    assert!(!ran.stdout.is_empty() || !ran.stderr.is_empty(), "{command:?} says nothing");
    assert_shows_no_secret(&ran, "user");
}

/// Neither as it is nor as the header that HTTP sends it in.
#[track_caller]
pub fn assert_shows_no_secret(ran: &Ran, user: &str) {
    let encoded = BASE64_STANDARD.encode(format!("{user}:{SECRET}"));
    let is_shown =
        |line: &&str| line.contains(SECRET) || line.contains(encoded.trim_end_matches('='));
    let leaks: Vec<&str> = [&ran.stdout, &ran.stderr]
        .into_iter()
        .flat_map(|all| all.lines())
        .filter(is_shown)
        .collect();
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}
