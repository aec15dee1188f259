//! What may be seen of an event. Whatever is shown of one passes through here, so that there is one
//! place that says what is not shown.

use serde::Serialize;
use serde_json::Value as Json;

use crate::contract::{Contract, MASK};

/// A decoded event, or a part of one under the names of its fields, as it may be shown.
pub fn shown(contract: Option<&Contract>, event: Json) -> Json {
    match contract {
        Some(contract) => contract.shown(event),
        None => event,
    }
}

/// Bytes as a person may see them: text where all of it can be printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Preview {
    /// Text.
    Text(String),
    /// Two digits a byte.
    Hex(String),
}

impl Preview {
    /// Bytes as they are.
    pub fn of(bytes: &[u8]) -> Preview {
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains(char::is_control) => Preview::Text(text.to_owned()),
            _ => Preview::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    /// A record's key. Where it is a private field's value it is not shown, whatever its bytes.
    pub fn of_key(contract: Option<&Contract>, key: &[u8]) -> Preview {
        let field = contract.and_then(|contract| contract.columns.get(contract.key?));
        let is_private =
            |contract: &Contract| field.is_some_and(|field| contract.private.contains(&field.name));
        match contract.is_some_and(is_private) {
            true => Preview::Text(MASK.into()),
            false => Preview::of(key),
        }
    }
}

impl std::fmt::Display for Preview {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Preview::Text(text) => write!(f, "{text:?}"),
            Preview::Hex(digits) => write!(f, "0x{digits}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_are_text_where_all_of_it_can_be_printed() {
        for (bytes, expected) in [
            (&b"d-17"[..], "\"d-17\""),
            ("grüße".as_bytes(), "\"grüße\""),
            (b"", "\"\""),
            (b"a\nb", "0x610a62"),
            (b"\xff\x00", "0xff00"),
        ] {
            assert_eq!(Preview::of(bytes).to_string(), expected);
        }
    }

    #[test]
    fn a_private_key_is_masked_whatever_its_bytes() {
        let contract = |private: Json| {
            let schema = json!({
                "type": "record", "name": "Payment",
                "sluicegate": {"key": "card", "private": private},
                "fields": [
                    {"name": "event_id", "type": "string"},
                    {"name": "card", "type": "string"},
                ],
            });
            Contract::parse("payments.avsc".as_ref(), schema.to_string()).unwrap()
        };
        let (private, open) = (contract(json!(["card"])), contract(json!([])));
        for key in [&b"hunter2"[..], b"\0hunter2", b"\xff\x00"] {
            assert_eq!(Preview::of_key(Some(&private), key), Preview::Text(MASK.into()));
            assert_eq!(Preview::of_key(Some(&open), key), Preview::of(key));
        }
    }
}
