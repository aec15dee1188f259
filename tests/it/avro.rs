//! Avro by hand, so that a test can also write what no library would.

use sluicegate::wire::{SchemaId, frame};

/// The bytes of an int or a long.
pub fn long(value: i64) -> Vec<u8> {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while zigzag > 0x7f {
        bytes.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    bytes.push(zigzag as u8);
    bytes
}

/// The bytes of a double.
pub fn double(value: f64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

/// The bytes of a string, or of bytes, with their length.
pub fn string(value: impl AsRef<[u8]>) -> Vec<u8> {
    [long(value.as_ref().len() as i64), value.as_ref().to_vec()].concat()
}

/// The bytes of an array or a map, from those of its items.
pub fn items(items: &[Vec<u8>]) -> Vec<u8> {
    if items.is_empty() {
        return long(0);
    }
    [long(items.len() as i64), items.concat(), long(0)].concat()
}

/// The value of a record that [`crate::support::readings`] describes.
pub fn reading(schema_id: u32, event_id: &str, ts: i64, value: f64) -> Option<Vec<u8>> {
    let body = [string(event_id), string("d1"), long(ts), double(value)].concat();
    Some(frame(SchemaId(schema_id), &body))
}

/// A UUID that a number makes.
pub fn id(number: u64) -> String {
    uuid::Uuid::from_u64_pair(0, number).to_string()
}
