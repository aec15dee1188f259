//! Whether a reader's schema can read what was written with another, and where it cannot.
//!
//! Follows "Schema Resolution" of the Avro specification 1.12,
//! <https://avro.apache.org/docs/1.12.0/specification/#schema-resolution>, with every writer's
//! value in mind: a union or enum of the writer is readable only if each branch and symbol is.
//! In one point it is stricter: two different logical types over the same number (milliseconds
//! and microseconds, say) resolve by the specification and silently mean something else.
//!
//! apache_avro's `SchemaCompatibility` answers the same question without saying where, stops at
//! the first problem, and ignores the aliases of named types; a test compares the two.

use std::collections::HashMap;

use apache_avro::{
    Schema,
    schema::{
        EnumSchema, Name, NamesRef, RecordField, RecordSchema, ResolvedSchema, SchemaKind,
        UnionSchema,
    },
};

use super::types::{base, describe, means_the_same, promotes, same_name, size};

/// How deep schemas may nest before the comparison stops; recursion through named types counts
/// once, so only a made-up schema gets there.
const MAX_DEPTH: usize = 200;

/// Every place where data of the writer cannot be read by the reader, as a dotted field path
/// (`[]` for an array's items, `{}` for a map's values) with what was expected there. Empty when
/// all of it can be read.
pub fn incompatibilities(reader: &Schema, writer: &Schema) -> Vec<String> {
    compare(reader, writer, true)
}

/// The places where *no* data of the writer can be read. An enum's symbol that the reader lacks,
/// or a null where the reader has none, is a matter of the single value: the others can be read.
pub fn unreadable(reader: &Schema, writer: &Schema) -> Vec<String> {
    compare(reader, writer, false)
}

fn compare(reader: &Schema, writer: &Schema, every_value: bool) -> Vec<String> {
    let (readers, writers) = match (ResolvedSchema::new(reader), ResolvedSchema::new(writer)) {
        (Ok(readers), Ok(writers)) => (readers, writers),
        (Err(error), _) => return vec![format!("the reader's schema does not hold: {error}")],
        (_, Err(error)) => return vec![format!("the writer's schema does not hold: {error}")],
    };
    let mut comparison = Comparison {
        readers: readers.get_names(),
        writers: writers.get_names(),
        readable: Vec::new(),
        unreadable: HashMap::new(),
        every_value,
        depth: 0,
    };
    let mut problems = Vec::new();
    comparison.compare(reader, writer, "", &mut problems);
    problems
}

struct Comparison<'s> {
    readers: &'s NamesRef<'s>,
    writers: &'s NamesRef<'s>,
    /// Pairs of records, reader's first, that are readable, or assumed to be while they are
    /// being compared: a recursive type would have no end otherwise.
    readable: Vec<(Name, Name)>,
    /// Pairs that are not, each with the first reason.
    unreadable: HashMap<(Name, Name), String>,
    /// Whether every value that the writer's schema allows has to be readable.
    every_value: bool,
    depth: usize,
}

impl<'s> Comparison<'s> {
    fn compare(
        &mut self,
        reader: &'s Schema,
        writer: &'s Schema,
        path: &str,
        problems: &mut Vec<String>,
    ) {
        if self.depth >= MAX_DEPTH {
            return problem(problems, path, "nested too deeply to be compared");
        }
        self.depth += 1;
        let reader = definition(reader, self.readers);
        let writer = definition(writer, self.writers);
        match (reader, writer) {
            (_, Schema::Union(branches)) => {
                let must_be_readable = |branch: &&Schema| {
                    self.every_value
                        || !matches!(branch, Schema::Null)
                        || branches.variants().len() == 1
                };
                for branch in
                    branches.variants().iter().filter(must_be_readable).collect::<Vec<_>>()
                {
                    self.compare(reader, branch, path, problems);
                }
            }
            (Schema::Union(branches), _) => self.compare_branches(branches, writer, path, problems),
            (Schema::Record(to), Schema::Record(from)) if same_name(reader, writer) => {
                self.compare_records(to, from, path, problems);
            }
            (Schema::Enum(to), Schema::Enum(from)) if same_name(reader, writer) => {
                if self.every_value {
                    compare_symbols(to, from, path, problems);
                }
            }
            (Schema::Array(to), Schema::Array(from)) => {
                self.compare(&to.items, &from.items, &format!("{path}[]"), problems);
            }
            (Schema::Map(to), Schema::Map(from)) => {
                self.compare(&to.types, &from.types, &format!("{path}{{}}"), problems);
            }
            _ => compare_plain(reader, writer, path, problems),
        }
        self.depth -= 1;
    }

