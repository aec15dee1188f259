//! `migrate` brings the tables to the contracts, and refuses what only a person can decide.

use std::process::Stdio;

use serde_json::{Value as Json, json};

use crate::support::{Fixture, readings, repository};

#[test]
fn migrate_creates_every_table_once() {
    let mut fixture = Fixture::new();
    fixture.stream("readings", readings());
    insta::assert_snapshot!(fixture.run(&["migrate"]).success(), @r#"
    -- migration V1__dlq_events
    -- migration V2__ledger
    -- migration V3__gaps_and_breakers
    -- migration V4__same_dead_letter
    -- migration V5__dlq_outbox
    -- migration V6__analytics
    -- migration V7__dlq_replay
    CREATE TABLE "readings" (
        "event_id" uuid NOT NULL,
        "device" text NOT NULL,
        "ts" timestamp with time zone NOT NULL,
        "value" double precision NOT NULL,
        "is_high" boolean,
        PRIMARY KEY ("event_id")
    );
    CREATE INDEX ON "readings" ("ts");
    CREATE TABLE "agg_readings_minute" (
        "minute" timestamp with time zone NOT NULL,
        "device" text NOT NULL,
        "count" bigint NOT NULL,
        "value_last" double precision NOT NULL,
        "value_last_at" timestamp with time zone NOT NULL,
        "value_sum" double precision NOT NULL,
        "value_min" double precision NOT NULL,
        "value_max" double precision NOT NULL,
        PRIMARY KEY ("minute", "device")
    );
    "#);
    let tables = tables(&fixture);
    insta::assert_snapshot!(
        fixture.run(&["migrate"]).success(),
        @"-- nothing to do: the tables are as the contracts say"
    );
    assert_eq!(self::tables(&fixture), tables);
}

#[test]
fn a_dry_run_prints_what_a_run_would_do_and_does_nothing() {
    let mut fixture = Fixture::new();
    fixture.stream("readings", readings());
    let printed = fixture.run(&["migrate", "--dry-run"]).success();
    assert_eq!(tables(&fixture), Vec::<Json>::new());
    assert_eq!(fixture.run(&["migrate"]).success(), printed);

    let before = tables(&fixture);
    fixture.stream("readings", with_field(json!({"name": "note", "type": "string"})));
    let printed = fixture.run(&["migrate", "--dry-run"]).success();
    assert_eq!(tables(&fixture), before);
    assert_eq!(fixture.run(&["migrate"]).success(), printed);
    assert_ne!(tables(&fixture), before);
}

#[test]
fn every_avro_type_has_its_column() {
    let mut fixture = Fixture::new();
    let logical = |of: &str, name: &str| json!({"type": of, "logicalType": name});
    let fixed = json!({"type": "fixed", "name": "Gap", "size": 12, "logicalType": "duration"});
    let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2});
    let fields = [
        json!("string"),
        logical("string", "uuid"),
        json!("int"),
        json!("long"),
        json!("float"),
        json!("double"),
        json!("boolean"),
        json!("bytes"),
        decimal,
        logical("int", "date"),
        logical("long", "time-micros"),
        logical("long", "timestamp-micros"),
        logical("long", "local-timestamp-millis"),
        fixed,
        json!({"type": "enum", "name": "Way", "symbols": ["up", "down"]}),
        json!({"type": "array", "items": "int"}),
        json!({"type": "map", "values": "int"}),
        json!(["null", "int"]),
        json!(["int", "string"]),
    ];
    let fields: Vec<Json> = fields
        .into_iter()
        .enumerate()
        .map(|(at, kind)| json!({"name": format!("f{at:02}"), "type": kind}))
        .collect();
    fixture.stream("types", json!({"type": "record", "name": "Types", "fields": fields}));
    let printed = fixture.run(&["migrate"]).success();
    let types = printed.split_once("CREATE TABLE \"types\"").unwrap().1;
    insta::assert_snapshot!(types, @r#"
     (
        "event_id" uuid NOT NULL,
        "f00" text NOT NULL,
        "f01" uuid NOT NULL,
        "f02" integer NOT NULL,
        "f03" bigint NOT NULL,
        "f04" real NOT NULL,
        "f05" double precision NOT NULL,
        "f06" boolean NOT NULL,
        "f07" bytea NOT NULL,
        "f08" numeric(9,2) NOT NULL,
        "f09" date NOT NULL,
        "f10" time without time zone NOT NULL,
        "f11" timestamp with time zone NOT NULL,
        "f12" timestamp without time zone NOT NULL,
        "f13" interval NOT NULL,
        "f14" text NOT NULL,
        "f15" jsonb NOT NULL,
        "f16" jsonb NOT NULL,
        "f17" integer,
        "f18" jsonb NOT NULL,
        PRIMARY KEY ("event_id")
    );
    "#);
}

