//! Whatever comes in, what is accepted encodes, decodes and is what it was.

use proptest::prelude::*;

use super::*;

/// Every Avro type and logical type, named types that are referred to, and defaults.
fn every_type() -> Json {
    let plain = |name: &str| (name.to_owned(), json!(name), json!(7));
    let logical = |base: &str, name: &str| {
        (name.to_owned(), json!({"type": base, "logicalType": name}), json!(0))
    };
    let nullable =
        |name: &str, schema: Json| (name.to_owned(), json!(["null", schema]), json!(null));
    let with_default = |name: &str, schema: Json, default: Json| (name.to_owned(), schema, default);
    let fixed = |name: &str, size: u8| json!({"type": "fixed", "name": name, "size": size});
    let mut decimal =
        json!({"logicalType": "decimal", "precision": 9, "scale": 2, "type": "bytes"});
    let bytes_decimal = with_default("decimal", decimal.clone(), json!("\u{1}"));
    decimal["type"] = fixed("Eight", 8);
    let tree = json!({"type": "record", "name": "Tree", "fields": [
        {"name": "leaf", "type": "Kind"},
        {"name": "branch", "type": ["null", "Tree"], "default": null}]});
    let kind = json!({"type": "enum", "name": "Kind", "symbols": ["x", "y"]});
    let mut uuid = fixed("Sixteen", 16);
    uuid["logicalType"] = json!("uuid");
    let mut duration = fixed("Twelve", 12);
    duration["logicalType"] = json!("duration");
    let fields = [
        plain("int"),
        plain("long"),
        plain("float"),
        plain("double"),
        with_default("boolean", json!("boolean"), json!(true)),
        with_default("string", json!("string"), json!("seven")),
        with_default("bytes", json!("bytes"), json!("\u{7}\u{0}")),
        with_default("fixed", fixed("Two", 2), json!("ab")),
        with_default("named_fixed", json!("Two"), json!("cd")),
        with_default("enum", kind, json!("y")),
        with_default(
            "array",
            json!({"type": "array", "items": ["null", "int", "string"]}),
            json!([]),
        ),
        with_default("map", json!({"type": "map", "values": "Kind"}), json!({})),
        nullable("tree", tree),
        bytes_decimal,
        nullable("fixed_decimal", decimal),
        nullable("big_decimal", json!({"type": "bytes", "logicalType": "big-decimal"})),
        nullable("uuid", json!({"type": "string", "logicalType": "uuid"})),
        nullable("fixed_uuid", uuid),
        nullable("duration", duration),
        logical("int", "date"),
        logical("int", "time-millis"),
        logical("long", "time-micros"),
        logical("long", "timestamp-millis"),
        logical("long", "timestamp-micros"),
        logical("long", "timestamp-nanos"),
        logical("long", "local-timestamp-millis"),
        logical("long", "local-timestamp-micros"),
        logical("long", "local-timestamp-nanos"),
        with_default("nothing", json!("null"), json!(null)),
    ];
    // every one of them is part of the id, so that ids are made of every type as well
    let names: Vec<_> = fields.iter().map(|(name, ..)| name.replace('-', "_")).collect();
    let id = json!({"name": "event_id", "type": {"type": "string", "logicalType": "uuid"}});
    let fields = fields.into_iter().zip(&names).map(
        |((_, schema, default), name)| json!({"name": name, "type": schema, "default": default}),
    );
    let fields: Vec<_> = std::iter::once(id).chain(fields).collect();
    json!({"type": "record", "name": "Every", "namespace": "test", "fields": fields,
        "sluicegate": {"id_from": names}})
}

/// Values that are often right for some type, so that the accepting paths are walked as well.
fn plausible() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        (-100_000_000_i64..100_000_000).prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<i64>().prop_map(|number| Json::from(number.to_string())),
        any::<f64>().prop_map(|number| Json::from(number.to_string())),
        "[-+]?[0-9]{0,12}[.]?[0-9]{0,4}(e[-+]?[0-9]{1,6})?".prop_map(Json::from),
        "[0-9]{4}-[01][0-9]-[0-3][0-9]".prop_map(Json::from),
        "[0-9]{4}-0[1-9]-[0-2][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9]([.][0-9]{1,12})?"
            .prop_map(Json::from),
        "[0-9]{4}-0[1-9]-[0-2][0-9][T ][0-2][0-9]:[0-5][0-9](Z|[-+][0-2][0-9]:?[0-5][0-9])"
            .prop_map(Json::from),
        "[0-2][0-9]:[0-5][0-9](:[0-5][0-9]([.][0-9]{1,9})?)?".prop_map(Json::from),
        "P([0-9]{1,3}[YMWD]){0,3}(T([0-9]{1,5}[HMS]){0,3})?".prop_map(Json::from),
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}".prop_map(Json::from),
        "[\\x00-\\xff]{2}".prop_map(Json::from),
        Just(json!("x")),
        Just(json!(["x", 1, null])),
        Just(json!({"leaf": "x", "branch": {"leaf": "y"}, "other": 1})),
        Just(json!({"key": "y"})),
        any::<String>().prop_map(Json::from),
    ]
}

/// Mostly values that are right somewhere, at times with other values inside.
fn anything() -> impl Strategy<Value = Json> {
    let nested = plausible().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map("leaf|branch|[a-z]{0,3}", inner, 0..4)
                .prop_map(Json::from_iter),
        ]
    });
    prop_oneof![3 => plausible(), 1 => nested]
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() }
}

proptest! {
    #![proptest_config(config())]

    /// One field at a time, because a record of thirty arbitrary values is hardly ever accepted.
    #[test]
    fn whatever_is_accepted_encodes_and_decodes(value in anything()) {
        let stream = Stream::of("every", &every_type());
        let Schema::Record(record) = &stream.schema else { unreachable!() };
        for field in &record.fields {
            for mode in [Mode::Json, Mode::Text] {
                let row = Json::from_iter([(field.name.clone(), value.clone())]);
                if let Ok(reading) = stream.read(mode, row) {
                    prop_assert_eq!(stream.through_avro(&reading), reading);
                }
            }
        }
    }

    #[test]
    fn a_row_of_any_shape_is_read_or_rejected(row in anything(), text: bool) {
        let stream = Stream::of("every", &every_type());
        let mode = if text { Mode::Text } else { Mode::Json };
        if let Err(rejected) = stream.read(mode, row.clone()) {
            prop_assert!(!rejected.reason.is_empty());
            prop_assert_eq!(rejected.row, row);
        }
    }
}
