//! Where contract and table disagree, the stream stops and says how to mend it. Nothing of it is
//! dead-lettered or committed, and the other streams go on.

use crate::{
    avro::{id, reading},
    support::{Fixture, Ledger, Ran, readings, variable},
};

/// 2026-05-01T12:00:00Z.
const NOON: i64 = 1_777_636_800_000;

/// Two streams, `readings` and `others`, with nothing in them.
fn two_streams() -> Fixture {
    let mut fixture = Fixture::new();
    for stream in ["readings", "others"] {
        let topic = fixture.stream(stream, readings());
        fixture.create_topic(&topic, 1);
    }
    fixture.run(&["register"]).success();
    fixture.run(&["migrate"]).success();
    fixture
}

/// Sends events `from` up to `to` to both streams.
fn send(fixture: &Fixture, from: u64, to: u64) {
    for stream in ["readings", "others"] {
        let topic = format!("{}.{stream}", fixture.prefix);
        let schema = fixture.schema_id(&topic);
        let event = |n| reading(schema, &id(n), NOON, n as f64);
        fixture.send_values(&topic, &(from..to).map(event).collect::<Vec<_>>());
    }
}

/// The line with which the run says why `readings` stopped. It is the only one of its kind, the run
/// ended with an error, and of `readings` no more was taken than `before`.
#[track_caller]
fn why_readings_stopped(fixture: &Fixture, code: i32, log: &str, before: Option<i64>) -> String {
    assert_eq!(code, 1, "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(fixture.committed("readings")[0], before);
    assert_eq!(fixture.number("SELECT count(*) FROM dlq_events"), 0);
    let counted = "SELECT coalesce(sum(next_offset), 0) FROM ledger WHERE stream = 'readings'";
    assert_eq!(fixture.number(counted), before.unwrap_or(0));
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("the stream stopped")).collect();
    let [line] = lines[..] else { panic!("{log}") };
    let (_, reason) = line.split_once("reason=").unwrap();
    reason.replace(&fixture.prefix, "[schema]")
}

/// Damages the table before a run, mends it after, and gives what the run said in between.
#[track_caller]
fn said_of(damage: &str, mend: impl Fn(&Fixture)) -> String {
    let fixture = two_streams();
    send(&fixture, 0, 5);
    fixture.drain();
    send(&fixture, 5, 9);
    fixture.sql(damage);
    let Ran { code, stderr, .. } = fixture.run(&["consume", "--exit-when-drained"]);
    let said = why_readings_stopped(&fixture, code, &stderr, Some(5));
    assert_eq!(fixture.number("SELECT count(*) FROM others"), 9);
    assert_eq!(fixture.committed("others")[0], Some(9));

    mend(&fixture);
    fixture.drain();
    all_landed(&fixture, 9);
    said
}

#[track_caller]
fn all_landed(fixture: &Fixture, events: i64) {
    assert_eq!(fixture.committed("readings")[0], Some(events));
    let (inserted, offsets) = (2 * events, 2 * events);
    let ledger = Ledger { inserted, duplicate: 0, dead_lettered: 0, skipped: 0, offsets };
    assert_eq!(fixture.ledger(), ledger);
}