#[test]
fn an_added_field_and_label_become_nullable_columns() {
    let mut fixture = Fixture::with_stream(readings());
    fixture.run(&["produce", "readings", "--count", "50"]).success();
    fixture.drain();
    let mut avsc = with_field(json!({"name": "note", "type": "string", "default": ""}));
    let label = json!({"name": "band", "type": "string", "value": "'low'"});
    avsc["sluicegate"]["labels"].as_array_mut().unwrap().push(label);
    fixture.stream("readings", avsc);
    insta::assert_snapshot!(fixture.run(&["migrate"]).success(), @r#"
    ALTER TABLE "readings" ADD COLUMN "note" text;
    ALTER TABLE "readings" ADD COLUMN "band" text;
    "#);
    fixture.run(&["produce", "readings", "--count", "50"]).success();
    fixture.drain();
    let rows = "SELECT count(*) FROM readings WHERE note IS NULL AND band IS NULL";
    assert_eq!(fixture.number(rows), 50);
    let rows = "SELECT count(*) FROM readings WHERE note IS NOT NULL AND band = 'low'";
    assert_eq!(fixture.number(rows), 50);
}

#[test]
fn an_aggregate_that_grows_counts_what_comes_from_then_on() {
    let mut fixture = Fixture::with_stream(readings());
    let produce = |fixture: &Fixture, seed: &str| {
        let start = ["--start", "2026-01-01T00:00:00Z", "--count", "200", "--seed", seed];
        fixture.run(&[&["produce", "readings"], &start[..]].concat()).success();
        fixture.drain();
    };
    produce(&fixture, "1");
    let extra = json!({"name": "extra", "type": ["null", "int"], "default": null});
    let mut avsc = with_field(extra);
    avsc["sluicegate"]["aggregates"][0]["of"] = json!(["value", "extra"]);
    fixture.stream("readings", avsc);
    fixture.run(&["migrate"]).success();
    produce(&fixture, "2");

    let kept = "SELECT device, count, extra_count, extra_sum, extra_min, extra_max \
                FROM agg_readings_minute WHERE extra_count IS NOT NULL ORDER BY device";
    let recomputed = "SELECT device, count(*) AS count, count(extra) AS extra_count, \
                      sum(extra) AS extra_sum, min(extra) AS extra_min, max(extra) AS extra_max \
                      FROM readings GROUP BY device ORDER BY device";
    let kept = fixture.rows(kept);
    assert_eq!(kept, fixture.rows(recomputed));
    assert!(kept.iter().any(|row| row["count"].as_i64() > row["extra_count"].as_i64()));
}

#[test]
fn what_could_lose_data_is_refused_with_the_statement_to_run() {
    let mut fixture = Fixture::with_stream(readings());
    let before = tables(&fixture);
    let mut avsc = readings();
    // a changed type, a field that may now be null, one that is gone, and one that is new
    avsc["fields"][2]["type"] =
        json!(["null", {"type": "long", "logicalType": "timestamp-micros"}]);
    avsc["fields"][3] = json!({"name": "value", "type": "float"});
    avsc["fields"][1] = json!({"name": "sensor", "type": "string"});
    avsc["sluicegate"]["key"] = json!("sensor");
    avsc["sluicegate"]["aggregates"] = json!([]);
    fixture.stream("readings", avsc);
    let ran = fixture.run(&["migrate"]);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: the tables can't be brought to the contracts without you
    "readings" has a column "ts" that must not be null, and the contract says it may; run: ALTER TABLE "readings" ALTER COLUMN "ts" DROP NOT NULL;
    "readings" has a column "value" of type double precision, and the contract says real; run: ALTER TABLE "readings" ALTER COLUMN "value" TYPE real;
    "readings" has a column "device" that must not be null and that the contract no longer fills; run: ALTER TABLE "readings" ALTER COLUMN "device" DROP NOT NULL;
    "#);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert_eq!(tables(&fixture), before);

    // each statement is what it takes
    for line in ran.stderr.lines() {
        if let Some((_, statement)) = line.split_once("run: ") {
            fixture.sql(statement);
        }
    }
    insta::assert_snapshot!(fixture.run(&["migrate"]).success(), @r#"ALTER TABLE "readings" ADD COLUMN "sensor" text;"#);
}

#[test]
fn a_table_whose_key_is_gone_is_refused_with_the_index_to_create() {
    let fixture = Fixture::with_stream(readings());
    fixture.sql("ALTER TABLE readings DROP CONSTRAINT readings_pkey");
    let ran = fixture.run(&["migrate"]);
    insta::assert_snapshot!(ran.one_clear_error(), @r#"error: the tables can't be brought to the contracts without you: "readings" has no unique index on ("event_id"), by which an event is known again; run: CREATE UNIQUE INDEX ON "readings" ("event_id");"#);
    fixture.sql("CREATE UNIQUE INDEX ON readings (event_id)");
    fixture.run(&["migrate"]).success();
}

#[test]
fn a_column_of_ones_own_is_left_alone() {
    let fixture = Fixture::with_stream(readings());
    fixture.sql("ALTER TABLE readings ADD COLUMN landed_at timestamptz NOT NULL DEFAULT now()");
    insta::assert_snapshot!(
        fixture.run(&["migrate"]).success(),
        @"-- nothing to do: the tables are as the contracts say"
    );
    fixture.run(&["produce", "readings", "--count", "20"]).success();
    fixture.drain();
    assert_eq!(fixture.number("SELECT count(landed_at) FROM readings"), 20);
}

#[test]
fn migrations_that_run_at_once_take_turns() {
    let mut fixture = Fixture::new();
    fixture.stream("readings", readings());
    fixture.sql(&format!("DROP SCHEMA \"{}\"", fixture.prefix));
    let spawn = |_| {
        let mut command = fixture.command(&["migrate"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<_> = (0..4).map(spawn).collect();
    let mut creators = 0;
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let stdout = String::from_utf8(output.stdout).unwrap();
        creators += usize::from(stdout.contains("CREATE TABLE \"readings\""));
    }
    assert_eq!(creators, 1);
    assert_eq!(tables(&fixture).len(), 15);
}

#[test]
fn consuming_without_tables_says_to_migrate() {
    let mut fixture = Fixture::new();
    fixture.stream("readings", readings());
    let consume = ["consume", "--exit-when-drained"];
    insta::assert_snapshot!(fixture.run(&consume).one_clear_error(), @r#"error: the table "ledger" is missing; run `sluicegate migrate`"#);
    fixture.run(&["migrate"]).success();
    fixture.sql("DROP TABLE agg_readings_minute");
    insta::assert_snapshot!(fixture.run(&consume).one_clear_error(), @r#"error: readings: the tables are not as the contract says: not yet run: CREATE TABLE "agg_readings_minute"; run `sluicegate migrate`"#);
}

/// What `migrations/` holds rows of, once each migration is applied.
const SAMPLES: &[(&str, &str)] = &[
    (
        "V1__dlq_events.sql",
        "INSERT INTO dlq_events (stream, topic, partition, \"offset\", payload, stage, reason, detail) \
         VALUES ('s', 't', 0, 7, '\\x00', 'wire', 'empty_value', 'd'), \
                ('s', 't', 1, 7, NULL, 'wire', 'tombstone', 'd')",
    ),
    (
        "V2__ledger.sql",
        "INSERT INTO ledger (stream, topic, partition, first_offset, next_offset, inserted, \
         duplicate, dead_lettered, skipped) VALUES ('s', 't', 0, 3, 13, 1, 2, 3, 4)",
    ),
    (
        "V3__gaps_and_breakers.sql",
        "INSERT INTO ledger_gaps (stream, topic, partition, first_offset, end_offset) \
         VALUES ('s', 't', 0, 13, 20); \
         UPDATE ledger SET next_offset = 20, expired = 7; \
         INSERT INTO breakers (stream, member, reason, probe_at) \
         VALUES ('s', gen_random_uuid(), 'r', now())",
    ),
    (
        "V4__same_dead_letter.sql",
        // longer than a b-tree takes
        "INSERT INTO dlq_events (stream, topic, partition, \"offset\", event_id, payload, stage, reason, \
         detail, status) VALUES ('s', 't', 0, 8, repeat('id', 9000), '\\x00', 'check', 'r', 'd', 'parked'); \
         UPDATE dlq_events SET published_at = now() WHERE partition = 1",
    ),
    (
        "V5__dlq_outbox.sql",
        "INSERT INTO dlq_events (stream, topic, partition, \"offset\", event_id, fingerprint, payload, \
         stage, reason, detail, status) VALUES ('s', 't', 0, 9, 'e', -1, '\\x00', 'check', 'r', 'd', 'parked')",
    ),
    (
        "V6__analytics.sql",
        "UPDATE ledger SET event_time = now(); \
         INSERT INTO aggregate_changes VALUES ('agg_s_minute', now(), 0); \
         INSERT INTO metrics VALUES ('agg_s_minute', now(), 'count', '{}', 1); \
         INSERT INTO alerts (stream, name, dimensions, since, opened_at, measured) \
         VALUES ('s', 'a', '{\"d\": 1}', now(), now(), '{}'); \
         INSERT INTO alert_progress VALUES ('s', 'a', '{d}', now()); \
         INSERT INTO alert_series VALUES ('s', 'a', '{\"d\": 1}', now()); \
         INSERT INTO alert_outbox (alert_id, status, target, series) SELECT id, 'open', 'topic', 's' FROM alerts",
    ),
    (
        "V7__dlq_replay.sql",
        "UPDATE dlq_events SET record_time = 1, replays = 1; UPDATE dlq_events SET purged_at = now() WHERE partition = 1; UPDATE ledger SET replayed = 1; \
         INSERT INTO dlq_history (letter_id, who, action) SELECT id, 'ann', 'parked' FROM dlq_events",
    ),
];

#[test]
fn every_migration_applies_on_top_of_data() {
    let fixture = Fixture::new();
    let mut files: Vec<String> = std::fs::read_dir(repository("migrations"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort_by_key(|name| version(name));
    let sampled: Vec<&str> = SAMPLES.iter().map(|(name, _)| *name).collect();
    assert_eq!(files, sampled, "every migration has a sample, in order");
    for (name, sample) in SAMPLES {
        let sql = std::fs::read_to_string(repository("migrations").join(name)).unwrap();
        fixture.sql(&sql);
        fixture.sql(sample);
    }
    assert_eq!(fixture.number("SELECT count(*) FROM dlq_events WHERE status = 'pending'"), 2);
    let waiting =
        "SELECT count(*) FROM dlq_outbox JOIN dlq_events USING (stream, id) WHERE partition = 0";
    assert_eq!(fixture.number(waiting), 2);
    assert_eq!(fixture.number("SELECT count(*) FROM dlq_outbox"), 2);
    assert_eq!(fixture.number("SELECT count(fingerprint) FROM dlq_events"), 2);
    assert_eq!(fixture.number("SELECT sum(inserted + duplicate + dead_lettered) FROM ledger"), 6);
    let deeds = "SELECT count(*) FROM dlq_history JOIN dlq_events ON letter_id = dlq_events.id";
    assert_eq!(fixture.number(deeds), 4);
}

#[test]
fn a_migration_that_was_edited_after_it_was_applied_is_an_error() {
    let mut fixture = Fixture::new();
    fixture.stream("readings", readings());
    fixture.run(&["migrate"]).success();
    fixture.sql("UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1");
    insta::assert_snapshot!(fixture.run(&["migrate"]).one_clear_error(), @"error: the fixed tables can't be migrated: applied migration V1__dlq_events is different than filesystem one V1__dlq_events");
}

fn version(file: &str) -> u32 {
    file.trim_start_matches('V').split_once("__").unwrap().0.parse().unwrap()
}

fn with_field(field: Json) -> Json {
    let mut avsc = readings();
    avsc["fields"].as_array_mut().unwrap().push(field);
    avsc
}

/// Every table of the corner with its columns and indexes.
fn tables(fixture: &Fixture) -> Vec<Json> {
    fixture.rows(
        "SELECT relname, \
         (SELECT json_agg(json_build_array(attname, format_type(atttypid, atttypmod), attnotnull) \
          ORDER BY attnum) FROM pg_attribute WHERE attrelid = pg_class.oid AND attnum > 0 \
          AND NOT attisdropped) AS columns, \
         (SELECT json_agg(pg_get_indexdef(indexrelid) ORDER BY indexrelid) FROM pg_index \
          WHERE indrelid = pg_class.oid) AS indexes \
         FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' \
         ORDER BY relname",
    )
}
