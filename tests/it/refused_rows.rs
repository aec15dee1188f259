//! A row that the user's own table refuses is a dead letter that names the constraint; its neighbours
//! in the same batch land.

use sluicegate::wire::{SchemaId, frame};

use crate::{
    avro::{double, id, long, string},
    proxy::Proxy,
    support::{Fixture, Ledger, Ran, readings, variable},
};

/// How many events there are, all in one batch.
const EVENTS: u64 = 2_000;

/// What a user may have added to the table; each refuses the devices that are named after it.
const CONSTRAINTS: &str = "
    ALTER TABLE readings
        ADD CONSTRAINT a_check CHECK (device <> 'check'),
        ADD a_not_null text GENERATED ALWAYS AS (nullif(device, 'null')) STORED NOT NULL,
        ADD a_small smallint GENERATED ALWAYS AS (CASE device WHEN 'large' THEN 100000 END::smallint) STORED;

    CREATE UNIQUE INDEX a_unique_index ON readings (device) WHERE device IN ('taken', 'twins');
    INSERT INTO readings (event_id, device, ts, value)
        VALUES ('ffffffff-0000-0000-0000-000000000000', 'taken', '2000-01-01', 0);

    CREATE TABLE known AS SELECT unnest(ARRAY['d0', 'd1', 'd2', 'check', 'null', 'large', 'taken',
        'twins', 'deferred', 'trigger', 'deferred trigger']) AS device;
    ALTER TABLE known ADD PRIMARY KEY (device);
    ALTER TABLE readings ADD CONSTRAINT a_foreign_key FOREIGN KEY (device) REFERENCES known;

    CREATE TABLE later AS TABLE known;
    ALTER TABLE later ADD PRIMARY KEY (device);
    DELETE FROM later WHERE device = 'deferred';
    ALTER TABLE readings ADD CONSTRAINT a_deferred_key FOREIGN KEY (device) REFERENCES later
        DEFERRABLE INITIALLY DEFERRED;

    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE '% refuses \"%\"', TG_NAME, NEW.device; END $$;
    CREATE TRIGGER a_trigger BEFORE INSERT ON readings
        FOR EACH ROW WHEN (NEW.device = 'trigger') EXECUTE FUNCTION refuse();
    CREATE CONSTRAINT TRIGGER a_deferred_trigger AFTER INSERT ON readings
        DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.device = 'deferred trigger') EXECUTE FUNCTION refuse();";

/// The device of event `n`: the first, the last, neighbours and some on their own are refused.
fn device(n: u64) -> &'static str {
    match n {
        0 | 1_024 => "check",
        1 | 700 => "null",
        3 | 1_400 => "large",
        2 | 1_500 => "taken",
        300 | 301 => "twins",
        302 | 1_998 => "foreign",
        999 | 1_000 => "deferred",
        1_023 | 1_100 => "trigger",
        1_200 | 1_999 => "deferred trigger",
        _ => ["d0", "d1", "d2"][n as usize % 3],
    }
}

/// Event `n`; there is one every second.
fn event(schema: u32, n: u64) -> Option<Vec<u8>> {
    let ts = 1_777_636_800_000 + n as i64 * 1_000;
    let value = (n % 100) as f64;
    let body = [string(id(n)), string(device(n)), long(ts), double(value)].concat();
    Some(frame(SchemaId(schema), &body))
}

