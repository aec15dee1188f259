//! A contract changes, and what was written under another version of it still lands; a change that
//! would break that is refused before it can.

use serde_json::{Value as Json, json};

use crate::support::{Fixture, Ran};

#[test]
fn a_field_added_with_a_default_has_that_default_in_old_events() {
    let fixture = evolved(
        reading(json!([field("value", "double")])),
        json!({"event_id": "old", "value": 1.5}),
        reading(json!([
            field("value", "double"),
            {"name": "unit", "type": "string", "default": "°C"},
            {"name": "site", "type": ["null", "string"], "default": null},
            {"name": "tags", "type": {"type": "array", "items": "string"}, "default": ["raw"]},
        ])),
    );
    fixture.run(&["migrate"]).success();
    produce(
        &fixture,
        json!({"event_id": "new", "value": 2.5, "unit": "K", "site": "a", "tags": []}),
    );
    fixture.drain();
    assert_eq!(
        landed(&fixture),
        [
            json!({"event_id": "new", "value": 2.5, "unit": "K", "site": "a", "tags": []}),
            json!({"event_id": "old", "value": 1.5, "unit": "°C", "site": null, "tags": ["raw"]}),
        ]
    );
}

#[test]
fn a_removed_field_stays_in_the_table_and_is_null_in_new_events() {
    let fixture = evolved(
        reading(json!([field("value", "double"), field("unit", "string")])),
        json!({"event_id": "old", "value": 1.5, "unit": "K"}),
        reading(json!([field("value", "double")])),
    );
    let ran = migrate_by_hand(&fixture);
    assert_eq!(ran, [r#"ALTER TABLE "readings" ALTER COLUMN "unit" DROP NOT NULL;"#]);
    produce(&fixture, json!({"event_id": "new", "value": 2.5}));
    fixture.drain();
    assert_eq!(
        landed(&fixture),
        [
            json!({"event_id": "new", "value": 2.5, "unit": null}),
            json!({"event_id": "old", "value": 1.5, "unit": null}),
        ]
    );
}

#[test]
fn a_promoted_number_lands_once_a_person_has_widened_its_column() {
    let promotions = [
        ("int", "long", json!(i32::MIN), "bigint"),
        ("int", "float", json!(-7.0), "real"),
        ("int", "double", json!(i32::MAX), "double precision"),
        ("long", "float", json!(1 << 24), "real"),
        ("long", "double", json!(-(1i64 << 53)), "double precision"),
        ("float", "double", json!(0.5), "double precision"),
    ];
    let name = |from, to| format!("{from}_to_{to}");
    let before = promotions.iter().map(|(from, to, ..)| field(&name(from, to), *from)).collect();
    let after = promotions.iter().map(|(from, to, ..)| field(&name(from, to), *to)).collect();
    let mut event = json!({"event_id": "old"});
    for (from, to, value, _) in &promotions {
        event[name(from, to)] = value.clone();
    }
    let fixture = evolved(reading(before), event, reading(after));
    let statements = promotions.each_ref().map(|(from, to, _, column)| {
        let name = name(from, to);
        format!(r#"ALTER TABLE "readings" ALTER COLUMN "{name}" TYPE {column};"#)
    });
    assert_eq!(migrate_by_hand(&fixture), statements);
    fixture.drain();
    let row = &landed(&fixture)[0];
    for (from, to, value, _) in &promotions {
        assert_eq!(row[name(from, to)].as_f64(), value.as_f64(), "{from} to {to}");
    }
}

#[test]
fn a_string_that_becomes_bytes_and_bytes_that_become_a_string_keep_their_text() {
    let mut fixture =
        Fixture::with_stream(reading(json!([field("a", "string"), field("b", "bytes")])));
    // in Avro's JSON a character of bytes is a byte: this is "é" in UTF-8
    let event = |id: &str| json!({"event_id": id, "a": "é", "b": "\u{c3}\u{a9}"});
    produce(&fixture, event("landed before"));
    fixture.drain();
    produce(&fixture, event("landed after"));
    evolve(&mut fixture, reading(json!([field("a", "bytes"), field("b", "string")])));
    migrate_by_hand(&fixture);
    fixture.drain();
    let texts = fixture.rows("SELECT convert_from(a, 'UTF8') AS a, b FROM readings");
    assert_eq!(texts, [json!({"a": "é", "b": "é"}), json!({"a": "é", "b": "é"})]);
}

#[test]
fn a_string_that_becomes_a_uuid_or_one_of_several_types_lands_beside_what_was_there() {
    let id = "01020304-0506-0708-090a-0b0c0d0e0f10";
    let old = reading(json!([field("trace", "string"), field("value", "string")]));
    let mut fixture = Fixture::with_stream(old);
    produce(&fixture, json!({"event_id": "landed before", "trace": id, "value": "1"}));
    fixture.drain();
    produce(&fixture, json!({"event_id": "landed between", "trace": id, "value": "2"}));
    let uuid = json!({"type": "string", "logicalType": "uuid"});
    let value = field("value", json!(["string", "long"]));
    evolve(&mut fixture, reading(json!([field("trace", uuid), value])));
    migrate_by_hand(&fixture);
    produce(&fixture, json!({"event_id": "new", "trace": id, "value": 3}));
    fixture.drain();
    assert_eq!(
        landed(&fixture),
        [
            json!({"event_id": "landed before", "trace": id, "value": "1"}),
            json!({"event_id": "landed between", "trace": id, "value": "2"}),
            json!({"event_id": "new", "trace": id, "value": 3}),
        ]
    );
}

#[test]
fn an_enum_grows_and_an_older_reader_takes_its_default_for_a_symbol_it_lacks() {
    let kind = |symbols: Json| {
        let kind = json!({"type": "enum", "name": "Kind", "symbols": symbols, "default": "other"});
        compatible("FULL", json!([field("kind", kind)]))
    };
    let (old, new) = (kind(json!(["other", "gps"])), kind(json!(["radar", "gps", "other"])));
    let mut fixture = evolved(old.clone(), json!({"event_id": "1", "kind": "gps"}), new);
    produce(&fixture, json!({"event_id": "2", "kind": "radar"}));
    fixture.drain();
    produce(&fixture, json!({"event_id": "3", "kind": "radar"}));
    produce(&fixture, json!({"event_id": "4", "kind": "gps"}));
    fixture.stream("readings", old);
    fixture.drain();
    assert_eq!(
        landed(&fixture),
        [
            json!({"event_id": "1", "kind": "gps"}),
            json!({"event_id": "2", "kind": "radar"}),
            json!({"event_id": "3", "kind": "other"}),
            json!({"event_id": "4", "kind": "gps"}),
        ]
    );
}

#[test]
fn an_enum_without_a_default_grows_and_its_new_symbol_is_a_dead_letter_to_an_older_reader() {
    let kind = |symbols: Json| {
        let kind = json!({"type": "enum", "name": "Kind", "symbols": symbols});
        reading(json!([field("kind", kind)]))
    };
    let (old, new) = (kind(json!(["gps"])), kind(json!(["gps", "radar"])));
    let mut fixture = evolved(old.clone(), json!({"event_id": "1", "kind": "gps"}), new);
    produce(&fixture, json!({"event_id": "2", "kind": "radar"}));
    produce(&fixture, json!({"event_id": "3", "kind": "gps"}));
    fixture.stream("readings", old);
    fixture.drain();
    let known = |id| json!({"event_id": id, "kind": "gps"});
    assert_eq!(landed(&fixture), [known("1"), known("3")]);
    let dead = fixture.rows("SELECT stage, reason, detail FROM dlq_events");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0]["stage"], "decode");
    assert_eq!(dead[0]["reason"], "undecodable");
    let detail = dead[0]["detail"].as_str().unwrap();
    assert!(detail.contains("radar"), "{detail}");
}

#[test]
fn a_field_that_becomes_nullable_is_read_by_an_older_reader_until_it_is_null() {
    let old = reading(json!([field("temp", "double")]));
    let new = reading(json!([{"name": "temp", "type": ["null", "double"], "default": null}]));
    let mut fixture = evolved(old.clone(), json!({"event_id": "1", "temp": 1.5}), new);
    produce(&fixture, json!({"event_id": "2", "temp": null}));
    produce(&fixture, json!({"event_id": "3", "temp": 2.5}));
    fixture.stream("readings", old);
    fixture.drain();
    let known = |id, temp| json!({"event_id": id, "temp": temp});
    assert_eq!(landed(&fixture), [known("1", 1.5), known("3", 2.5)]);
    let dead = fixture.rows("SELECT reason FROM dlq_events");
    assert_eq!(dead, [json!({"reason": "undecodable"})]);
}

#[test]
fn a_field_renamed_with_an_alias_is_read_under_its_new_name() {
    let renamed = json!({"name": "celsius", "type": "double", "aliases": ["temp"]});
    let fixture = evolved(
        reading(json!([field("temp", "double")])),
        json!({"event_id": "old", "temp": 21.5}),
        reading(json!([renamed])),
    );
    let ran = migrate_by_hand(&fixture);
    assert_eq!(ran, [r#"ALTER TABLE "readings" ALTER COLUMN "temp" DROP NOT NULL;"#]);
    produce(&fixture, json!({"event_id": "new", "celsius": 22.5}));
    fixture.drain();
    assert_eq!(
        landed(&fixture),
        [
            json!({"event_id": "new", "celsius": 22.5, "temp": null}),
            json!({"event_id": "old", "celsius": 21.5, "temp": null}),
        ]
    );
}

#[test]
fn a_record_renamed_with_an_alias_still_reads_what_was_written_under_the_old_name() {
    let mut renamed = reading(json!([field("value", "double")]));
    renamed["name"] = json!("Measurement");
    renamed["aliases"] = json!(["Reading"]);
    let fixture = evolved(
        reading(json!([field("value", "double")])),
        json!({"event_id": "old", "value": 1.5}),
        renamed,
    );
    produce(&fixture, json!({"event_id": "new", "value": 2.5}));
    fixture.drain();
    let landed_both = ["new", "old"].map(|id| json!({"event_id": id}));
    assert_eq!(fixture.rows("SELECT event_id FROM readings ORDER BY 1"), landed_both);
}

#[test]
fn a_field_that_becomes_nullable_takes_old_values_and_new_nulls() {
    let fixture = evolved(
        reading(json!([field("value", "double")])),
        json!({"event_id": "old", "value": 1.5}),
        reading(json!([field("value", json!(["null", "double"]))])),
    );
    let ran = migrate_by_hand(&fixture);
    assert_eq!(ran, [r#"ALTER TABLE "readings" ALTER COLUMN "value" DROP NOT NULL;"#]);
    produce(&fixture, json!({"event_id": "new", "value": null}));
    fixture.drain();
    assert_eq!(
        landed(&fixture),
        [json!({"event_id": "new", "value": null}), json!({"event_id": "old", "value": 1.5})]
    );
}

#[test]
fn under_full_compatibility_an_older_contract_reads_what_a_newer_one_wrote() {
    let unit = json!({"name": "unit", "type": "string", "default": "K"});
    let site = json!({"name": "site", "type": "string", "default": "roof"});
    let old = compatible("FULL", json!([field("value", "double"), unit]));
    let new = compatible("FULL", json!([site, field("value", "double")]));
    let mut fixture =
        evolved(old.clone(), json!({"event_id": "old", "value": 1.5, "unit": "°C"}), new);
    produce(&fixture, json!({"event_id": "new", "value": 2.5, "site": "cellar"}));
    fixture.stream("readings", old);
    fixture.drain();
    assert_eq!(
        landed(&fixture),
        [
            json!({"event_id": "new", "value": 2.5, "unit": "K"}),
            json!({"event_id": "old", "value": 1.5, "unit": "°C"}),
        ]
    );
}

#[test]
fn under_forward_compatibility_a_new_field_needs_no_default_and_older_contracts_pass_over_it() {
    let old = compatible("FORWARD", json!([field("value", "double")]));
    let new = compatible("FORWARD", json!([field("unit", "string"), field("value", "double")]));
    let mut fixture = evolved(old.clone(), json!({"event_id": "old", "value": 1.5}), new);
    produce(&fixture, json!({"event_id": "new", "value": 2.5, "unit": "K"}));
    fixture.stream("readings", old);
    fixture.drain();
    assert_eq!(
        landed(&fixture),
        [json!({"event_id": "new", "value": 2.5}), json!({"event_id": "old", "value": 1.5})]
    );
}

#[test]
fn every_incompatible_change_is_refused_by_register_and_check_with_the_field_named() {
    let kind = |symbols: Json| json!({"type": "enum", "name": "Kind", "symbols": symbols});
    let with = |value: Json, kind: Json, more: Json| {
        let fields = [field("value", value), field("kind", kind)];
        reading(fields.into_iter().chain(more.as_array().unwrap().clone()).collect())
    };
    let symbols = || kind(json!(["gps", "radar"]));
    let nullable = json!(["null", "double"]);
    let mut fixture = Fixture::with_stream(with(nullable.clone(), symbols(), json!([])));
    let mut renamed = with(nullable.clone(), symbols(), json!([]));
    renamed["name"] = json!("Measurement");
    let unit = json!([field("unit", "string")]);
    let text = json!(["null", "string"]);
    for (change, contract, why) in [
        (
            "added without a default",
            with(nullable.clone(), symbols(), unit),
            r#""unit": not written"#,
        ),
        ("type changed", with(text, symbols(), json!([])), r#""value": written as double"#),
        (
            "made non-null",
            with(json!("double"), symbols(), json!([])),
            r#""value": written as null"#,
        ),
        (
            "symbol removed",
            with(nullable, kind(json!(["gps"])), json!([])),
            r#""kind": written with symbols"#,
        ),
        (
            "record renamed without an alias",
            renamed,
            "written as record test.Reading, read as record test.Measurement",
        ),
    ] {
        fixture.stream("readings", contract);
        assert_refused(&fixture, change, why);
    }
}

#[test]
fn under_forward_compatibility_a_field_that_older_readers_need_is_not_removed() {
    let fields = json!([field("value", "double"), field("unit", "string")]);
    let mut fixture = Fixture::with_stream(compatible("FORWARD", fields));
    fixture.stream("readings", compatible("FORWARD", json!([field("value", "double")])));
    assert_refused(&fixture, "removed", r#"for older readers: "unit": not written"#);
}

#[test]
fn registering_again_changes_neither_version_nor_id() {
    let mut fixture = Fixture::new();
    fixture.stream("readings", reading(json!([field("value", "double")])));
    let first = fixture.run(&["register"]).success();
    let again = fixture.run(&["register"]).success();
    assert!(first.contains(" version 1 id ") && first.ends_with(" registered\n"), "{first}");
    assert_eq!(again, first.replace(" registered\n", " unchanged\n"));
}

/// A contract of an id and these fields.
fn reading(fields: Json) -> Json {
    let mut all = vec![field("event_id", "string")];
    all.extend(fields.as_array().unwrap().iter().cloned());
    json!({"type": "record", "name": "Reading", "namespace": "test", "fields": all})
}

/// The same with a compatibility level of its own.
fn compatible(level: &str, fields: Json) -> Json {
    let mut contract = reading(fields);
    contract["sluicegate"] = json!({"compatibility": level});
    contract
}

fn field(name: &str, schema: impl Into<Json>) -> Json {
    json!({"name": name, "type": schema.into()})
}

/// A stream with one event that was written under `old` and waits for a reader, which has `new`.
fn evolved(old: Json, event: Json, new: Json) -> Fixture {
    let mut fixture = Fixture::with_stream(old);
    produce(&fixture, event);
    evolve(&mut fixture, new);
    fixture
}

/// Puts another contract in the place of the stream's, and registers it as a new version.
fn evolve(fixture: &mut Fixture, contract: Json) {
    fixture.stream("readings", contract);
    let said = fixture.run(&["register"]).success();
    assert!(said.contains(" version 2 ") && said.contains(" registered"), "{said}");
}

fn produce(fixture: &Fixture, event: Json) {
    let file = fixture.schemas.path().join("events.jsonl");
    std::fs::write(&file, event.to_string()).unwrap();
    let said = fixture.run(&["produce", "readings", "--from", file.to_str().unwrap()]).success();
    assert!(said.contains(": 1 record delivered"), "{said}");
}

/// Does what `migrate` asks a person to do, after which it must be content. Gives the statements.
fn migrate_by_hand(fixture: &Fixture) -> Vec<String> {
    let Ran { code, stderr, .. } = fixture.run(&["migrate"]);
    assert_ne!(code, 0);
    let statements: Vec<String> = stderr
        .lines()
        .filter_map(|line| line.split_once("run: "))
        .map(|(_, statement)| statement.to_owned())
        .collect();
    assert_ne!(statements, Vec::<String>::new(), "{stderr}");
    statements.iter().for_each(|statement| fixture.sql(statement));
    fixture.run(&["migrate"]).success();
    statements
}

fn landed(fixture: &Fixture) -> Vec<Json> {
    fixture.rows("SELECT * FROM readings ORDER BY event_id")
}

/// Fails the test unless both verbs say right behind the subject where it breaks and by what.
#[track_caller]
fn assert_refused(fixture: &Fixture, change: &str, why: &str) {
    let refusal = fixture.run(&["register"]).one_clear_error();
    let subject = format!("{}-value", fixture.topic());
    assert!(refusal.contains(&format!(" of \"{subject}\": {why}")), "{change}: {refusal}");
    let Ran { code, stdout, .. } = fixture.run(&["check"]);
    assert_ne!(code, 0, "{change}: {stdout}");
    assert!(stdout.contains(&format!(": breaks {subject}: {why}")), "{change}: {stdout}");
}
