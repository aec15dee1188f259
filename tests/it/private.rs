//! Private fields: no stage's failure lets their values out, and the payload stays as it was.

use serde_json::{Value as Json, json};
use sluicegate::wire::{SchemaId, frame};

use crate::{
    avro::{double, id, long, string},
    support::{Fixture, readings},
};

/// 2026-05-01T12:00:00Z.
const NOON: i64 = 1_777_636_800_000;

/// Values that nothing else has.
const SECRET: &str = "hunter2";
const NUMBER: f64 = 98_765.432_1;

fn contract() -> Json {
    let mut contract = readings();
    contract["fields"].as_array_mut().unwrap().push(json!({"name": "owner", "type": "string"}));
    contract["sluicegate"] = json!({
        "time": "ts", "private": ["owner", "value"],
        "params": {"limits": {"nobody": 1.0}, "homes": {"nobody": "here"}},
        "rules": [
            {"name": "low", "check": "message.device != 'rule' || message.value < 1.0"},
            {"name": "known",
             "check": "message.device != 'error' || params.limits[message.owner] > 0.0"},
        ],
        "labels": [
            {"name": "home", "type": "string",
             "value": "message.device == 'label' ? params.homes[message.owner] : 'none'"},
        ],
    });
    contract
}

/// Each refuses the devices that are named after it, and would say with which values.
const CONSTRAINTS: &str = "
    ALTER TABLE readings
        ADD CONSTRAINT a_check CHECK (device <> 'check'),
        ADD a_number int GENERATED ALWAYS AS (CASE device WHEN 'syntax' THEN owner::int END) STORED;
    CREATE UNIQUE INDEX a_unique_index ON readings (owner) WHERE device = 'taken';
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'not for %', NEW.owner; END $$;
    CREATE TRIGGER a_trigger BEFORE INSERT ON readings
        FOR EACH ROW WHEN (NEW.device = 'trigger') EXECUTE FUNCTION refuse();";

#[test]
fn no_private_value_is_in_a_dead_letter_its_copy_or_the_log_and_the_payload_is_whole() {
    let fixture = Fixture::with_stream(contract());
    fixture.sql(CONSTRAINTS);
    let topic = fixture.topic();
    let schema = fixture.schema_id(&topic);
    let event = |n: u64, device: &str, owner: &str| {
        let body =
            [string(id(n)), string(device), long(NOON), double(NUMBER), string(owner)].concat();
        frame(SchemaId(schema), &body)
    };
    let nul = format!("{SECRET}\0");
    let whole = event(8, "fine", SECRET);
    let sent: Vec<Vec<u8>> = vec![
        event(0, "taken", SECRET),
        event(1, "rule", SECRET),
        event(2, "error", SECRET),
        event(3, "label", SECRET),
        event(4, "check", SECRET),
        event(5, "taken", SECRET),
        event(6, "syntax", SECRET),
        event(7, "trigger", SECRET),
        [&whole[..], b"more"].concat(),
        whole[..whole.len() - 3].to_vec(),
        event(9, "fine", &nul),
    ];
    for value in &sent {
        fixture.send(&topic, Some(SECRET.as_bytes()), Some(value));
    }
    let ran = fixture.run(&["--log", "debug", "consume", "--exit-when-drained", "--no-breaker"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("batch landed"), "{}", ran.stderr);
    let hidden = |text: &str| {
        assert!(!text.contains(SECRET) && !text.contains("98765.4"), "{text}");
    };
    hidden(&ran.stderr);

    let rows = fixture.rows("SELECT reason, detail, decoded FROM dlq_events ORDER BY \"offset\"");
    let said = rows.iter().map(|row| {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        format!("{}: {}", text("reason"), text("detail"))
    });
    insta::assert_snapshot!(said.collect::<Vec<_>>().join("\n"), @r#"
    rule:low: does not hold: message.device != 'rule' || message.value < 1.0
    rule_error:known: can't be evaluated: message.device != 'error' || params.limits[message.owner] > 0.0
    label_error:home: can't be evaluated: message.device == 'label' ? params.homes[message.owner] : 'none'
    check_violation: constraint "a_check"; the rest is not shown: it may have private values
    unique_violation: constraint "a_unique_index"; the rest is not shown: it may have private values
    table_refused:22P02: not shown: it may have private values
    raised_by_trigger: not shown: it may have private values
    trailing_bytes: not shown: it may have private values
    truncated_body: not shown: it may have private values
    nul_character: "owner"; the rest is not shown: it may have private values
    "#);
    assert_eq!(rows[0]["decoded"]["owner"], "***");
    assert_eq!(rows[0]["decoded"]["value"], "***");
    assert_eq!(rows[0]["decoded"]["device"], "rule");
    let letters = fixture
        .rows("SELECT to_jsonb(letter) - 'key' - 'payload' AS letter FROM dlq_events AS letter");
    letters.iter().for_each(|letter| hidden(&letter.to_string()));

    let copies = fixture.read_topic(&format!("{topic}.dlq"));
    assert_eq!(copies.len(), sent.len() - 1);
    for copy in &copies {
        let header = |name: &str| {
            let found = copy.headers.iter().find(|(known, _)| known == name).unwrap();
            String::from_utf8(found.1.clone().unwrap()).unwrap()
        };
        let offset: usize = header("__connect.errors.offset").parse().unwrap();
        assert_eq!(copy.value.as_deref(), Some(&sent[offset][..]), "byte for byte");
        assert_eq!(copy.key.as_deref(), Some(SECRET.as_bytes()));
        copy.headers.iter().for_each(|(_, value)| {
            hidden(&String::from_utf8_lossy(value.as_deref().unwrap_or_default()));
        });
    }
    let payloads = fixture.rows("SELECT \"offset\", encode(payload, 'hex') AS hex FROM dlq_events");
    for row in payloads {
        let offset = usize::try_from(row["offset"].as_i64().unwrap()).unwrap();
        let hex: String = sent[offset].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(row["hex"], hex.as_str());
    }

    // neither does a replay's history say more
    fixture.run(&["dlq", "replay", "--who", "me"]).success();
    let history = fixture.rows("SELECT * FROM dlq_history");
    assert_eq!(history.len(), sent.len() - 1);
    history.iter().for_each(|noted| hidden(&noted.to_string()));
}