#[test]
fn a_dropped_column_stops_its_stream_until_it_is_back() {
    let migrate = |fixture: &Fixture| drop(fixture.run(&["migrate"]).success());
    let said = said_of("ALTER TABLE readings DROP COLUMN is_high", migrate);
    insta::assert_snapshot!(said, @r#"the tables are not as the contract says: not yet run: ALTER TABLE "readings" ADD COLUMN "is_high" boolean; run `sluicegate migrate`"#);
}

#[test]
fn a_dropped_table_stops_its_stream_until_it_is_back() {
    let migrate = |fixture: &Fixture| drop(fixture.run(&["migrate"]).success());
    let said = said_of("DROP TABLE readings", migrate);
    insta::assert_snapshot!(said, @r#"the tables are not as the contract says: not yet run: CREATE TABLE "readings"; run `sluicegate migrate`"#);
}

#[test]
fn a_column_of_another_type_stops_its_stream_until_it_is_mended_as_told() {
    let mend = |fixture: &Fixture| {
        fixture.sql("ALTER TABLE readings ALTER COLUMN device TYPE text");
    };
    let said = said_of("ALTER TABLE readings ALTER COLUMN device TYPE varchar(9)", mend);
    insta::assert_snapshot!(said, @r#"the tables are not as the contract says: "readings" has a column "device" of type character varying(9), and the contract says text; run: ALTER TABLE "readings" ALTER COLUMN "device" TYPE text;"#);
}

/// Damages the table while both streams are being consumed, and gives what the run said.
#[track_caller]
fn said_while_running_of(fixture: &Fixture, env: &[(&str, &str)], damage: &str) -> String {
    send(fixture, 0, 5);
    let mut running = fixture.start_with(&["consume"], env);
    let landed = "SELECT coalesce(sum(inserted), 0) FROM ledger";
    fixture.wait_until(landed, |landed| landed == 10);
    let group = fixture.group("readings");
    running.wait_for("commit", || group.committed()[0] == Some(5));
    fixture.sql(damage);
    send(fixture, 5, 9);
    fixture.wait_until("SELECT count(*) FROM others", |landed| landed == 9);
    running.wait_for_log("the stream stopped");
    let code = running.terminate().unwrap();
    why_readings_stopped(fixture, code, &running.log(), Some(5))
}

#[test]
fn a_column_dropped_while_running_stops_its_stream_and_no_other() {
    let fixture = two_streams();
    let damage = "ALTER TABLE readings DROP COLUMN is_high";
    let said = said_while_running_of(&fixture, &[], damage);
    insta::assert_snapshot!(said, @r#"Postgres says: column "is_high" of relation "readings" does not exist (42703); run `sluicegate migrate`, and start again"#);
    fixture.run(&["migrate"]).success();
    fixture.drain();
    all_landed(&fixture, 9);
}

/// A user of the database who may do what the pipeline does, named as the corner; roles are the
/// whole server's, so it is dropped also by a test that fails.
struct Role<'f>(&'f Fixture);

impl Role<'_> {
    fn of(fixture: &Fixture) -> Role<'_> {
        let name = &fixture.prefix;
        fixture.sql(&format!(
            "CREATE ROLE {name} LOGIN PASSWORD 'secret'; GRANT USAGE ON SCHEMA {name} TO {name}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO {name}"
        ));
        Role(fixture)
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        let name = &self.0.prefix;
        let dropped = self.0.try_sql(&format!("DROP OWNED BY {name}; DROP ROLE {name}"));
        // a second panic would hide the first
        if let Err(error) = dropped
            && !std::thread::panicking()
        {
            panic!("{name} is still there: {error}");
        }
    }
}

#[test]
fn a_privilege_revoked_while_running_stops_its_stream_and_no_other() {
    let fixture = two_streams();
    let role = Role::of(&fixture);
    let admin = variable("DATABASE_URL");
    let (_, place) = admin.rsplit_once('@').unwrap();
    let url = format!("postgres://{}:secret@{place}", fixture.prefix);
    let damage = format!("REVOKE INSERT ON readings FROM {}", fixture.prefix);
    let said = said_while_running_of(&fixture, &[("DATABASE_URL", &url)], &damage);
    drop(role);
    insta::assert_snapshot!(said, @r#"Postgres says: permission denied for table readings (42501); grant the privilege to the user of DATABASE_URL, and start again"#);
    fixture.drain();
    all_landed(&fixture, 9);
}

#[test]
fn a_column_that_a_user_adds_while_running_stops_nothing() {
    let fixture = two_streams();
    send(&fixture, 0, 5);
    let mut running = fixture.start(&["consume"]);
    fixture.wait_until("SELECT count(*) FROM readings", |landed| landed == 5);
    fixture.sql("ALTER TABLE readings ADD COLUMN remark text DEFAULT 'none'");
    send(&fixture, 5, 9);
    fixture.wait_until("SELECT count(*) FROM readings WHERE remark = 'none'", |n| n == 9);
    fixture.wait_until("SELECT count(*) FROM others", |n| n == 9);
    assert_eq!(running.terminate(), Some(0));
    all_landed(&fixture, 9);
}

#[test]
fn a_missing_table_of_the_only_stream_is_one_clear_error() {
    let fixture = Fixture::with_stream(readings());
    fixture.sql("DROP TABLE readings");
    let said = fixture.run(&["consume", "--exit-when-drained"]).one_clear_error();
    insta::assert_snapshot!(said, @r#"error: readings: the tables are not as the contract says: not yet run: CREATE TABLE "readings"; run `sluicegate migrate`"#);
}
