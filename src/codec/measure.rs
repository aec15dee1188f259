//! A body's measure: how much memory its event takes, found without taking any.
//!
//! apache-avro believes a length up to a limit, and reserves for all the items that a count
//! announces. A few bytes can ask for any number of values that have no bytes themselves (nulls,
//! empty records), and for the sixteen-mebibyte limit over and over where arrays are nested. So
//! a body is gone through before, as its writer's schema says, and refused where it lies.

use apache_avro::{Schema, schema::NamesRef};

use super::walk::{FREE, Stop, VALUE, Walk};
use crate::failure::{Rejection, Stage};

/// What is said of a body that is too short.
pub(super) const TRUNCATED: &str = "the body ends before the event does";

/// Goes through a body that was written with `schema`, whose types end within some depth.
pub(super) fn measure(schema: &Schema, names: &NamesRef<'_>, body: &[u8]) -> Result<(), Rejection> {
    match Walk::new(names, body, ()).value(schema, None) {
        Ok(()) | Err(Stop::Malformed | Stop::NoBranch(_) | Stop::NoSymbol(_)) => Ok(()),
        Err(Stop::Truncated) => Err(Rejection::new(Stage::Decode, "truncated_body", TRUNCATED)),
        Err(Stop::Length(detail)) => {
            Err(Rejection::new(Stage::Decode, "length_out_of_bounds", detail))
        }
    }
}

/// Whether every body of a record of these fields may be read, for all that it takes. They have no
/// values inside, or one branch beside null; texts and bytes are a part of the body.
pub(super) fn is_free<'s>(fields: impl IntoIterator<Item = (&'s str, &'s Schema)>) -> bool {
    let takes = |(name, schema): (&str, &Schema)| {
        let symbols = match schema {
            Schema::Enum(symbols) => symbols.symbols.iter().map(String::len).max().unwrap_or(0),
            _ => 0,
        };
        [size_of::<String>(), 2_usize.saturating_mul(VALUE), symbols]
            .into_iter()
            .fold(name.len(), usize::saturating_add)
    };
    fields.into_iter().map(takes).fold(VALUE, usize::saturating_add) <= FREE
}
