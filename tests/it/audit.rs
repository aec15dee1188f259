//! `audit` proves that nothing is missing, or names what is: each kind of damage is done here, to
//! what had really landed.

use std::time::Duration;

use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::{Value as Json, json};

use crate::{
    avro::{id, reading},
    support::{Fixture, PATIENCE, Ran, readings},
    telemetry,
};

/// 2026-05-01T12:00:00Z.
pub const NOON: i64 = 1_777_636_800_000;

/// Ten offsets that have landed: seven rows in two minutes, one duplicate, an event that breaks a
/// rule at offset 7 and bytes that are no event at offset 8.
pub fn landed() -> Fixture {
    let fixture = Fixture::with_stream(readings());
    send(&fixture, 0..6);
    send(&fixture, [0]);
    let invalid = reading(fixture.schema_id(&fixture.topic()), &id(7), NOON, -1.0);
    fixture.send_values(&fixture.topic(), &[invalid, Some(b"no event".to_vec())]);
    send(&fixture, [9]);
    fixture.drain();
    fixture
}

/// Sends events of these ids, with the id as their value; from 5 on they are of another minute.
fn send(fixture: &Fixture, ids: impl IntoIterator<Item = u64>) {
    let schema = fixture.schema_id(&fixture.topic());
    let minute = |n| NOON + 60_000 * i64::from(n >= 5);
    let events: Vec<_> =
        ids.into_iter().map(|n| reading(schema, &id(n), minute(n), n as f64)).collect();
    fixture.send_values(&fixture.topic(), &events);
}

/// Runs the audit; gives its exit code and its findings, one a line.
pub fn audited(fixture: &Fixture, args: &[&str]) -> (i32, String) {
    let ran = fixture.run(&[&["audit", "--json", "--log", "warn"], args].concat());
    assert_eq!(ran.stderr, "");
    let report: Json = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["complete"], ran.code == 0);
    let mut lines = Vec::new();
    for finding in report["streams"].as_array().unwrap().iter().flat_map(findings_of) {
        let text =
            |name: &str| finding[name].as_str().unwrap().replace(&fixture.prefix, "[prefix]");
        let place = ["partition", "from", "to"].map(|name| finding[name].to_string()).join(" ");
        let place = place.replace("null null null", "-");
        lines.push(format!("{} {} {place}: {}", text("state"), text("check"), text("said")));
        let examples = finding["examples"].as_array().unwrap();
        lines.extend(examples.iter().map(|example| format!("  {}", example.as_str().unwrap())));
    }
    (ran.code, lines.join("\n"))
}

fn findings_of(stream: &Json) -> Vec<Json> {
    stream["findings"].as_array().unwrap().clone()
}

/// What is found once something has been damaged.
#[track_caller]
pub fn found(fixture: &Fixture) -> String {
    let (code, findings) = audited(fixture, &[]);
    assert_eq!(code, 1, "{findings}");
    findings
}

/// Fails the test unless nothing is missing, though the streams are drained.
#[track_caller]
pub fn assert_complete(fixture: &Fixture) {
    assert_eq!(audited(fixture, &["--drained"]), (0, String::new()));
}

fn shown(fixture: &Fixture, args: &[&str]) -> (i32, String) {
    let Ran { code, stdout, .. } = fixture.run(&[&["audit"], args].concat());
    (code, stdout.replace(&fixture.prefix, "[prefix]"))
}

