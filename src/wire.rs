//! The Confluent wire format: how an event says which schema it was written with.
//!
//! ```text
//! byte 0      magic byte, always 0
//! bytes 1-4   schema id, big endian
//! bytes 5-    the event in Avro's binary encoding
//! ```
//!
//! Everything here is pure and meets foreign bytes: any value is answered, none panics.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::fmt;

/// The byte that every value in this format begins with.
const MAGIC_BYTE: u8 = 0;

/// How many bytes stand before the event itself.
pub const HEADER_LENGTH: usize = 5;

/// Parts a value into the id of its writer's schema and the Avro bytes after the header.
///
/// An empty body is left to the decoder: a record without fields has no bytes.
pub fn split(value: Option<&[u8]>) -> Result<(SchemaId, &[u8]), WireError> {
    let value = value.ok_or(WireError::Tombstone)?;
    let truncated = WireError::TruncatedHeader { length: value.len() };
    let (&magic, rest) = value.split_first().ok_or(WireError::EmptyValue)?;
    if magic != MAGIC_BYTE {
        return Err(WireError::BadMagicByte { byte: magic });
    }
    let (id, body) = rest.split_first_chunk::<4>().ok_or(truncated)?;
    Ok((SchemaId(u32::from_be_bytes(*id)), body))
}

/// Puts the header before an event's Avro bytes.
pub fn frame(id: SchemaId, body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER_LENGTH.saturating_add(body.len()));
    write_header(id, &mut value);
    value.extend_from_slice(body);
    value
}

/// Appends the header alone, for encoders that write the event into the same buffer.
pub fn write_header(id: SchemaId, buffer: &mut Vec<u8>) {
    buffer.push(MAGIC_BYTE);
    buffer.extend_from_slice(&id.0.to_be_bytes());
}

/// The id under which the registry keeps a schema.
///
/// The header has room for every `u32`; a registry's ids stop at `i32::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaId(pub u32);

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a value is not in the wire format: always the record's own fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The record has a key and no value.
    #[error("the record is a tombstone: it has no value")]
    Tombstone,
    /// The value is there and has no bytes.
    #[error("the value is empty: it lacks the {HEADER_LENGTH}-byte schema header")]
    EmptyValue,
    /// The first byte is another one than the format's.
    #[error("the value begins with byte {byte:#04x} instead of 0x00, so it has no schema header")]
    BadMagicByte {
        /// The byte found.
        byte: u8,
    },
    /// The value ends inside the header.
    #[error("the value has {length} bytes and its schema header alone needs {HEADER_LENGTH}")]
    TruncatedHeader {
        /// The length of the whole value.
        length: usize,
    },
}

impl WireError {
    /// The code that dead letters and metrics carry; never changes.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Tombstone => "tombstone",
            Self::EmptyValue => "empty_value",
            Self::BadMagicByte { .. } => "bad_magic_byte",
            Self::TruncatedHeader { .. } => "truncated_header",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn header_is_magic_byte_and_big_endian_id() {
        assert_eq!(frame(SchemaId(258), b"ab"), [0, 0, 0, 1, 2, b'a', b'b']);
        assert_eq!(split(Some(&[0, 0, 0, 1, 2])), Ok((SchemaId(258), &[][..])));
    }

    #[test]
    fn each_fault_has_its_reason() {
        let cases: [(Option<&[u8]>, &str, &str); 5] = [
            (None, "tombstone", "no value"),
            (Some(b""), "empty_value", "empty"),
            (Some(b"{\"a\":1}"), "bad_magic_byte", "0x7b"),
            (Some(&[0]), "truncated_header", "1 bytes"),
            (Some(&[0, 0, 0, 1]), "truncated_header", "4 bytes"),
        ];
        for (value, reason, text) in cases {
            let error = split(value).unwrap_err();
            assert_eq!(error.reason(), reason);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    proptest! {
        #[test]
        fn framed_values_split_into_what_they_were_made_of(
            id in any::<u32>(),
            body in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let value = frame(SchemaId(id), &body);
            prop_assert_eq!(split(Some(&value)), Ok((SchemaId(id), &body[..])));
        }

        #[test]
        fn any_bytes_are_split_or_refused_for_what_they_lack(
            value in proptest::collection::vec(prop_oneof![any::<u8>(), Just(MAGIC_BYTE)], 0..16),
        ) {
            match split(Some(&value)) {
                Ok((id, body)) => prop_assert_eq!(frame(id, body), value),
                Err(error) => {
                    let reason = match value[..] {
                        [] => "empty_value",
                        [MAGIC_BYTE, ..] => "truncated_header",
                        _ => "bad_magic_byte",
                    };
                    prop_assert_eq!(error.reason(), reason);
                    prop_assert!(value.len() < HEADER_LENGTH || value[0] != MAGIC_BYTE);
                }
            }
        }
    }
}
