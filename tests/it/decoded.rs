//! Every contract in `schemas/` has a snapshot of what its events are decoded, labelled and shown as.

use std::collections::BTreeMap;

use apache_avro::types::Value;
use serde_json::{Value as Json, json};
use sluicegate::{
    check::check,
    codec::{Encoder, WriterSchema, cells, event_to_json},
    contract::{Contract, Identity, Scope},
    label::label,
    source::simulate::{Generic, Simulator},
    wire::{self, SchemaId},
};
use time::{Duration, OffsetDateTime, macros::datetime};

use crate::support::repository;

/// When the first reading happens.
const START: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

/// How many readings of a stream are kept.
const KEPT: usize = 3;

/// How many readings are made until so many keep the contract's rules.
const MADE: i64 = 1_000;

#[test]
fn every_contracts_events_are_decoded_and_labelled_as_reviewed() {
    for contract in Contract::read_all(&repository("schemas")).unwrap() {
        let readings = readings(&contract);
        assert_eq!(readings.len(), KEPT, "too few readings of {} are valid", contract.stream);
        let shown: Vec<Json> = readings.iter().map(|reading| shown(&contract, reading)).collect();
        insta::with_settings!({sort_maps => true, omit_expression => true}, {
            insta::assert_yaml_snapshot!(&*contract.stream, shown);
        });
    }
}

/// The first readings that keep the contract's rules.
fn readings(contract: &Contract) -> Vec<Value> {
    const SEED: u64 = 7;
    let typed = Simulator::typed(&contract.stream, &contract.schema, SEED).unwrap();
    let mut simulator = typed.unwrap_or_else(|| {
        let name = |index: usize| contract.columns[index].name.clone();
        let id = match contract.identity {
            Identity::Field(index) => Some(name(index)),
            Identity::Coordinates => None,
        };
        let schema = contract.schema.clone();
        Simulator::Generic(Generic::new(schema, SEED, contract.time.map(name), id))
    });
    let made = (0..MADE).map(|second| simulator.next(START + Duration::seconds(second)).unwrap());
    let is_valid = |reading: &Value| {
        let Value::Record(event) = reading else { panic!("{reading:?} is no record") };
        check(&cells(event, &contract.columns), contract, &scope(contract)).is_ok()
    };
    made.filter(is_valid).take(KEPT).collect()
}

/// A reading, once it has been written and read, with what is derived from it.
fn shown(contract: &Contract, reading: &Value) -> Json {
    let body = Encoder::new(&contract.schema).unwrap().encode(reading).unwrap();
    let value = wire::frame(SchemaId(1), &body);
    let (_, body) = wire::split(Some(&value)).unwrap();
    let schema = WriterSchema::new(&contract.schema, &contract.schema);
    let event = schema.decoder(&contract.schema).unwrap().decode(body).unwrap();
    assert_eq!(Value::Record(event.clone()), *reading);
    let (cells, scope) = (cells(&event, &contract.columns), scope(contract));
    let labels = label(&cells, contract, &scope).unwrap();
    let labels = contract.labels.iter().zip(labels);
    json!({
        "event": event.iter().map(|(name, value)| (name, text(value))).collect::<BTreeMap<_, _>>(),
        "labels": labels.map(|(label, value)| (&label.name, format!("{value:?}"))).collect::<BTreeMap<_, _>>(),
        "json": event_to_json(&contract.schema, &event),
    })
}

fn scope(contract: &Contract) -> Scope {
    Scope::new(contract, START + Duration::seconds(MADE))
}

/// A value as Rust writes it, the entries of maps in order.
fn text(value: &Value) -> String {
    match value {
        Value::Union(branch, value) => format!("Union({branch}, {})", text(value)),
        Value::Map(entries) => {
            let entries: BTreeMap<_, _> =
                entries.iter().map(|(key, value)| (key, text(value))).collect();
            format!("Map({entries:?})")
        }
        value => format!("{value:?}"),
    }
}