#[test]
fn what_has_landed_is_complete_with_its_duplicates_and_dead_letters() {
    let fixture = landed();
    let (code, shown) = shown(&fixture, &["--drained"]);
    insta::assert_snapshot!(shown, @"
    ┌───────────────────────────────────────────────────────────────────┐
    │ readings            compared                                      │
    ╞═══════════════════════════════════════════════════════════════════╡
    │ offsets        ok   10 offsets of 1 partition                     │
    │ expired        ok   0 offsets expired unread                      │
    │ rows           ok   7 rows, 7 in the ledger                       │
    │ aggregates     ok   2 buckets of 1 table                          │
    │ dead letters   ok   2 dead letters in dlq_events, 2 in the ledger │
    │ copies         ok   2 dead letters of 2 published                 │
    └───────────────────────────────────────────────────────────────────┘
    nothing is missing
    ");
    assert_eq!(code, 0);
    let report: Json = serde_json::from_str(&fixture.run(&["audit", "--json"]).success()).unwrap();
    let checks = report["streams"][0]["checks"].as_array().unwrap();
    let figures = checks.iter().map(|check| format!("{} {}", check["check"], check["figures"]));
    insta::assert_snapshot!(figures.collect::<Vec<_>>().join("\n"), @r#"
    "offsets" {"behind":0,"offsets":10,"partitions":1}
    "expired" {"accepted":0,"offsets":0}
    "rows" {"ledger":7,"rows":7}
    "aggregates" {"buckets":2,"differing":0}
    "dead_letters" {"dead_letters":2,"ledger":2}
    "copies" {"dead_letters":2,"missing":0,"published":2,"records":2,"unknown":0,"waiting":0}
    "#);
}

#[test]
fn thousands_of_sound_and_broken_events_on_three_partitions_are_complete() {
    let fixture = telemetry::produced(5_000);
    fixture.drain();
    fixture.drain_again();
    assert_complete(&fixture);
    // the first member's group has committed, and so has the other
    let mut again = fixture.command(&["audit", "--drained"]);
    Ran::of(again.env("SLUICEGATE_GROUP_PREFIX", format!("{}.again", fixture.prefix))).success();
}

#[test]
fn every_gap_is_a_line_that_names_it() {
    let fixture = landed();
    fixture.sql("DELETE FROM dlq_events WHERE \"offset\" = 8");
    fixture.sql("DELETE FROM readings WHERE value = 3");
    send(&fixture, 20..25);
    let (code, shown) = shown(&fixture, &[]);
    insta::assert_snapshot!(shown, @r#"
    ┌──────────────────────────────────────────────────────────────────────┐
    │ readings                compared                                     │
    ╞══════════════════════════════════════════════════════════════════════╡
    │ offsets        behind   10 offsets of 1 partition, 5 to be read      │
    │ expired        ok       0 offsets expired unread                     │
    │ rows           GAP      6 rows, 7 in the ledger                      │
    │ aggregates     GAP      2 buckets of 1 table                         │
    │ dead letters   GAP      1 dead letter in dlq_events, 2 in the ledger │
    │ copies         GAP      1 dead letter of 1 published                 │
    └──────────────────────────────────────────────────────────────────────┘
    behind: readings: topic [prefix].readings, partition 0, offsets 10 to 14, still to be read; run `sluicegate consume`
    GAP: readings: 1 row missing from "readings": deleted, by hand or to make room; buckets of aggregates that differ say of which time
    GAP: readings: 1 bucket of "agg_readings_minute" not what the rows of "readings" make; to make it again: DROP TABLE "agg_readings_minute"; and `sluicegate migrate`
      minute 2026-05-01 12:00:00+00, device d1: count is 5, the rows make 4; value_sum is 10, the rows make 7
    GAP: readings: topic [prefix].readings, partition 0, offsets 0 to 9, 1 dead letter in dlq_events, 2 in the ledger: deleted, or written by something else
    GAP: readings: topic [prefix].readings, partition 0, offset 8, 1 record on [prefix].readings.dlq, and not in dlq_events: was something deleted there?
    there are 4 gaps
    "#);
    assert_eq!(code, 1);
}

#[test]
fn a_row_that_was_deleted_is_missed_and_its_minute_named() {
    let fixture = landed();
    fixture.sql("DELETE FROM readings WHERE value = 3");
    insta::assert_snapshot!(found(&fixture), @r#"
    gap rows -: 1 row missing from "readings": deleted, by hand or to make room; buckets of aggregates that differ say of which time
    gap aggregates -: 1 bucket of "agg_readings_minute" not what the rows of "readings" make; to make it again: DROP TABLE "agg_readings_minute"; and `sluicegate migrate`
      minute 2026-05-01 12:00:00+00, device d1: count is 5, the rows make 4; value_sum is 10, the rows make 7
    "#);
}

#[test]
fn a_row_that_was_added_is_no_event_of_the_topic() {
    let fixture = landed();
    fixture.sql(&format!("INSERT INTO readings VALUES ('{}', 'd2', now(), 1.0, false)", id(99)));
    fixture.sql(
        "INSERT INTO agg_readings_minute SELECT date_trunc('minute', ts), device, 1, value, ts, \
                 value, value, value FROM readings WHERE device = 'd2'",
    );
    insta::assert_snapshot!(found(&fixture), @r#"gap rows -: 1 row of "readings" not in the ledger: written by something else, or before the ledger was put back"#);
}

#[test]
fn a_row_of_the_ledger_that_was_deleted_leaves_committed_offsets_that_nobody_accounts_for() {
    let fixture = landed();
    fixture.sql("DELETE FROM ledger");
    insta::assert_snapshot!(found(&fixture), @r#"
    gap offsets 0 0 9: committed, and the ledger has no row of the partition: put it back from a backup of the database
    gap rows -: 7 rows of "readings" not in the ledger: written by something else, or before the ledger was put back
    gap dead_letters 0 7 8: 2 dead letters of dlq_events outside of what the ledger has
    "#);
}

#[test]
fn a_ledger_that_was_put_back_has_not_seen_what_was_committed() {
    let fixture = landed();
    fixture
        .sql("UPDATE ledger SET next_offset = 6, inserted = 6, duplicate = 0, dead_lettered = 0");
    insta::assert_snapshot!(found(&fixture), @r#"
    gap offsets 0 6 9: committed, and the ledger has not seen them, as when a database is restored; `sluicegate consume` goes back to them
    gap rows -: 1 row of "readings" not in the ledger: written by something else, or before the ledger was put back
    gap dead_letters 0 7 8: 2 dead letters of dlq_events outside of what the ledger has
    gap dead_letters 0 0 5: 2 dead letters in dlq_events, 0 in the ledger: deleted, or written by something else
    "#);
}

#[test]
fn a_ledger_that_was_put_forward_is_ahead_of_the_log() {
    let fixture = landed();
    fixture.sql("UPDATE ledger SET next_offset = 15, duplicate = duplicate + 5");
    insta::assert_snapshot!(found(&fixture), @"gap offsets 0 10 14: accounted for, and beyond the end of the log: the topic was made anew or cut short; `sluicegate consume` stops there and says what to run");
}

#[test]
fn a_ledger_whose_counts_do_not_add_up_is_said_to_be_so() {
    let fixture = landed();
    fixture.sql("ALTER TABLE ledger DROP CONSTRAINT ledger_adds_up");
    fixture.sql("UPDATE ledger SET skipped = 1");
    insta::assert_snapshot!(found(&fixture), @"gap offsets 0 0 9: the ledger counts 11 ends for 10 offsets");
}

#[test]
fn a_dead_letter_that_was_deleted_is_missed_and_its_copy_says_which_it_was() {
    let fixture = landed();
    fixture.sql("DELETE FROM dlq_events WHERE \"offset\" = 7");
    insta::assert_snapshot!(found(&fixture), @"
    gap dead_letters 0 0 9: 1 dead letter in dlq_events, 2 in the ledger: deleted, or written by something else
    gap copies 0 7 7: 1 record on [prefix].readings.dlq, and not in dlq_events: was something deleted there?
    ");
}

#[test]
fn a_dead_letter_that_was_added_is_none_of_the_ledgers() {
    let fixture = landed();
    fixture.sql(&format!(
        "INSERT INTO dlq_events (stream, topic, partition, \"offset\", stage, reason, detail) \
         VALUES ('readings', '{}', 0, 42, 'wire', 'bad_magic_byte', '')",
        fixture.topic()
    ));
    insta::assert_snapshot!(found(&fixture), @r#"
    gap dead_letters 0 42 42: 1 dead letter of dlq_events outside of what the ledger has
    gap dead_letters 0 0 9: 3 dead letters in dlq_events, 2 in the ledger: deleted, or written by something else
    gap copies 0 42 42: 1 dead letter neither in dlq_outbox nor on [prefix].readings.dlq; to copy them: INSERT INTO dlq_outbox SELECT stream, id FROM dlq_events WHERE stream = 'readings' AND topic = '[prefix].readings' AND partition = 0 AND "offset" BETWEEN 42 AND 42 AND purged_at IS NULL ON CONFLICT DO NOTHING; and `sluicegate consume`
    "#);
}

#[test]
fn a_dead_letter_that_left_the_outbox_is_missed_on_its_topic() {
    let fixture = Fixture::with_stream(readings());
    // as if it had left the outbox before the copy was acknowledged
    fixture.sql(
        "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF NEW.id IN (2, 3, 5) THEN RETURN NULL; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER forget BEFORE INSERT ON dlq_outbox FOR EACH ROW EXECUTE FUNCTION forget()",
    );
    fixture.send_values(&fixture.topic(), &vec![Some(b"no event".to_vec()); 5]);
    fixture.drain();
    insta::assert_snapshot!(found(&fixture), @r#"
    gap copies 0 1 2: 2 dead letters neither in dlq_outbox nor on [prefix].readings.dlq; to copy them: INSERT INTO dlq_outbox SELECT stream, id FROM dlq_events WHERE stream = 'readings' AND topic = '[prefix].readings' AND partition = 0 AND "offset" BETWEEN 1 AND 2 AND purged_at IS NULL ON CONFLICT DO NOTHING; and `sluicegate consume`
    gap copies 0 4 4: 1 dead letter neither in dlq_outbox nor on [prefix].readings.dlq; to copy them: INSERT INTO dlq_outbox SELECT stream, id FROM dlq_events WHERE stream = 'readings' AND topic = '[prefix].readings' AND partition = 0 AND "offset" BETWEEN 4 AND 4 AND purged_at IS NULL ON CONFLICT DO NOTHING; and `sluicegate consume`
    "#);
}

#[test]
fn a_copy_is_its_dead_letter_byte_for_byte() {
    let fixture = landed();
    fixture.sql("UPDATE dlq_events SET payload = payload || '\\x00' WHERE \"offset\" = 8");
    insta::assert_snapshot!(found(&fixture), @"gap copies 0 8 8: 1 dead letter with another key or value on [prefix].readings.dlq than in dlq_events");
    fixture.sql("UPDATE dlq_events SET payload = NULL, key = '' WHERE \"offset\" = 8");
    insta::assert_snapshot!(found(&fixture), @"gap copies 0 8 8: 1 dead letter with another key or value on [prefix].readings.dlq than in dlq_events");
}

#[test]
fn a_copy_is_known_by_what_the_outbox_wrote_whatever_else_is_there() {
    let fixture = Fixture::with_stream(readings());
    let (topic, dead_letters) = (fixture.topic(), format!("{}.dlq", fixture.topic()));
    // a dead letter of another pipeline that was sent here, and is one here too
    let theirs: &[(&str, Option<&[u8]>)] = &[
        ("__connect.errors.topic", Some(b"theirs")),
        ("__connect.errors.partition", Some(b"7")),
        ("__connect.errors.offset", Some(b"99")),
        ("sluicegate.stream", Some(b"theirs")),
    ];
    fixture.send_with_headers(&topic, None, Some(b"no event"), theirs);
    fixture.drain();
    assert_complete(&fixture);
    fixture.send_with_headers(&dead_letters, None, Some(b"no event"), theirs);
    fixture.send(&dead_letters, Some(b"key"), None);
    let (code, findings) = audited(&fixture, &["--drained"]);
    insta::assert_snapshot!(findings, @"note copies -: 2 records on [prefix].readings.dlq from somebody else");
    assert_eq!(code, 0);
}

#[test]
fn a_copy_that_its_topic_no_longer_keeps_is_not_missed() {
    let fixture = landed();
    fixture.expire(&format!("{}.dlq", fixture.topic()), 1);
    let (code, findings) = audited(&fixture, &["--drained"]);
    insta::assert_snapshot!(findings, @"note copies -: 1 published dead letter not on [prefix].readings.dlq, whose oldest records Kafka has deleted");
    assert_eq!(code, 0);
}

#[test]
fn dead_letters_wait_to_be_copied_and_are_missed_only_where_all_should_be_done() {
    let fixture = landed();
    fixture.sql("INSERT INTO dlq_outbox SELECT stream, id FROM dlq_events");
    let waiting = audited(&fixture, &[]);
    insta::assert_snapshot!(waiting.1, @"behind copies -: 2 dead letters not on [prefix].readings.dlq yet; `sluicegate consume` copies them");
    let missed = audited(&fixture, &["--drained"]);
    assert_eq!((waiting.0, missed), (0, (1, waiting.1.replace("behind", "gap"))));
    // copied again they are there twice, which is no matter
    fixture.drain();
    assert_complete(&fixture);
}

#[test]
fn what_expired_before_it_was_read_is_a_gap_until_somebody_accepts_it() {
    let fixture = landed();
    send(&fixture, 20..30);
    fixture.expire(&fixture.topic(), 15);
    insta::assert_snapshot!(found(&fixture), @"
    gap offsets 0 10 14: deleted by Kafka before they were read, and not recorded yet; `sluicegate consume` records it
    behind offsets 0 15 19: still to be read; run `sluicegate consume`
    ");
    // as the consumer records it
    fixture.sql(&format!(
        "INSERT INTO ledger_gaps VALUES ('readings', '{}', 0, 10, 15); \
         UPDATE ledger SET next_offset = 15, expired = 5",
        fixture.topic()
    ));
    fixture.drain();
    insta::assert_snapshot!(found(&fixture), @"gap expired 0 10 14: deleted by Kafka before they were read; `sluicegate audit readings --accept-gaps` accepts that");
    let ran = fixture.run(&["audit", "--accept-gaps"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let (code, accepted) = audited(&fixture, &["--drained", "readings", "--accept-gaps"]);
    insta::assert_snapshot!(accepted, @"accepted expired 0 10 14: deleted by Kafka before they were read");
    assert_eq!(code, 0);
    assert_eq!(audited(&fixture, &["--drained"]), (0, accepted));

    fixture.sql("DELETE FROM ledger_gaps");
    insta::assert_snapshot!(found(&fixture), @"gap expired 0 0 19: the ledger counts 5 as expired, and ledger_gaps has 0");
}

#[test]
fn what_nobody_has_read_yet_is_missed_only_where_all_should_be_done() {
    let fixture = landed();
    send(&fixture, 20..25);
    let behind = audited(&fixture, &[]);
    insta::assert_snapshot!(behind.1, @"behind offsets 0 10 14: still to be read; run `sluicegate consume`");
    let missed = audited(&fixture, &["--drained"]);
    assert_eq!((behind.0, missed), (0, (1, behind.1.replace("behind", "gap"))));
}

#[test]
fn a_stream_that_was_never_consumed_has_nothing_missing() {
    let fixture = Fixture::with_stream(readings());
    assert_complete(&fixture);
    send(&fixture, 0..5);
    let behind = audited(&fixture, &[]);
    insta::assert_snapshot!(behind.1, @"behind offsets 0 0 4: still to be read; run `sluicegate consume`");
    assert_eq!((behind.0, audited(&fixture, &["--drained"]).0), (0, 1));
}

#[test]
fn what_a_transaction_leaves_on_the_log_is_no_event_that_is_missing() {
    let fixture = Fixture::with_stream(readings());
    let producer: BaseProducer =
        fixture.client().set("transactional.id", &fixture.prefix).create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    let event = reading(fixture.schema_id(&fixture.topic()), &id(1), NOON, 1.0).unwrap();
    for commit in [false, true, false] {
        producer.begin_transaction().unwrap();
        let topic = fixture.topic();
        let record = BaseRecord::<[u8], [u8]>::to(&topic).payload(&event).partition(0);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(PATIENCE).unwrap();
        match commit {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => producer.abort_transaction(PATIENCE).unwrap(),
        }
    }
    fixture.drain();
    assert_eq!(fixture.number("SELECT count(*) FROM readings"), 1);
    assert_complete(&fixture);
}

#[test]
fn offsets_before_the_ledgers_first_were_never_read() {
    let fixture = Fixture::with_stream(readings());
    send(&fixture, 0..8);
    fixture.commit("readings", &[5]);
    fixture.drain();
    insta::assert_snapshot!(found(&fixture), @"gap offsets 0 0 4: never read: the ledger begins behind them, and no consumer goes back there");
    fixture.expire(&fixture.topic(), 5);
    assert_complete(&fixture);
}

#[test]
fn a_topic_that_was_made_anew_or_is_gone_is_not_the_one_that_was_read() {
    let fixture = landed();
    let admin: AdminClient<DefaultClientContext> = fixture.client().create().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(admin.delete_topics(&[&fixture.topic()], &AdminOptions::new())).unwrap();
    let gone = crate::support::poll(|| {
        let (_, found) = audited(&fixture, &[]);
        found.contains("no such partition").then_some(found)
    });
    insta::assert_snapshot!(gone.unwrap(), @"gap offsets 0 0 9: accounted for, and Kafka has no such partition any more: what came after them can't be known");
    fixture.create_topic(&fixture.topic(), 1);
    send(&fixture, 0..4);
    insta::assert_snapshot!(found(&fixture), @"gap offsets 0 4 9: accounted for, and beyond the end of the log: the topic was made anew or cut short; `sluicegate consume` stops there and says what to run");
}

#[test]
fn a_stream_whose_topic_was_renamed_accounts_for_both() {
    let mut fixture = landed();
    fixture.stream("others", readings());
    let contract = fixture.schemas.path().join("readings.avsc");
    let text = std::fs::read_to_string(&contract).unwrap();
    let mut renamed: Json = serde_json::from_str(&text).unwrap();
    renamed["sluicegate"]["topic"] = json!(format!("{}.others", fixture.prefix));
    std::fs::write(&contract, renamed.to_string()).unwrap();
    std::fs::remove_file(fixture.schemas.path().join("others.avsc")).unwrap();
    fixture.run(&["register"]).success();
    fixture.drain();
    assert_complete(&fixture);
    send(&fixture, 20..22);
    let (code, behind) = audited(&fixture, &[]);
    insta::assert_snapshot!(behind, @"behind offsets 0 10 11: still to be read, and the stream has another topic now; consume them with the contract as it was");
    assert_eq!(code, 0);
}

#[test]
fn producers_and_consumers_that_go_on_meanwhile_are_no_cause_for_alarm() {
    let fixture = telemetry::empty();
    let produce = [&telemetry::produce("1000000")[..], &["--rate", "3000"]].concat();
    let mut producer = fixture.start(&produce);
    let consume = ["consume", "--batch-rows", "500"];
    let mut consumers = [fixture.start(&consume), fixture.start(&consume)];
    let mut audits = 0;
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while std::time::Instant::now() < deadline {
        let ran = fixture.run(&["audit"]);
        assert_eq!(ran.code, 0, "audit {audits}: {}{}", ran.stdout, ran.stderr);
        audits += 1;
        if audits % 4 == 0 {
            // a member comes and another goes, as it may
            let [first, _] = &mut consumers;
            first.kill();
            *first = fixture.start(&consume);
        }
    }
    assert_eq!(producer.terminate(), Some(0));
    consumers.iter_mut().for_each(|consumer| assert_eq!(consumer.terminate(), Some(0)));
    fixture.drain();
    assert_complete(&fixture);
    assert!(audits > 3 && fixture.ledger().offsets > 1_000, "{audits} audits");
}

#[test]
fn what_could_not_be_audited_is_told_from_what_is_missing_by_its_exit_code() {
    let fixture = landed();
    let nowhere = ["--kafka-brokers", "127.0.0.1:1", "--log", "error"];
    let ran = fixture.run(&[&["audit"], &nowhere[..]].concat());
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    insta::assert_snapshot!(ran.one_clear_error(), @"error: no Kafka broker answers at 127.0.0.1:1: Connect to ipv4#127.0.0.1:1 failed: Connection refused; start one with `make up`, or set KAFKA_BROKERS");
    let ran = fixture.run(&["audit", "--database-url", "postgres://u:p@127.0.0.1:1/none"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    insta::assert_snapshot!(ran.one_clear_error(), @"error: can't connect to Postgres at 127.0.0.1:1: Connection refused (os error 111); start it with `make up`, or set DATABASE_URL");
    fixture.sql("DROP TABLE agg_readings_minute");
    let ran = fixture.run(&["audit", "--json"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    insta::assert_snapshot!(ran.one_clear_error(), @r#"error: readings can't be audited: relation "agg_readings_minute" does not exist; `sluicegate migrate` creates what is missing"#);
}
