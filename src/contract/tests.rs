//! The reader against anything that may be in a file.

use std::path::Path;

use proptest::{prelude::*, sample::Index};
use serde_json::{Map, Value as Json, json};

use super::Contract;

fn read(text: String) {
    match Contract::parse(Path::new("stream.avsc"), text) {
        Ok(contract) => assert!(!contract.columns.is_empty()),
        Err(problems) => assert!(!problems.is_empty()),
    }
}

/// The contract with every type, and rules over each.
fn everything() -> Json {
    serde_json::from_str(include_str!("../../fuzz/everything.avsc")).unwrap()
}

fn any_json() -> BoxedStrategy<Json> {
    let words = [
        "record",
        "fields",
        "type",
        "name",
        "array",
        "items",
        "map",
        "values",
        "int",
        "null",
        "fixed",
        "size",
        "decimal",
        "check",
        "rules",
        "message.number > 1.0",
        "1m",
        "at",
        "",
    ];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        prop::num::f64::ANY.prop_map(Json::from),
        any::<String>().prop_map(Json::from),
        prop::sample::select(words.to_vec()).prop_map(Json::from),
    ];
    let nested = leaf.prop_recursive(4, 32, 5, move |inner| {
        let key = prop::sample::select(words.to_vec()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
            prop::collection::btree_map(key, inner, 0..5)
                .prop_map(|entries| Json::Object(Map::from_iter(entries))),
        ]
    });
    nested.boxed()
}

/// Every place in a document, the document itself last.
fn places(json: &mut Json) -> usize {
    let below: usize = match json {
        Json::Array(items) => items.iter_mut().map(places).sum(),
        Json::Object(entries) => entries.values_mut().map(places).sum(),
        _ => 0,
    };
    below + 1
}

/// Puts something else in one place; counts down to it.
fn replace(json: &mut Json, place: &mut usize, with: &Json) {
    match json {
        Json::Array(items) => items.iter_mut().for_each(|item| replace(item, place, with)),
        Json::Object(entries) => entries.values_mut().for_each(|entry| replace(entry, place, with)),
        _ => {}
    }
    if *place == 0 {
        *json = with.clone();
    }
    *place = place.wrapping_sub(1);
}

proptest! {
    // each tries seventeen rules on a handful of events
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_contract_or_has_problems(text: String) {
        read(text);
    }

    #[test]
    fn any_attribute_is_read_or_has_problems(attribute in any_json(), fields in any_json()) {
        read(json!({"type": "record", "name": "R", "fields": fields}).to_string());
        let mut contract = everything();
        contract["sluicegate"] = attribute;
        read(contract.to_string());
    }

    #[test]
    fn a_contract_with_something_else_in_any_place_is_read_or_has_problems(
        changes in prop::collection::vec((any::<Index>(), any_json()), 1..4),
    ) {
        let mut contract = everything();
        for (place, with) in changes {
            let mut place = place.index(places(&mut contract));
            replace(&mut contract, &mut place, &with);
        }
        read(contract.to_string());
    }
}

#[test]
fn expressions_and_documents_however_deep_are_read_or_have_problems() {
    let deep = |levels: usize, [open, middle, close]: [&str; 3]| {
        [open.repeat(levels), middle.to_owned(), close.repeat(levels)].concat()
    };
    read(deep(100_000, ["[", "", "]"]));
    read(deep(100_000, [r#"{"type": "array", "items": "#, r#""int""#, "}"]));
    for parts in [
        ["(", "true", ")"],
        ["!", "true", ""],
        ["-", "1", ""],
        ["[", "1", "]"],
        ["{1: ", "1", "}"],
        ["true && ", "true", ""],
        ["1 + ", "1", ""],
        ["true ? true : ", "true", ""],
        ["", "message", ".flag"],
        ["", "message", "[0]"],
        ["size(", "1", ")"],
        ["[1].exists(x, ", "true", ")"],
    ] {
        // as long as an expression may be, and longer
        let longest = 4_000 / (parts[0].len() + parts[2].len());
        for levels in [50, 127, 129, longest, 100_000] {
            let mut contract = everything();
            let check = deep(levels, parts);
            contract["sluicegate"]["rules"] = json!([{"name": "deep", "check": check}]);
            read(contract.to_string());
        }
    }
}
