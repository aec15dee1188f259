//! `audit` makes every aggregate again from the table's rows, and takes no difference for one that
//! is none.

use serde_json::{Value as Json, json};

use crate::{
    audit::{NOON, assert_complete, audited, found, landed},
    avro::id,
    support::{Fixture, Ran, readings},
};

#[test]
fn an_aggregate_that_was_changed_is_told_from_what_the_rows_make() {
    let fixture = landed();
    fixture.sql(
        "UPDATE agg_readings_minute SET count = count + 1, value_max = 'NaN' \
                 WHERE minute = '2026-05-01 12:01:00+00'",
    );
    insta::assert_snapshot!(found(&fixture), @r#"
    gap aggregates -: 1 bucket of "agg_readings_minute" not what the rows of "readings" make; to make it again: DROP TABLE "agg_readings_minute"; and `sluicegate migrate`
      minute 2026-05-01 12:01:00+00, device d1: count is 3, the rows make 2; value_max is NaN, the rows make 9
    "#);
    // an order of summing up that makes other last digits is no difference
    fixture.sql("DROP TABLE agg_readings_minute");
    fixture.run(&["migrate"]).success();
    fixture.sql("UPDATE agg_readings_minute SET value_sum = value_sum * (1 + 1e-12::float8)");
    assert_complete(&fixture);
    fixture.sql("DELETE FROM agg_readings_minute WHERE minute = '2026-05-01 12:01:00+00'");
    insta::assert_snapshot!(found(&fixture), @r#"
    gap aggregates -: 1 bucket of "agg_readings_minute" not what the rows of "readings" make; to make it again: DROP TABLE "agg_readings_minute"; and `sluicegate migrate`
      minute 2026-05-01 12:01:00+00, device d1: is missing
    "#);
}

/// A contract with a dimension that may be null, and numbers that may be.
fn samples(of: &[&str], on_conflict: &str) -> Json {
    let mut contract = readings();
    let attribute = &mut contract["sluicegate"];
    attribute["on_conflict"] = json!(on_conflict);
    attribute["aggregates"] = json!([{"every": "1m", "by": ["zone"], "of": of}]);
    let fields = contract["fields"].as_array_mut().unwrap();
    for (name, kind) in [("zone", "string"), ("level", "double"), ("single", "float")] {
        fields.push(json!({"name": name, "type": ["null", kind], "default": null}));
    }
    contract
}

fn sample(n: u64, value: f64, level: Json) -> Json {
    let zone = ["a", "b"].get(n as usize % 3);
    let single = level.as_f64().filter(|level| level.abs() < 1e30);
    json!({"event_id": id(n), "device": "d", "ts": NOON + n as i64 % 7 * 30_000, "value": value,
        "zone": zone, "level": level, "single": single})
}

#[test]
fn sums_of_any_order_and_any_size_with_nulls_among_them_are_no_difference() {
    for on_conflict in ["ignore", "latest"] {
        let contract = samples(&["value", "level", "single"], on_conflict);
        let fixture = Fixture::with_stream(contract);
        let sizes = [1e-300, 1e15, 0.1, 1e300, 3.3];
        let rows: Vec<Json> = (0..300)
            .map(|n| {
                let size = sizes[n as usize % sizes.len()];
                // of both signs, so that next to nothing is left of a sum
                let level = if n % 2 == 0 { size } else { -size };
                let level = if n % 11 == 0 { Json::Null } else { json!(level) };
                sample(n, size, level)
            })
            .collect();
        for rows in rows.chunks(70) {
            fixture.produce("readings", rows);
            fixture.run(&["consume", "--exit-when-drained", "--batch-rows", "7"]).success();
        }
        assert_complete(&fixture);
    }
}

#[test]
fn not_a_number_and_infinity_are_what_they_are() {
    let fixture = Fixture::with_stream(samples(&["level"], "ignore"));
    fixture.produce("readings", &(0..6).map(|n| sample(n, 1.0, json!(1.0))).collect::<Vec<_>>());
    fixture.drain();
    fixture.sql("UPDATE readings SET level = 'NaN' WHERE zone = 'a'");
    fixture.sql("UPDATE readings SET level = 'Infinity' WHERE zone = 'b'");
    fixture.sql("DROP TABLE agg_readings_minute");
    fixture.run(&["migrate"]).success();
    assert_complete(&fixture);
    fixture.sql("UPDATE agg_readings_minute SET level_sum = 5 WHERE zone IN ('a', 'b')");
    let found = found(&fixture);
    assert!(found.contains("level_sum is 5, the rows make NaN"), "{found}");
    assert!(found.contains("level_sum is 5, the rows make Infinity"), "{found}");
}

#[test]
fn columns_that_an_aggregate_got_later_count_from_then_on() {
    let mut fixture = Fixture::with_stream(samples(&["value"], "ignore"));
    fixture.produce("readings", &(0..6).map(|n| sample(n, 1.0, json!(1.0))).collect::<Vec<_>>());
    fixture.drain();
    fixture.stream("readings", samples(&["value", "level"], "ignore"));
    fixture.run(&["register"]).success();
    fixture.run(&["migrate"]).success();
    fixture.produce("readings", &(6..20).map(|n| sample(n, 1.0, json!(1.0))).collect::<Vec<_>>());
    fixture.drain();
    let (code, findings) = audited(&fixture, &["--drained"]);
    insta::assert_snapshot!(findings, @r#"note aggregates -: not compared, as they count from when they were added to "agg_readings_minute": level_count, level_last, level_last_at, level_sum, level_min, level_max"#);
    assert_eq!(code, 0);
    fixture.sql("UPDATE agg_readings_minute SET value_min = 0");
    assert_eq!(audited(&fixture, &[]).0, 1);
}

#[test]
fn the_newest_value_counts_from_then_on_where_an_aggregate_is_older() {
    let fixture = Fixture::with_stream(samples(&["value", "level"], "ignore"));
    for field in ["value", "level"] {
        fixture.sql(&format!(
            "ALTER TABLE agg_readings_minute DROP {field}_last, DROP {field}_last_at"
        ));
    }
    let insert = "INSERT INTO readings (event_id, device, ts, value, zone, level) \
                  VALUES (gen_random_uuid(), 'd', '2026-05-01 12:00:59+00', 8, 'a', 8)";
    fixture.sql(insert);
    fixture.sql(
        "INSERT INTO agg_readings_minute VALUES ('2026-05-01 12:00:00+00', 'a', 1, 8, 8, 8, 1, 8, 8, 8)",
    );
    insta::assert_snapshot!(fixture.run(&["migrate"]).success(), @r#"
    ALTER TABLE "agg_readings_minute" ADD COLUMN "value_last" double precision;
    ALTER TABLE "agg_readings_minute" ADD COLUMN "value_last_at" timestamp with time zone;
    ALTER TABLE "agg_readings_minute" ADD COLUMN "level_last" double precision;
    ALTER TABLE "agg_readings_minute" ADD COLUMN "level_last_at" timestamp with time zone;
    "#);
    fixture.produce("readings", &(0..6).map(|n| sample(n, 1.0, json!(1.0))).collect::<Vec<_>>());
    fixture.drain();
    let (code, json) = verified(&fixture);
    assert_eq!((code, &json["equal"]), (0, &json!(true)), "{json}");
    insta::assert_snapshot!(json["aggregates"][0]["late"], @r#"["value_last","value_last_at","level_last","level_last_at"]"#);
    let from_then_on = "SELECT count(*) FROM agg_readings_minute WHERE zone = 'a' \
                        AND value_last = 1 AND level_last = 1 AND value_max = 8";
    assert_eq!(fixture.number(from_then_on), 1);
    fixture.sql("UPDATE agg_readings_minute SET level_max = 9 WHERE zone = 'b'");
    assert_eq!(verified(&fixture).0, 1);
}

/// What `aggregates verify` says, with its exit code. It needs Postgres only.
fn verified(fixture: &Fixture) -> (i32, Json) {
    let mut verify = fixture.command(&["aggregates", "verify", "--json"]);
    let nowhere = "127.0.0.1:1";
    let ran = Ran::of(verify.env("KAFKA_BROKERS", nowhere).env("SCHEMA_REGISTRY_URL", nowhere));
    (ran.code, serde_json::from_str(&ran.stdout).unwrap())
}

#[test]
fn a_bucket_that_was_changed_is_named_by_verify() {
    let fixture = landed();
    assert_eq!(verified(&fixture).0, 0);
    fixture.sql(
        "UPDATE agg_readings_minute SET value_last = 7, value_last_at = value_last_at - interval '1 s' \
         WHERE minute = '2026-05-01 12:01:00+00'",
    );
    let ran = fixture.run(&["aggregates", "verify", "readings"]);
    insta::assert_snapshot!(ran.stdout, @r#"
    ┌──────────────────────────────────────────────────────┐
    │ stream     aggregate             buckets   differing │
    ╞══════════════════════════════════════════════════════╡
    │ readings   agg_readings_minute         2           1 │
    └──────────────────────────────────────────────────────┘
    readings: 1 bucket of "agg_readings_minute" not what the rows of "readings" make; to make it again: DROP TABLE "agg_readings_minute"; and `sluicegate migrate`
      minute 2026-05-01 12:01:00+00, device d1: value_last is 7, the rows make 9; value_last_at is 2026-05-01 12:00:59+00, the rows make 2026-05-01 12:01:00+00
    1 bucket is not what the rows make
    "#);
    assert_eq!(ran.code, 1);
    let (code, json) = verified(&fixture);
    insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap(), @r#"
    {
      "aggregates": [
        {
          "differing": 1,
          "first": [
            "minute 2026-05-01 12:01:00+00, device d1: value_last is 7, the rows make 9; value_last_at is 2026-05-01 12:00:59+00, the rows make 2026-05-01 12:01:00+00"
          ],
          "kept": 2,
          "late": [],
          "rows_of": "readings",
          "stream": "readings",
          "table": "agg_readings_minute"
        }
      ],
      "equal": false
    }
    "#);
    assert_eq!(code, 1);
    fixture.sql("DROP TABLE agg_readings_minute");
    assert_eq!(fixture.run(&["aggregates", "verify"]).code, 2);
    fixture.run(&["migrate"]).success();
    insta::assert_snapshot!(fixture.run(&["aggregates", "verify"]).success(), @"
    ┌──────────────────────────────────────────────────────┐
    │ stream     aggregate             buckets   differing │
    ╞══════════════════════════════════════════════════════╡
    │ readings   agg_readings_minute         2           0 │
    └──────────────────────────────────────────────────────┘
    every bucket is what the rows make
    ");
}

#[test]
fn late_events_and_consumers_at_work_are_no_difference() {
    for on_conflict in ["ignore", "latest"] {
        let fixture = Fixture::with_stream(samples(&["value", "level"], on_conflict));
        let mut running = fixture.start(&["consume", "--batch-rows", "10", "--batch-time", "10ms"]);
        for late in 0..5 {
            let numbers = (0..100).map(|n| 100 * (4 - late) + n);
            let rows: Vec<Json> = numbers.map(|n| sample(n, n as f64, json!(n % 5))).collect();
            fixture.produce("readings", &rows);
            let landed = i64::try_from(late * 100).unwrap();
            // some of these are landing
            fixture.wait_until("SELECT count(*) FROM readings", |rows| rows > landed);
            let (code, json) = verified(&fixture);
            assert_eq!((code, &json["equal"]), (0, &json!(true)), "{json}");
        }
        fixture.wait_until("SELECT count(*) FROM readings", |rows| rows == 500);
        assert_eq!(verified(&fixture).0, 0);
        assert_eq!(running.terminate(), Some(0), "{}", running.log());
    }
}
