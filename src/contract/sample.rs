//! Made-up events, on which a contract's expressions are tried when the contract is read.
//!
//! The CEL library has no type check: an unknown function or a comparison of a number with a text
//! shows only when it is evaluated. So every expression is evaluated here, once for each sample.

use apache_avro::{
    Days, Decimal, Duration, Millis, Months, Schema,
    schema::{RecordField, ResolvedSchema},
    types::Value,
};

/// A field by name, as a decoded event has it.
type Field = (String, Value);

/// Events that differ in what the fields hold: nothing, much, something below zero, and each
/// symbol of each enum.
pub(super) fn samples(schema: &Schema, fields: &[RecordField]) -> Vec<Vec<Field>> {
    let Ok(resolved) = ResolvedSchema::new(schema) else { return Vec::new() };
    let make = |number: i32, symbol: usize| -> Vec<Field> {
        let sampler = Sampler { number, symbol, resolved: &resolved };
        fields.iter().map(|field| (field.name.clone(), sampler.value(&field.schema, 0))).collect()
    };
    let symbols = fields.iter().map(|field| symbol_count(&field.schema)).max().unwrap_or(0);
    let numbers = [1, 0, 1_000_000, -1_000_000].map(|number| make(number, 0));
    numbers.into_iter().chain((1..symbols).map(|symbol| make(1, symbol))).collect()
}

fn symbol_count(schema: &Schema) -> usize {
    match schema {
        Schema::Enum(symbols) => symbols.symbols.len(),
        Schema::Union(union) => union.variants().iter().map(symbol_count).max().unwrap_or(0),
        _ => 0,
    }
}

struct Sampler<'s> {
    number: i32,
    symbol: usize,
    resolved: &'s ResolvedSchema<'s>,
}

/// How deep a recursive schema is followed.
const DEPTH: usize = 8;

impl Sampler<'_> {
    fn value(&self, schema: &Schema, depth: usize) -> Value {
        let number = self.number;
        let long = i64::from(number);
        let deeper = depth.saturating_add(1);
        match schema {
            _ if depth > DEPTH => Value::Null,
            Schema::Null => Value::Null,
            Schema::Boolean => Value::Boolean(number > 0),
            Schema::Int => Value::Int(number),
            Schema::Long => Value::Long(long),
            Schema::Float => {
                Value::Float(f32::from(i16::try_from(number.clamp(-1_000, 1_000)).unwrap_or(0)))
            }
            Schema::Double => Value::Double(f64::from(number)),
            Schema::Bytes => Value::Bytes(vec![0]),
            Schema::Fixed(fixed) => Value::Fixed(fixed.size, vec![0; fixed.size.min(1_024)]),
            Schema::String => Value::String(if number == 0 { String::new() } else { "a".into() }),
            Schema::Enum(symbols) => self.symbol(&symbols.symbols),
            Schema::Uuid(_) => Value::Uuid(uuid::Uuid::nil()),
            Schema::Decimal(_) => Value::Decimal(Decimal::from(number.to_be_bytes())),
            Schema::BigDecimal => Value::Double(f64::from(number)),
            Schema::Date => Value::Date(number.clamp(-10_000, 10_000)),
            Schema::TimeMillis => Value::TimeMillis(number.max(0)),
            Schema::TimeMicros => Value::TimeMicros(long.max(0)),
            Schema::TimestampMillis => Value::TimestampMillis(long),
            Schema::TimestampMicros => Value::TimestampMicros(long),
            Schema::TimestampNanos => Value::TimestampNanos(long),
            Schema::LocalTimestampMillis => Value::LocalTimestampMillis(long),
            Schema::LocalTimestampMicros => Value::LocalTimestampMicros(long),
            Schema::LocalTimestampNanos => Value::LocalTimestampNanos(long),
            Schema::Duration(_) => {
                Value::Duration(Duration::new(Months::new(1), Days::new(1), Millis::new(1)))
            }
            Schema::Array(array) => Value::Array(vec![self.value(&array.items, deeper)]),
            Schema::Map(map) => {
                Value::Map([("a".to_owned(), self.value(&map.types, deeper))].into())
            }
            Schema::Union(union) => {
                let branch = union.variants().iter().find(|branch| !matches!(branch, Schema::Null));
                branch.map_or(Value::Null, |branch| self.value(branch, depth))
            }
            Schema::Record(record) => {
                let field =
                    |field: &RecordField| (field.name.clone(), self.value(&field.schema, deeper));
                Value::Record(record.fields.iter().map(field).collect())
            }
            Schema::Ref { name } => {
                let named = self.resolved.get_names().get(name);
                named.map_or(Value::Null, |schema| self.value(schema, deeper))
            }
        }
    }

    fn symbol(&self, symbols: &[String]) -> Value {
        let index = self.symbol.min(symbols.len().saturating_sub(1));
        let symbol = symbols.get(index).cloned().unwrap_or_default();
        Value::Enum(u32::try_from(index).unwrap_or(0), symbol)
    }
}
