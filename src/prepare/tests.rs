//! What is kept of private values, whatever is wrong with an event.

use proptest::{prelude::*, sample::Index};
use serde_json::json;

use super::*;
use crate::{
    codec::Encoder,
    registry::{RegistryAuth, RegistryConfig},
};

/// Values that nothing else has.
const SECRET: &str = "hunter2hunter2";
const NUMBER: i64 = 987_654_321_987;

fn contract() -> Contract {
    let schema = json!({
        "type": "record", "name": "Payment",
        "sluicegate": {
            "private": ["card", "amount", "notes", "wide"],
            "params": {"limits": {"visa": 5}, "names": {"hunter": "x"}},
            "rules": [
                {"name": "known", "check": "message.shape != 'error' || params.limits[message.card] > 1"},
                {"name": "small", "check": "message.shape != 'rule' || message.amount < 10"},
                {"name": "fits", "check": "message.shape != 'overflow' || message.amount * 9000000000000000000 > 1"},
            ],
            "labels": [
                {"name": "owner", "type": "string",
                 "value": "message.shape == 'label' ? params.names[message.card] : 'nobody'"},
            ],
        },
        "fields": [
            {"name": "event_id", "type": "string"},
            {"name": "shape", "type": "string"},
            {"name": "card", "type": "string"},
            {"name": "amount", "type": "long"},
            {"name": "notes", "type": {"type": "map", "values": "string"}},
            {"name": "wide", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        ],
    });
    Contract::parse("payments.avsc".as_ref(), schema.to_string()).unwrap()
}

/// One event's dead letter, if it is one.
fn letter(contract: &Arc<Contract>, body: &[u8]) -> Option<DeadLetter> {
    let urls = vec!["http://localhost:1".to_owned()];
    let timeout = std::time::Duration::from_secs(1);
    let config =
        RegistryConfig { urls, auth: RegistryAuth::None, ca_file: None, identity: None, timeout };
    let registry = Registry::new(&config).unwrap();
    let preparer = Preparer::new(contract.clone(), registry, RetryPolicy::ONCE);
    let writer = Arc::new(WriterSchema::new(&contract.schema, &contract.schema));
    let lookups = Lookups::from([(SchemaId(1), Ok(writer))]);
    let value = Some(wire::frame(SchemaId(1), body).into());
    let record = Record { value, ..Record::default() };
    let batch = preparer.prepare(vec![record], &lookups, OffsetDateTime::UNIX_EPOCH).unwrap();
    batch.dead_letters.into_iter().next()
}

fn body(contract: &Contract, shape: &str, tail: &str, wide: i64) -> Vec<u8> {
    let text = |text: String| Value::String(text);
    let event = Value::Record(vec![
        ("event_id".into(), text("e1".into())),
        ("shape".into(), text(shape.into())),
        ("card".into(), text(format!("{SECRET}{tail}"))),
        ("amount".into(), Value::Long(NUMBER)),
        ("notes".into(), Value::Map([("note".into(), text(SECRET.into()))].into())),
        ("wide".into(), Value::TimestampMillis(wide)),
    ]);
    Encoder::new(&contract.schema).unwrap().encode(&event).unwrap()
}

fn assert_hidden(letter: &DeadLetter) {
    let decoded = letter.decoded.clone().unwrap_or_default();
    let about = letter.rejection.about.clone().unwrap_or_default();
    for said in [&letter.rejection.detail, &*letter.rejection.reason, &about, &decoded] {
        for secret in [SECRET, &NUMBER.to_string(), &i64::MAX.to_string()] {
            assert!(!said.contains(secret), "{said}");
        }
    }
}

#[test]
fn each_stage_says_what_it_is_about_and_no_private_value() {
    let contract = Arc::new(contract());
    let whole = body(&contract, "fine", "", 0);
    let cut = whole.get(..whole.len() - 20).unwrap().to_vec();
    let bodies = [
        [&whole[..], b"more"].concat(),
        cut,
        body(&contract, "rule", "", 0),
        body(&contract, "error", "", 0),
        body(&contract, "label", "", 0),
        body(&contract, "fine", "\0", 0),
        body(&contract, "fine", "", i64::MAX),
    ];
    let said = bodies.iter().map(|body| {
        let letter = letter(&contract, body).unwrap();
        assert_hidden(&letter);
        format!("{}: {}", letter.rejection.reason, letter.rejection.detail)
    });
    insta::assert_snapshot!(said.collect::<Vec<_>>().join("\n"), @r#"
    trailing_bytes: not shown: it may have private values
    truncated_body: not shown: it may have private values
    rule:small: does not hold: message.shape != 'rule' || message.amount < 10
    rule_error:known: can't be evaluated: message.shape != 'error' || params.limits[message.card] > 1
    label_error:owner: can't be evaluated: message.shape == 'label' ? params.names[message.card] : 'nobody'
    nul_character: "card"; the rest is not shown: it may have private values
    timestamp_out_of_range: "wide"; the rest is not shown: it may have private values
    "#);
    let letter = letter(&contract, &bodies[2]).unwrap();
    insta::assert_snapshot!(letter.decoded.unwrap(), @r#"{"amount":"***","card":"***","event_id":"e1","notes":"***","shape":"rule","wide":"***"}"#);
    assert_eq!(letter.event_id.unwrap(), "e1");
}

proptest! {
    /// Right events, those that a rule, a label or the table's types refuse, and all of them damaged.
    #[test]
    fn no_value_of_a_private_field_is_in_a_dead_letter(
        shape in prop::sample::select(vec!["rule", "error", "overflow", "label", "fine"]),
        tail in prop::sample::select(vec!["", "\0", "é", "!"]),
        wide in prop::sample::select(vec![0, i64::MAX]),
        // half of them are whole: what is damaged seldom gets as far as the rules
        (cut, flipped, more) in prop_oneof![
            Just((None, Vec::new(), Vec::new())),
            (
                prop::option::of(any::<Index>()),
                prop::collection::vec((any::<Index>(), any::<u8>()), 0..3),
                prop::collection::vec(any::<u8>(), 0..3),
            ),
        ],
    ) {
        let contract = Arc::new(contract());
        let mut body = body(&contract, shape, tail, wide);
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        let flipped = if body.is_empty() { Vec::new() } else { flipped };
        for (at, byte) in &flipped {
            // behind the fields that may be seen: a damaged length moves what follows into them
            let first = 10.min(body.len() - 1);
            let at = first + at.index(body.len() - first);
            body[at] = *byte;
        }
        body.extend(more);
        if let Some(letter) = letter(&contract, &body) {
            assert_hidden(&letter);
        }
    }
}
