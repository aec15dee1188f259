use super::*;

fn sent(text: &str) -> Sent {
    Sent { schema: text.to_owned(), kind: None, references: Vec::new() }
}

#[test]
fn a_schema_is_known_again_as_java_writes_it() {
    let mut store = Store::default();
    let ours = r#"{"type": "record", "namespace": "a", "name": "R", "sluicegate": {"x": 1},
        "fields": [{"name": "f", "type": {"type": "string"}}]}"#;
    let javas = r#"{"type":"record","name":"R","namespace":"a","fields":[{"name":"f",
        "type":"string"}],"sluicegate":{"x":1}}"#;
    let other = javas.replace(r#""x":1"#, r#""x":2"#);
    let id = store.register("s", sent(ours)).unwrap();
    assert_eq!(store.find("s", &sent(javas), false).map(|(version, _)| version), Ok(1));
    assert_eq!(store.register("s", sent(javas)), Ok(id));
    // an attribute of somebody's is a part of it
    assert_ne!(store.register("s", sent(&other)), Ok(id));
}

#[test]
fn the_latest_that_is_deleted_is_the_latest_that_is_there() {
    let mut store = Store::default();
    let text = |default: u32| {
        format!(
            r#"{{"type": "record", "name": "R", "fields": [{{"name": "f", "type": "int",
                "default": {default}}}]}}"#
        )
    };
    for default in [1, 2] {
        store.register("s", sent(&text(default))).unwrap();
    }
    assert_eq!(store.delete_version("s", Which::Number(2), false), Ok(2));
    assert_eq!(store.delete_version("s", Which::Latest, false), Ok(1));
    // gone for good, it is found by its id no more, and neither is its id anybody else's
    assert!(store.schema(2).is_ok());
    assert_eq!(store.delete_version("s", Which::Number(2), true), Ok(2));
    assert_eq!(store.schema(2).unwrap_err(), Refusal::NoSchema);
    assert_eq!(store.register("t", sent(&text(2))), Ok(3));
}
