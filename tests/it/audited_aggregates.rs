//! `audit` makes every aggregate again from the table's rows, and takes no difference for one that
//! is none.

use serde_json::{Value as Json, json};

use crate::{
    audit::{NOON, assert_complete, audited, found, landed},
    avro::id,
    support::{Fixture, readings},
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
    insta::assert_snapshot!(findings, @r#"note aggregates -: not compared, as they count from when they were added to "agg_readings_minute": level_count, level_sum, level_min, level_max"#);
    assert_eq!(code, 0);
    fixture.sql("UPDATE agg_readings_minute SET value_min = 0");
    assert_eq!(audited(&fixture, &[]).0, 1);
}
