//! A contract's text, its rules tried on made-up events among the rest.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sluicegate::contract::Contract;
use sluicegate_fuzz::seed;

fuzz_target!(init: seed("contract"), |data: &str| {
    match Contract::parse(Path::new("stream.avsc"), data.to_owned()) {
        Ok(contract) => drop(contract.table_columns()),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
});
