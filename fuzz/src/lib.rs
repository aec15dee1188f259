//! What the fuzz targets share: contracts, and the way of one value through the pipeline.

mod seeds;

use std::{path::Path, sync::LazyLock};

use apache_avro::types::Value;
use sluicegate::{
    check::check,
    codec::{WriterSchema, cells, event_to_json},
    contract::{Contract, Scope},
    failure::Rejection,
    label::{Fact, label},
    sink::RowEncoder,
    wire,
};
use time::OffsetDateTime;
use uuid::Uuid;

pub use seeds::seed;

/// Every type, with rules and labels over each.
pub const EVERYTHING: &str = include_str!("../everything.avsc");

/// The contract of [`EVERYTHING`], and the repository's own.
pub static CONTRACTS: LazyLock<Vec<Contract>> = LazyLock::new(|| {
    let schemas = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas"));
    let mut contracts = Contract::read_all(schemas).expect("the repository's contracts hold");
    let text = EVERYTHING.to_owned();
    contracts.push(Contract::parse(Path::new("everything.avsc"), text).expect("this one too"));
    contracts
});

/// A contract by any number.
pub fn contract(number: u8) -> &'static Contract {
    &CONTRACTS[usize::from(number) % CONTRACTS.len()]
}

/// The contract of [`EVERYTHING`].
pub fn everything() -> &'static Contract {
    CONTRACTS.last().expect("there is one")
}

/// Header, decoder, rules, labels, row and JSON.
pub fn land(contract: &Contract, writer: &WriterSchema, value: &[u8]) -> Result<(), Rejection> {
    let Ok((_, body)) = wire::split(Some(value)) else { return Ok(()) };
    let event = writer.decoder(&contract.schema)?.decode(body)?;
    decide(contract, &event)
}

/// Everything that follows once the event is there.
pub fn decide(contract: &Contract, event: &[(String, Value)]) -> Result<(), Rejection> {
    let scope = Scope::new(contract, OffsetDateTime::UNIX_EPOCH);
    _ = event_to_json(&contract.schema, event).to_string();
    let cells = cells(event, &contract.columns);
    let kept = check(&cells, contract, &scope);
    let labels = label(&cells, contract, &scope);
    let rows = RowEncoder::new(contract).expect("a contract's schema is usable");
    let mut row = Vec::new();
    _ = rows.encode(&cells, [], Uuid::nil(), &mut row);
    let labels = labels?;
    rows.encode(&cells, labels.iter().map(Fact::cell), Uuid::nil(), &mut row)?;
    kept
}
