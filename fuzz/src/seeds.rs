//! What a corpus begins with: real events, the repository's contracts, and rules.

use std::{fs, path::Path};

use sluicegate::{codec::Encoder, contract::Contract, source::simulate::Generic, wire};
use time::OffsetDateTime;

use crate::CONTRACTS;

/// How many events of each contract.
const EVENTS: u64 = 5;

/// Writes a target's seeds into its corpus.
pub fn seed(target: &str) {
    // libFuzzer's hook would abort where a panic of the CEL library is caught; one that nobody
    // catches aborts all the same
    _ = std::panic::take_hook();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    for (number, seed) in seeds(target).into_iter().enumerate() {
        let written = fs::create_dir_all(&corpus)
            .and_then(|()| fs::write(corpus.join(format!("seed-{number}")), seed));
        written.expect("the corpus can be written");
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let of = |contract, f: &dyn Fn(Vec<u8>) -> Vec<u8>| -> Vec<Vec<u8>> {
        (0..EVENTS).map(|seed| f(body(contract, seed))).collect()
    };
    let contracts = || (0_u8..).zip(CONTRACTS.iter());
    match target {
        "contract" => contracts().map(|(_, contract)| contract.text.clone().into_bytes()).collect(),
        "body" => {
            let value = |number, body: Vec<u8>| {
                [&[number][..], &wire::frame(wire::SchemaId(1), &body)].concat()
            };
            contracts()
                .flat_map(|(number, contract)| of(contract, &|body| value(number, body)))
                .collect()
        }
        "writer" => contracts()
            .flat_map(|(_, contract)| {
                let text = contract.schema.canonical_form();
                of(contract, &|body| [text.as_bytes(), &[0], &body].concat())
            })
            .collect(),
        _ => {
            let ours = crate::everything();
            let rules = ours.rules.iter().map(|rule| rule.check.source.as_str());
            (0..)
                .zip(rules.chain([""]))
                .map(|(seed, rule)| [rule.as_bytes(), &[0], &body(ours, seed)].concat())
                .collect()
        }
    }
}

fn body(contract: &Contract, seed: u64) -> Vec<u8> {
    let mut source = Generic::new(contract.schema.clone(), seed, None, None);
    let event = source.next(OffsetDateTime::UNIX_EPOCH);
    let encoder = Encoder::new(&contract.schema).expect("a contract's schema is usable");
    encoder.encode(&event).expect("the event is of the schema")
}
