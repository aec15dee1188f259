//! Rows that are new as far as is known go straight into the table, and it makes no difference to
//! what is in it.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value as Json, json};

use crate::{
    audit::assert_complete,
    avro::id,
    support::{Fixture, Ran, readings},
};

const DRAIN: [&str; 6] =
    ["consume", "--exit-when-drained", "--sink-tasks", "1", "--log", "sluicegate=debug"];

/// Lands all there is, and gives the ways in which its batches went.
fn drain(fixture: &Fixture) -> Vec<String> {
    let ran = fixture.run(&DRAIN);
    let batches = ran.stderr.lines().filter(|line| line.contains("batch landed"));
    batches
        .map(|line| line.split("way=\"").nth(1).unwrap().split('"').next().unwrap().to_owned())
        .collect()
}

fn sample(n: u64, value: f64) -> Json {
    json!({"event_id": id(n), "device": format!("d{}", n % 3), "ts": n * 20_000, "value": value})
}

fn produce(fixture: &Fixture, numbers: std::ops::Range<u64>) {
    fixture.produce("readings", &numbers.map(|n| sample(n, 1.5)).collect::<Vec<_>>());
}

#[test]
fn aggregates_that_are_added_up_on_the_way_are_those_that_the_rows_make() {
    let mut contract = readings();
    let numbers = ["an_int", "a_long", "a_float", "a_double"];
    let fields = contract["fields"].as_array_mut().unwrap();
    for number in numbers {
        let kind = number.split('_').nth(1).unwrap();
        fields.push(json!({"name": number, "type": kind}));
        fields.push(json!({"name": format!("{number}_or_null"), "type": ["null", kind]}));
    }
    let date = json!({"type": "int", "logicalType": "date"});
    fields.push(json!({"name": "zone", "type": ["null", "string"]}));
    fields.push(json!({"name": "day", "type": ["null", date]}));
    fields.push(json!({"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]}));
    let or_null = numbers.map(|number| format!("{number}_or_null"));
    let of: Vec<&str> = numbers.into_iter().chain(or_null.iter().map(String::as_str)).collect();
    let attribute = &mut contract["sluicegate"];
    attribute["time"] = json!("at");
    attribute["aggregates"] = json!([
        {"every": "7m", "by": ["zone", "is_high", "day"], "of": of},
        {"every": "1d", "by": [], "of": ["a_long"]},
    ]);
    let fixture = Fixture::with_stream(contract);
    let mut random = StdRng::seed_from_u64(7);
    let mut event = |n: u64| {
        let mut event = sample(n, random.random_range(0.0..160.0));
        for (number, or_null) in numbers.iter().zip(&or_null) {
            let mut value = || match *number {
                "an_int" => json!(random.random::<i32>()),
                // so large that the sum is beyond a bigint
                "a_long" => json!(random.random::<i64>() | 1 << 61),
                "a_float" => json!(random.random_range(-1e30_f32..1e30)),
                _ => json!(random.random_range(-1e300..1e300)),
            };
            let (always, sometimes) = (value(), value());
            event[*number] = always;
            event[or_null] = if random.random_bool(0.3) { Json::Null } else { sometimes };
        }
        event["zone"] = [Json::Null, json!(""), json!("é")][n as usize % 3].clone();
        event["day"] = [Json::Null, json!(-719_162)][n as usize % 2].clone();
        // around 1970 and 2000, and where a bucket begins
        let around = [0, 946_684_800_000_000, 946_857_600_000_000][random.random_range(0..3)];
        event["at"] = match random.random_range(0..10) {
            0 => Json::Null,
            1 => json!(around),
            _ => json!(around + random.random_range(-1_000_000_000_i64..1_000_000_000)),
        };
        event
    };
    for batch in 0..3 {
        let events: Vec<Json> = (batch * 200..batch * 200 + 200).map(&mut event).collect();
        fixture.produce("readings", &events);
        let ways = drain(&fixture);
        assert!(!ways.is_empty() && ways.iter().all(|way| way == "direct"), "{ways:?}");
    }
    assert_eq!(fixture.number("SELECT count(*) FROM readings"), 600);
    assert_complete(&fixture);
    let fields = of.iter().flat_map(|field| [format!("{field}_last"), format!("{field}_last_at")]);
    let kept: Vec<String> = fields.collect();
    let newest = of.iter().map(|field| newest(field, "at")).collect::<Vec<_>>();
    assert_eq!(
        fixture.rows(&format!(
            "SELECT bucket, zone, is_high, day::text, {} FROM agg_readings_7m ORDER BY 1, 2, 3, 4",
            kept.join(", ")
        )),
        fixture.rows(&format!(
            "SELECT date_bin('7m', at, '2000-01-03 00:00:00+00') AS bucket, zone, is_high, \
             day::text, {} FROM readings WHERE at IS NOT NULL GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
            newest.join(", ")
        ))
    );
}

/// A field's value in the newest row that has one, of equal times the greatest, and its time.
fn newest(field: &str, time: &str) -> String {
    format!(
        "(array_agg({field} ORDER BY {time} DESC, {field} DESC) \
         FILTER (WHERE {field} IS NOT NULL))[1] AS {field}_last, \
         max({time}) FILTER (WHERE {field} IS NOT NULL) AS {field}_last_at"
    )
}

#[test]
fn the_newest_value_is_the_same_however_the_events_are_ordered_and_by_either_way() {
    let mut contract = readings();
    contract["fields"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "level", "type": ["null", "long"]}));
    contract["sluicegate"]["aggregates"] =
        json!([{"every": "1h", "by": ["device"], "of": ["value", "level"]}]);
    let fixture = Fixture::with_stream(contract);
    // four moments, so that there are equal ones within a batch and in different ones
    let event = |n: u64| {
        let level = if n % 4 == 3 { Json::Null } else { json!(n as i64 * 7 % 11 - 5) };
        let (device, at) = (format!("d{}", n % 2), 3 - n / 7 % 4);
        json!({"event_id": id(n), "device": device, "ts": at, "value": n * 13 % 17, "level": level})
    };
    let assert_newest = || {
        let kept = "SELECT device, value_last, value_last_at, level_last, level_last_at \
                    FROM agg_readings_hour ORDER BY device";
        let (value, level) = (newest("value", "ts"), newest("level", "ts"));
        let made = format!("SELECT device, {value}, {level} FROM readings GROUP BY 1 ORDER BY 1");
        assert_eq!(fixture.rows(kept), fixture.rows(&made));
    };
    // the device has no level yet
    fixture.produce("readings", &[event(3)]);
    assert_eq!(drain(&fixture), ["direct"]);
    assert_eq!(
        fixture.number("SELECT count(*) FROM agg_readings_hour WHERE level_last IS NULL"),
        1
    );
    assert_newest();
    for numbers in [40..60, 4..40, 60..64] {
        fixture.produce("readings", &numbers.map(event).collect::<Vec<_>>());
        assert_eq!(drain(&fixture), ["direct"]);
        assert_newest();
    }
    // no longer remembered, most of it
    fixture.produce("readings", &(20..80).rev().map(event).collect::<Vec<_>>());
    assert_eq!(drain(&fixture), ["staged"]);
    assert_newest();
    assert_complete(&fixture);
}

#[test]
fn what_landed_before_anybody_remembers_is_a_duplicate_all_the_same() {
    let fixture = Fixture::with_stream(readings());
    produce(&fixture, 0..50);
    assert_eq!(drain(&fixture), ["direct"]);
    produce(&fixture, 40..90);
    assert_eq!(drain(&fixture), ["staged"]);
    let ledger = fixture.ledger();
    assert_eq!((ledger.inserted, ledger.duplicate), (90, 10));
    assert_complete(&fixture);
}

#[test]
fn what_is_remembered_holds_nobody_up() {
    let fixture = Fixture::with_stream(readings());
    let args = ["consume", "--sink-tasks", "1", "--batch-time", "1s", "--log", "sluicegate=debug"];
    let mut running = fixture.start(&args);
    for (end, total) in [(50, 50), (90, 100), (130, 150)] {
        produce(&fixture, end - 50..end);
        fixture
            .wait_until("SELECT coalesce(sum(next_offset), 0) FROM ledger", |next| next == total);
    }
    assert_eq!(running.terminate(), Some(0));
    let log = running.log();
    assert!(log.matches("way=\"direct\"").count() >= 3, "{log}");
    let ledger = fixture.ledger();
    assert_eq!((ledger.inserted, ledger.duplicate), (130, 20));
    assert_complete(&fixture);
}

#[test]
fn aggregates_are_made_of_the_rows_that_a_trigger_makes_of_ours() {
    let fixture = Fixture::with_stream(readings());
    fixture.sql(
        "CREATE FUNCTION rewrite() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN NEW.value := 100; NEW.device := 'all'; RETURN NEW; END $$;
         CREATE TRIGGER rewrites BEFORE INSERT ON readings
         FOR EACH ROW EXECUTE FUNCTION rewrite()",
    );
    produce(&fixture, 0..30);
    assert_eq!(drain(&fixture), ["staged"]);
    assert_complete(&fixture);
}

#[test]
fn two_ways_at_once_wait_for_each_other_and_never_in_a_circle() {
    let mut contract = readings();
    contract["sluicegate"]["aggregates"] = json!([
        {"every": "1m", "by": ["device"], "of": ["value"]},
        {"every": "1h", "by": [], "of": ["value"]},
        {"every": "1d", "by": ["device"], "of": []},
    ]);
    let fixture = Fixture::with_partitions("readings", contract, 2);
    let key = |n: u64| format!("d{}", n % 16);
    let event = |n: u64| json!({"event_id": id(n), "device": key(n), "ts": 0, "value": 1.0});
    // what landed of one device before is not remembered, so one partition goes the other way
    fixture.produce("readings", &(0..125).map(|n| event(n * 16)).collect::<Vec<_>>());
    fixture.drain();
    fixture.produce("readings", &(0..2_000).map(event).collect::<Vec<_>>());
    let args = ["consume", "--exit-when-drained", "--sink-tasks", "2", "--batch-rows", "20"];
    let ran = fixture.run(&[&args[..], &["--log", "sluicegate=debug"]].concat());
    for way in ["direct", "staged"] {
        assert!(ran.stderr.contains(&format!("way=\"{way}\"")), "{}", ran.stderr);
    }
    assert!(!ran.stderr.contains("waiting for Postgres"), "{}", ran.stderr);
    assert_complete(&fixture);
}

#[test]
fn what_is_delivered_again_among_new_rows_lands_once() {
    let fixture = Fixture::with_stream(readings());
    produce(&fixture, 0..40);
    assert_eq!(drain(&fixture), ["direct"]);
    produce(&fixture, 40..90);
    // another group reads from the oldest offset on
    let mut again = fixture.command(&DRAIN);
    again.env("SLUICEGATE_GROUP_PREFIX", format!("{}.again", fixture.prefix));
    let log = Ran::of(&mut again).stderr;
    let landed: Vec<&str> = log.lines().filter(|line| line.contains("batch landed")).collect();
    assert!(landed.iter().all(|line| line.contains("way=\"direct\"")), "{log}");
    assert!(landed[0].contains("records=90 inserted=50 duplicate=0"), "{log}");
    let ledger = fixture.ledger();
    assert_eq!((ledger.inserted, ledger.duplicate), (90, 0));
    assert_complete(&fixture);
}

#[test]
fn a_deferred_constraint_refuses_its_row_and_no_other() {
    let fixture = Fixture::with_stream(readings());
    fixture.sql(
        "ALTER TABLE readings ADD CONSTRAINT one_at_a_time UNIQUE (ts) DEFERRABLE INITIALLY DEFERRED",
    );
    let mut events: Vec<Json> = (0..30).map(|n| sample(n, 1.5)).collect();
    events[20]["ts"] = events[10]["ts"].clone();
    fixture.produce("readings", &events);
    assert_eq!(drain(&fixture), ["staged"]);
    assert_eq!(fixture.number("SELECT count(*) FROM readings"), 29);
    let reasons = fixture.rows("SELECT reason FROM dlq_events");
    assert_eq!(reasons, [json!({"reason": "unique_violation"})]);
    assert_complete(&fixture);
}

#[test]
fn a_connection_that_is_lost_in_the_middle_of_a_copy_costs_nothing_but_time() {
    let fixture = Fixture::with_stream(readings());
    // a row takes long enough to be found at it
    fixture.sql(
        "CREATE FUNCTION slow(device text) RETURNS boolean LANGUAGE plpgsql AS
             $$ BEGIN IF device = 'slow' THEN PERFORM pg_sleep(60); END IF; RETURN true; END $$;
         ALTER TABLE readings ADD CONSTRAINT slow CHECK (slow(device))",
    );
    let mut events: Vec<Json> = (0..90).map(|n| sample(n, 1.5)).collect();
    events[89]["device"] = json!("slow");
    fixture.produce("readings", &events);
    let mut running = fixture.start(&DRAIN);
    let copying = "FROM pg_stat_activity AS of JOIN pg_locks AS held USING (pid) \
                   WHERE held.relation = 'readings'::regclass AND of.query LIKE 'COPY%' \
                   AND of.wait_event = 'PgSleep'";
    fixture.wait_until(&format!("SELECT count(*) {copying}"), |copying| copying == 1);
    fixture.sql(
        "CREATE OR REPLACE FUNCTION slow(device text) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
    );
    fixture.sql(&format!("SELECT pg_terminate_backend(of.pid) {copying}"));
    assert_eq!(running.wait(), Some(0), "{}", running.log());
    assert!(running.log().contains("waiting for Postgres"), "{}", running.log());
    assert_eq!(fixture.number("SELECT count(*) FROM readings"), 90);
    assert_complete(&fixture);
}

#[test]
fn a_sum_beyond_its_type_is_left_to_postgres() {
    let fixture = Fixture::with_stream(readings());
    let large = |n: u64| json!({"event_id": id(n), "device": "d", "ts": 0, "value": 1e308});
    fixture.produce("readings", &[large(1), large(2)]);
    assert_eq!(drain(&fixture), ["staged"]);
    assert_eq!(fixture.number("SELECT count(*) FROM readings"), 1);
    let reasons = fixture.rows("SELECT reason FROM dlq_events");
    assert_eq!(reasons, [json!({"reason": "table_refused:22003"})]);
    assert_complete(&fixture);
}

#[test]
fn a_row_that_somebodys_trigger_drops_is_in_no_aggregate() {
    let fixture = Fixture::with_stream(readings());
    fixture.sql(
        "CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER drops BEFORE INSERT ON readings FOR EACH ROW WHEN (NEW.device = 'd1')
         EXECUTE FUNCTION drop_it()",
    );
    produce(&fixture, 0..30);
    assert_eq!(drain(&fixture), ["staged"]);
    assert_eq!(fixture.number("SELECT count(*) FROM readings"), 20);
    assert_eq!(fixture.number("SELECT sum(count)::bigint FROM agg_readings_minute"), 20);
}
