//! How deep a schema's types are nested.
//!
//! apache-avro decodes by recursion, so it is the schema that decides how deep the stack gets;
//! where a type contains itself it is the bytes.

use std::collections::HashMap;

use apache_avro::{
    Schema,
    schema::{Name, NamesRef, NamespaceRef, ResolvedSchema},
};

/// How deep types may be nested, references followed. Real schemas have a tenth of that.
pub const DEEPEST: usize = 64;

/// Why values of a schema are not bounded in their depth, if so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unbounded {
    /// A record has itself somewhere in it.
    #[error("a type contains itself")]
    ContainsItself,
    /// No real schema does that.
    #[error("types are nested more than {DEEPEST} levels deep")]
    TooDeep,
}

/// Whether every type of a schema ends within [`DEEPEST`] levels.
pub fn bounded(schema: &Schema) -> Result<(), Unbounded> {
    // a reference that leads nowhere is somebody else's to report
    let Ok(resolved) = ResolvedSchema::new(schema) else { return Ok(()) };
    let mut nesting =
        Nesting { names: resolved.get_names(), open: Vec::new(), heights: HashMap::new() };
    nesting.height(schema, None, 0).map(drop)
}

struct Nesting<'s> {
    names: &'s NamesRef<'s>,
    /// The records that the walk is in.
    open: Vec<Name>,
    /// The records that it has been through, each with the levels below it.
    heights: HashMap<Name, usize>,
}

impl Nesting<'_> {
    /// How many levels there are from a type down; `depth` is how many there are above.
    fn height(
        &mut self,
        schema: &Schema,
        namespace: NamespaceRef,
        depth: usize,
    ) -> Result<usize, Unbounded> {
        let depth = depth.saturating_add(1);
        if depth > DEEPEST {
            return Err(Unbounded::TooDeep);
        }
        let below = match schema {
            Schema::Array(array) => self.height(&array.items, namespace, depth)?,
            Schema::Map(map) => self.height(&map.types, namespace, depth)?,
            Schema::Union(union) => self.highest(union.variants(), namespace, depth)?,
            Schema::Ref { name } => return self.reference(name, namespace, depth),
            Schema::Record(record) => {
                let name = record.name.fully_qualified_name(namespace).into_owned();
                if self.open.contains(&name) {
                    return Err(Unbounded::ContainsItself);
                }
                self.open.push(name.clone());
                let fields = record.fields.iter().map(|field| &field.schema);
                let below = self.highest(fields, name.namespace(), depth)?;
                self.open.pop();
                self.heights.insert(name, below.saturating_add(1));
                below
            }
            _ => 0,
        };
        Ok(below.saturating_add(1))
    }

    fn highest<'s>(
        &mut self,
        schemas: impl IntoIterator<Item = &'s Schema>,
        namespace: NamespaceRef,
        depth: usize,
    ) -> Result<usize, Unbounded> {
        let mut heights = schemas.into_iter().map(|schema| self.height(schema, namespace, depth));
        heights.try_fold(0, |highest, height| Ok(highest.max(height?)))
    }

    fn reference(
        &mut self,
        name: &Name,
        namespace: NamespaceRef,
        depth: usize,
    ) -> Result<usize, Unbounded> {
        let name = name.fully_qualified_name(namespace).into_owned();
        // the definition is where the reference is
        let depth = depth.saturating_sub(1);
        if self.open.contains(&name) {
            return Err(Unbounded::ContainsItself);
        }
        match (self.heights.get(&name), self.names.get(&name)) {
            (Some(height), _) if depth.saturating_add(*height) > DEEPEST => Err(Unbounded::TooDeep),
            (Some(height), _) => Ok(*height),
            (None, Some(schema @ Schema::Record(_))) => {
                self.height(schema, name.namespace(), depth)
            }
            (None, _) => Ok(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn of(json: &Json) -> Result<(), Unbounded> {
        bounded(&Schema::parse_str(&json.to_string()).unwrap())
    }

    fn node(kind: Json) -> Json {
        json!({"type": "record", "name": "a.Node", "fields": [{"name": "next", "type": kind}]})
    }

    #[test]
    fn a_type_inside_itself_is_found_at_any_depth() {
        let nested = json!({"type": "array", "items": {"type": "map", "values": "a.Node"}});
        for kind in [json!(["null", "Node"]), nested] {
            assert_eq!(of(&node(kind)), Err(Unbounded::ContainsItself));
        }
        assert_eq!(of(&node(json!({"type": "array", "items": "long"}))), Ok(()));
    }

    #[test]
    fn a_type_that_is_used_twice_is_not_recursive() {
        let schema = json!({"type": "record", "name": "Pair", "fields": [
            {"name": "left", "type": {"type": "record", "name": "Leaf", "fields": []}},
            {"name": "right", "type": "Leaf"}]});
        assert_eq!(of(&schema), Ok(()));
    }

    #[test]
    fn nesting_is_counted_through_arrays_and_references() {
        let arrays = |levels: usize| {
            let array = |items| json!({"type": "array", "items": items});
            node((0..levels).fold(json!("int"), |items, _| array(items)))
        };
        // the record above them, and the ints in them
        assert_eq!(of(&arrays(DEEPEST - 2)), Ok(()));
        assert_eq!(of(&arrays(DEEPEST - 1)), Err(Unbounded::TooDeep));

        // each type holds the one before, and each is defined beside the others
        let chain = |levels: usize| {
            let holds = |index: usize| match index {
                0 => json!("int"),
                _ => json!(format!("T{}", index - 1)),
            };
            let field = |index: usize| {
                let inner = json!({"name": "x", "type": holds(index)});
                let kind =
                    json!({"type": "record", "name": format!("T{index}"), "fields": [inner]});
                json!({"name": format!("f{index}"), "type": kind})
            };
            json!({"type": "record", "name": "R", "fields": (0..levels).map(field).collect::<Vec<_>>()})
        };
        assert_eq!(of(&chain(DEEPEST - 2)), Ok(()));
        assert_eq!(of(&chain(DEEPEST - 1)), Err(Unbounded::TooDeep));
        assert_eq!(of(&chain(50_000)), Err(Unbounded::TooDeep));
    }
}
