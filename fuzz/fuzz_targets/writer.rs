//! A writer's schema as anybody may register it, and a body written with it.
#![no_main]

use apache_avro::Schema;
use libfuzzer_sys::fuzz_target;
use sluicegate::codec::WriterSchema;
use sluicegate_fuzz::{everything, seed};

/// A schema's text, a zero byte, and a body; read with the schema itself and with ours.
fuzz_target!(init: seed("writer"), |data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (Some(text), Some(body)) = (parts.next(), parts.next()) else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    let Ok(schema) = Schema::parse_str(text) else { return };
    let ours = &everything().schema;
    for reader in [&schema, ours] {
        let writer = WriterSchema::new(&schema, reader);
        if let Ok(decoder) = writer.decoder(reader) {
            _ = decoder.decode(body);
        }
    }
});
