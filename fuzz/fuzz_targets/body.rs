//! A record's value, header and body, of any of the contracts' schemas.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sluicegate::codec::WriterSchema;
use sluicegate_fuzz::{CONTRACTS, contract, land, seed};

static WRITERS: LazyLock<Vec<WriterSchema>> =
    LazyLock::new(|| CONTRACTS.iter().map(|c| WriterSchema::new(&c.schema, &c.schema)).collect());

fuzz_target!(init: seed("body"), |data: &[u8]| {
    let Some((number, value)) = data.split_first() else { return };
    let writer = &WRITERS[usize::from(*number) % WRITERS.len()];
    _ = land(contract(*number), writer, value);
});