#[test]
fn rows_that_the_table_refuses_are_dead_letters_and_their_neighbours_land() {
    let fixture = Fixture::with_stream(readings());
    fixture.sql(CONSTRAINTS);
    let schema = fixture.schema_id(&fixture.topic());
    fixture
        .send_values(&fixture.topic(), &(0..EVENTS).map(|n| event(schema, n)).collect::<Vec<_>>());
    fixture.run(&["consume", "--exit-when-drained", "--batch-time", "1s"]).success();

    let refused = fixture.rows(
        "SELECT decoded->>'device' AS device, count(*) AS count, stage, reason, \
         replace(detail, event_id, '[id]') AS detail FROM dlq_events GROUP BY 1, 3, 4, 5 ORDER BY 4, 1",
    );
    let line = |row: &serde_json::Value| {
        let [device, stage, reason, detail] =
            ["device", "stage", "reason", "detail"].map(|column| row[column].as_str().unwrap());
        format!("{device:<16} {}  {stage} {reason:<21} {detail}", row["count"])
    };
    insta::assert_snapshot!(refused.iter().map(line).collect::<Vec<_>>().join("\n"), @r#"
    check            2  land check_violation       new row for relation "readings" violates check constraint "a_check" (23514)
    deferred         2  land foreign_key_violation insert or update on table "readings" violates foreign key constraint "a_deferred_key" (23503)
    foreign          2  land foreign_key_violation insert or update on table "readings" violates foreign key constraint "a_foreign_key" (23503)
    null             2  land not_null_violation    null value in column "a_not_null" of relation "readings" violates not-null constraint (23502)
    deferred trigger 2  land raised_by_trigger     a_deferred_trigger refuses "deferred trigger" (P0001)
    trigger          2  land raised_by_trigger     a_trigger refuses "trigger" (P0001)
    large            2  land table_refused:22003   smallint out of range (22003)
    taken            2  land unique_violation      duplicate key value violates unique constraint "a_unique_index" (23505)
    twins            1  land unique_violation      duplicate key value violates unique constraint "a_unique_index" (23505)
    "#);
    account_is_right(&fixture);
}

/// All but the refused events are in the table, and the aggregates and the ledger agree with it.
fn account_is_right(fixture: &Fixture) {
    let refused = (0..EVENTS).filter(|n| !device(*n).starts_with('d') || device(*n).len() > 2);
    // one of the twins has the place
    let dead_lettered = refused.count() as i64 - 1;
    let offsets = EVENTS as i64;
    let inserted = offsets - dead_lettered;
    let ledger = Ledger { inserted, duplicate: 0, dead_lettered, skipped: 0, offsets };
    assert_eq!(fixture.ledger(), ledger);
    let landed = "FROM readings WHERE ts > '2000-01-01'";
    assert_eq!(fixture.number(&format!("SELECT count(*) {landed}")), inserted);
    let lost = "SELECT event_id::text FROM readings INTERSECT SELECT event_id FROM dlq_events";
    assert_eq!(fixture.rows(lost), Vec::<serde_json::Value>::new());
    let recomputed = format!(
        "SELECT date_trunc('minute', ts) AS minute, device, count(*) AS count, sum(value) AS value_sum, \
         min(value) AS value_min, max(value) AS value_max, max(ts) AS value_last_at, \
         (array_agg(value ORDER BY ts DESC, value DESC))[1] AS value_last {landed} GROUP BY 1, 2 ORDER BY 1, 2"
    );
    let kept = fixture.rows("SELECT * FROM agg_readings_minute ORDER BY minute, device");
    assert_eq!(kept, fixture.rows(&recomputed));
}

#[test]
fn a_batch_in_which_every_row_is_refused_is_all_dead_letters() {
    let fixture = Fixture::with_stream(readings());
    fixture.sql("ALTER TABLE readings ADD CONSTRAINT never CHECK (value < 0)");
    let schema = fixture.schema_id(&fixture.topic());
    fixture.send_values(&fixture.topic(), &(0..60).map(|n| event(schema, n)).collect::<Vec<_>>());
    fixture.drain();
    let ledger = Ledger { inserted: 0, duplicate: 0, dead_lettered: 60, skipped: 0, offsets: 60 };
    assert_eq!(fixture.ledger(), ledger);
    let letters = "SELECT count(*) FROM dlq_events WHERE reason = 'check_violation'";
    assert_eq!(fixture.number(letters), 60);
    assert_eq!(fixture.read_topic(&format!("{}.dlq", fixture.topic())).len(), 60);
}

/// All in one batch.
const ROWS: u64 = 4_096;

/// What a run with one batch takes, in statements.
const RUN: u64 = 60;

/// What each halving takes: a savepoint, the rows, and an end, for either half.
const HALVING: u64 = 6;

#[test]
fn a_refused_row_costs_its_batch_a_logarithm_of_statements() {
    for refused in [0, 1, 2, 8, 32] {
        let statements = statements_of_a_run(refused);
        println!("{ROWS} rows in one batch, {refused} refused: {statements} statements");
        let most = RUN + HALVING * refused * u64::from(ROWS.ilog2());
        assert!(statements <= most, "{refused} refused: {statements} statements, not {most}");
    }
}

/// Lands one batch, so many of whose rows the table refuses, as far apart as can be.
fn statements_of_a_run(refused: u64) -> u64 {
    let fixture = Fixture::with_stream(readings());
    fixture.sql(
        "ALTER TABLE readings ADD CONSTRAINT small CHECK (value < 1000); \
         CREATE TABLE batches (); \
         CREATE FUNCTION count_batch() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN INSERT INTO batches DEFAULT VALUES; RETURN NULL; END $$; \
         CREATE TRIGGER batch AFTER UPDATE OF next_offset ON ledger EXECUTE FUNCTION count_batch()",
    );
    let schema = fixture.schema_id(&fixture.topic());
    let apart = ROWS.checked_div(refused).unwrap_or(u64::MAX);
    let event = |n: u64| {
        let value = if n % apart == apart / 2 { 1_000.0 } else { 1.0 };
        let body = [string(id(n)), string("d0"), long(n as i64), double(value)].concat();
        Some(frame(SchemaId(schema), &body))
    };
    fixture.send_values(&fixture.topic(), &(0..ROWS).map(event).collect::<Vec<_>>());
    let (proxy, url) = Proxy::before_postgres(&variable("DATABASE_URL"));
    let rows = ROWS.to_string();
    let mut command = fixture.command(&["consume", "--exit-when-drained", "--batch-time", "60s"]);
    Ran::of(command.args(["--batch-rows", &rows]).env("DATABASE_URL", url)).success();
    assert_eq!(fixture.number("SELECT count(*) FROM batches"), 1);
    let [offsets, dead_lettered] = [ROWS, refused].map(|count| count as i64);
    let inserted = offsets - dead_lettered;
    let ledger = Ledger { inserted, duplicate: 0, dead_lettered, skipped: 0, offsets };
    assert_eq!(fixture.ledger(), ledger);
    proxy.statements() as u64
}
