//! What may be seen of an event. Whatever is shown of one passes through here, so that there is one
//! place that says what is not shown.

use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::contract::Contract;

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

    /// A record's key. Where it is a field's value, it is shown as that field is.
    pub fn of_key(contract: Option<&Contract>, key: &[u8]) -> Preview {
        let preview = Preview::of(key);
        let field = contract.and_then(|contract| contract.columns.get(contract.key?));
        let (Preview::Text(text), Some(field)) = (&preview, field) else { return preview };
        let event = Map::from_iter([(field.name.clone(), Json::String(text.clone()))]);
        match shown(contract, Json::Object(event)).get(&field.name) {
            Some(Json::String(text)) => Preview::Text(text.clone()),
            Some(other) => Preview::Text(other.to_string()),
            None => preview,
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
}