    /// The writer's value goes to any branch that can read it.
    fn compare_branches(
        &mut self,
        reader: &'s UnionSchema,
        writer: &'s Schema,
        path: &str,
        problems: &mut Vec<String>,
    ) {
        let mut closest = None;
        for branch in reader.variants() {
            let mut found = Vec::new();
            self.compare(branch, writer, path, &mut found);
            if found.is_empty() {
                return;
            }
            let branch = definition(branch, self.readers);
            if base(branch) == base(writer) && same_name(branch, writer) {
                closest.get_or_insert(found);
            }
        }
        match closest {
            Some(found) => problems.extend(found),
            None => {
                let branches: Vec<_> = reader.variants().iter().map(describe).collect();
                let branches = branches.join(", ");
                let text =
                    format!("written as {}, read as none of that: {branches}", describe(writer));
                problem(problems, path, &text);
            }
        }
    }

    fn compare_records(
        &mut self,
        reader: &'s RecordSchema,
        writer: &'s RecordSchema,
        path: &str,
        problems: &mut Vec<String>,
    ) {
        let pair = (reader.name.clone(), writer.name.clone());
        if self.readable.contains(&pair) {
            return;
        }
        if let Some(reason) = self.unreadable.get(&pair) {
            let name = reader.name.fullname(None);
            return problem(problems, path, &format!("record {name} cannot be read: {reason}"));
        }
        let assumed_before = self.readable.len();
        self.readable.push(pair.clone());
        let found_before = problems.len();
        for field in &reader.fields {
            self.compare_field(field, writer, path, problems);
        }
        if let Some(reason) = problems.get(found_before) {
            // what was found readable meanwhile may rest on the assumption that this pair is
            self.readable.truncate(assumed_before);
            self.unreadable.insert(pair, reason.clone());
        }
    }

    fn compare_field(
        &mut self,
        field: &'s RecordField,
        writer: &'s RecordSchema,
        path: &str,
        problems: &mut Vec<String>,
    ) {
        let path =
            if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
        let names = std::iter::once(&field.name).chain(&field.aliases);
        let mut written =
            names.filter_map(|name| writer.fields.iter().find(|field| field.name == *name));
        match written.next() {
            Some(written) => self.compare(&field.schema, &written.schema, &path, problems),
            None if field.default.is_some() => {}
            None => {
                problem(problems, &path, "not written, and without a default to read instead");
            }
        }
    }
}

/// All that is neither record, enum, array, map nor union, and what does not fit together.
fn compare_plain(reader: &Schema, writer: &Schema, path: &str, problems: &mut Vec<String>) {
    let text = match (base(reader), base(writer)) {
        (to, from) if to == from && !same_name(reader, writer) => format!(
            "written as {}, read as {}: the name differs and is no alias of the reader's",
            describe(writer),
            describe(reader)
        ),
        (SchemaKind::Fixed, SchemaKind::Fixed) if size(reader) != size(writer) => format!(
            "written with {} bytes, read with {}",
            size(writer).unwrap_or_default(),
            size(reader).unwrap_or_default()
        ),
        (to, from) if (to == from || promotes(from, to)) && means_the_same(reader, writer) => {
            return;
        }
        (to, from) if to == from || promotes(from, to) => format!(
            "written as {}, read as {}: the values would mean something else",
            describe(writer),
            describe(reader)
        ),
        _ => format!("written as {}, read as {}", describe(writer), describe(reader)),
    };
    problem(problems, path, &text);
}

fn compare_symbols(reader: &EnumSchema, writer: &EnumSchema, path: &str, all: &mut Vec<String>) {
    let missing: Vec<_> =
        writer.symbols.iter().filter(|symbol| !reader.symbols.contains(symbol)).collect();
    if !missing.is_empty() && reader.default.is_none() {
        let text = format!(
            "written with symbols the reader's enum {} lacks, and it has no default: {missing:?}",
            reader.name.fullname(None)
        );
        problem(all, path, &text);
    }
}

fn problem(problems: &mut Vec<String>, path: &str, text: &str) {
    problems.push(match path {
        "" => text.to_owned(),
        path => format!("{path:?}: {text}"),
    });
}

/// A reference's definition. Definitions built in from other schemas may lack the namespace
/// around them, hence the second look.
pub(crate) fn definition<'s>(schema: &'s Schema, names: &NamesRef<'s>) -> &'s Schema {
    let Schema::Ref { name } = schema else { return schema };
    let found = names.get(name).or_else(|| {
        let mut all = names.iter();
        all.find(|(other, _)| other.name() == name.name()).map(|(_, definition)| definition)
    });
    found.copied().unwrap_or(schema)
}
