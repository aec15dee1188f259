//! Rules and labels over events of every type, decoded from any bytes that make one.
#![no_main]

use std::{path::Path, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use sluicegate::{codec::WriterSchema, contract::Contract};
use sluicegate_fuzz::{EVERYTHING, decide, everything, seed};

static WRITER: LazyLock<WriterSchema> = LazyLock::new(|| {
    let schema = &everything().schema;
    WriterSchema::new(schema, schema)
});

/// A rule's text, a zero byte, and an event's body.
fuzz_target!(init: seed("rules"), |data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (Some(rule), Some(body)) = (parts.next(), parts.next()) else { return };
    let Ok(rule) = str::from_utf8(rule) else { return };
    let ours = everything();
    let Ok(decoder) = WRITER.decoder(&ours.schema) else { return };
    let Ok(event) = decoder.decode(body) else { return };
    if rule.is_empty() {
        _ = decide(ours, &event);
        return;
    }
    let mut json: serde_json::Value = serde_json::from_str(EVERYTHING).expect("it is JSON");
    json["sluicegate"]["rules"] = serde_json::json!([{"name": "rule", "check": rule}]);
    if let Ok(contract) = Contract::parse(Path::new("everything.avsc"), json.to_string()) {
        _ = decide(&contract, &event);
    }
});
