//! Readings for any schema: nobody wrote a generator for it, yet it can be tried out at once.

use super::common::{Chance, event_id, millis, rounded, seeded};
use apache_avro::schema::{
    DecimalSchema, InnerDecimalSchema, Names, RecordSchema, ResolvedSchema, UnionSchema,
};
use apache_avro::types::Value;
use apache_avro::{BigDecimal, Days, Decimal, Duration, Millis, Months, Schema};
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, Time, UtcOffset};

/// Makes values of an Avro schema, of every type that Avro has.
#[derive(Debug)]
pub struct Generic {
    schema: Schema,
    names: Names,
    time_field: Option<String>,
    id_field: Option<String>,
    chance: Chance,
    /// Which id comes next, for ids that are numbers.
    serial: u64,
}

impl Generic {
    /// Values of this schema. The time field will hold the moment that `next` is given, the id field
    /// something that does not come twice.
    pub fn new(
        schema: Schema,
        seed: u64,
        time_field: Option<String>,
        id_field: Option<String>,
    ) -> Self {
        let names = named_types(&schema);
        let mut chance = seeded(seed);
        let serial = chance.next_u64();
        Generic { schema, names, time_field, id_field, chance, serial }
    }

    /// The next value, in the variants that encode under the schema.
    pub fn next(&mut self, at: OffsetDateTime) -> Value {
        let at = at.to_offset(UtcOffset::UTC);
        let mut draw = Draw { names: &self.names, chance: &mut self.chance, at, depth: 0 };
        let Schema::Record(record) = &self.schema else {
            return draw.value("value", &self.schema);
        };
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        let fields = record.fields.iter().map(|field| {
            let name = Some(&field.name);
            let special = if name == self.id_field.as_ref() {
                draw.first_fitting(&field.schema, &|draw, schema| draw.id(schema, serial))
            } else if name == self.time_field.as_ref() {
                draw.first_fitting(&field.schema, &|draw, schema| event_time(schema, draw.at))
            } else {
                None
            };
            let value = special.unwrap_or_else(|| draw.value(&field.name, &field.schema));
            (field.name.clone(), value)
        });
        Value::Record(fields.collect())
    }
}

/// How deep a schema that contains itself is followed while there is another choice.
const DEEP: usize = 3;
/// Where a schema that never ends is given up; the value will not encode.
const TOO_DEEP: usize = 64;

/// Different words that one string field takes, so that keys and dimensions come again.
const VOCABULARY: u32 = 20;

/// What is plausible for a number, by what its field's name contains; the first that fits counts.
const RANGES: [(&str, f64, f64); 14] = [
    ("latitude", -90.0, 90.0),
    ("longitude", -180.0, 180.0),
    ("count", 0.0, 500.0),
    ("number", 0.0, 500.0),
    ("speed", 0.0, 120.0),
    ("heart", 45.0, 180.0),
    ("temperature", 0.0, 40.0),
    ("humidity", 20.0, 90.0),
    ("pressure", 980.0, 1040.0),
    ("percent", 0.0, 100.0),
    ("ratio", 0.0, 1.0),
    ("magnitude", 0.0, 8.0),
    ("depth", 0.0, 600.0),
    ("", 0.0, 1000.0),
];

/// What one value is drawn from.
struct Draw<'a> {
    names: &'a Names,
    chance: &'a mut Chance,
    at: OffsetDateTime,
    depth: usize,
}

impl Draw<'_> {
    fn value(&mut self, field: &str, schema: &Schema) -> Value {
        if self.depth > TOO_DEEP {
            return Value::Null;
        }
        self.depth += 1;
        let value = match schema {
            Schema::Ref { name } => match self.names.get(name) {
                Some(named) => self.value(field, named),
                None => Value::Null,
            },
            Schema::Record(record) => self.record(record),
            Schema::Union(union) => self.union(field, union),
            Schema::Array(array) => {
                Value::Array((0..self.length()).map(|_| self.value(field, &array.items)).collect())
            }
            Schema::Map(map) => Value::Map(
                (0..self.length())
                    .map(|n| (format!("key-{n}"), self.value(field, &map.types)))
                    .collect(),
            ),
            scalar => self.scalar(field, scalar),
        };
        self.depth -= 1;
        value
    }

    fn record(&mut self, record: &RecordSchema) -> Value {
        let fields = record.fields.iter();
        Value::Record(fields.map(|f| (f.name.clone(), self.value(&f.name, &f.schema))).collect())
    }

    /// Null now and then; else any of the other branches.
    fn union(&mut self, field: &str, union: &UnionSchema) -> Value {
        let variants = union.variants();
        let deep = self.depth > DEEP;
        let null = variants.iter().position(|schema| matches!(schema, Schema::Null));
        let index = match null {
            Some(null) if deep || self.chance.random_bool(0.1) => null,
            _ => {
                let fits = |n: &usize| Some(*n) != null && !(deep && is_nested(&variants[*n]));
                let others: Vec<_> = (0..variants.len()).filter(fits).collect();
                others.choose(self.chance).copied().or(null).unwrap_or(0)
            }
        };
        match variants.get(index) {
            Some(schema) => Value::Union(index as u32, Box::new(self.value(field, schema))),
            None => Value::Null,
        }
    }

    fn length(&mut self) -> usize {
        if self.depth > DEEP { 0 } else { self.chance.random_range(0..=3) }
    }

    fn scalar(&mut self, field: &str, schema: &Schema) -> Value {
        match schema {
            Schema::Boolean => Value::Boolean(self.chance.random()),
            Schema::Int => Value::Int(self.number(field) as i32),
            Schema::Long => Value::Long(self.number(field) as i64),
            Schema::Float => Value::Float(self.number(field) as f32),
            Schema::Double => Value::Double(self.number(field)),
            Schema::String => {
                Value::String(format!("{field}-{}", self.chance.random_range(0..VOCABULARY)))
            }
            Schema::Bytes => {
                let length = self.chance.random_range(0..16);
                Value::Bytes(self.bytes(length))
            }
            Schema::Fixed(fixed) => Value::Fixed(fixed.size, self.bytes(fixed.size)),
            Schema::Enum(symbols) => {
                let index = self.chance.random_range(0..symbols.symbols.len());
                Value::Enum(index as u32, symbols.symbols[index].clone())
            }
            Schema::Decimal(decimal) => self.decimal(decimal),
            Schema::BigDecimal => {
                let number = format!("{:.2}", self.number(field)).parse::<BigDecimal>();
                number.map_or(Value::Null, Value::BigDecimal)
            }
            Schema::Uuid(_) => Value::Uuid(event_id(self.at, self.chance)),
            Schema::Duration(_) => Value::Duration(Duration::new(
                Months::new(self.chance.random_range(0..12)),
                Days::new(self.chance.random_range(0..28)),
                Millis::new(self.chance.random_range(0..86_400_000)),
            )),
            other => {
                let earlier = time::Duration::milliseconds(self.chance.random_range(0..3_600_000));
                moment(other, self.at - earlier).unwrap_or(Value::Null)
            }
        }
    }

    fn number(&mut self, field: &str) -> f64 {
        let field = field.to_lowercase();
        let range = RANGES.iter().find(|range| field.contains(range.0));
        let (low, high) = range.map_or((0.0, 1.0), |range| (range.1, range.2));
        rounded(self.chance.random_range(low..high), 2)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.chance.random()).collect()
    }

    /// Up to four digits before the point, as far as the precision allows.
    fn decimal(&mut self, decimal: &DecimalSchema) -> Value {
        const MOST_DIGITS: usize = 36; // what an i128 holds
        let digits = (decimal.scale + 4).min(decimal.precision).min(MOST_DIGITS);
        let unscaled = self.chance.random_range(0..10_i128.pow(digits as u32)).to_be_bytes();
        let length = match &decimal.inner {
            InnerDecimalSchema::Fixed(fixed) => fixed.size,
            // resolution refuses a number whose bytes could not hold the precision
            InnerDecimalSchema::Bytes => {
                ((decimal.precision as f64 * 10_f64.log2() + 1.0) / 8.0).ceil() as usize
            }
        };
        let mut bytes = vec![0; length.saturating_sub(unscaled.len())];
        bytes.extend_from_slice(&unscaled[unscaled.len().saturating_sub(length)..]);
        Value::Decimal(Decimal::from(bytes))
    }

    /// The first branch of the schema that `make` has a value for.
    fn first_fitting(
        &mut self,
        schema: &Schema,
        make: &dyn Fn(&mut Self, &Schema) -> Option<Value>,
    ) -> Option<Value> {
        let Schema::Union(union) = schema else {
            return make(self, schema);
        };
        union.variants().iter().enumerate().find_map(|(index, variant)| {
            make(self, variant).map(|value| Value::Union(index as u32, Box::new(value)))
        })
    }

    fn id(&mut self, schema: &Schema, serial: u64) -> Option<Value> {
        // multiplying by an odd number scatters the serial numbers and keeps them apart
        let scattered = serial.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match schema {
            Schema::String => Some(Value::String(event_id(self.at, self.chance).to_string())),
            Schema::Int => Some(Value::Int((scattered & 0x7fff_ffff) as i32)),
            Schema::Long => Some(Value::Long((scattered & i64::MAX as u64) as i64)),
            _ => None,
        }
    }
}

/// The types that the schema refers to by name, collected once rather than for each reading.
fn named_types(schema: &Schema) -> Names {
    // a schema that was parsed has no name that it does not define
    ResolvedSchema::new(schema).map_or_else(
        |_| Names::new(),
        |known| known.get_names().iter().map(|(n, s)| (n.clone(), (*s).clone())).collect(),
    )
}

fn is_nested(schema: &Schema) -> bool {
    use Schema::{Array, Map, Record, Ref};
    matches!(schema, Record(_) | Ref { .. } | Array(_) | Map(_))
}

/// The moment in the form of a time field, which may also be a plain number or text.
fn event_time(schema: &Schema, at: OffsetDateTime) -> Option<Value> {
    match schema {
        Schema::Long => Some(Value::Long(millis(at))),
        Schema::Double => Some(Value::Double(millis(at) as f64 / 1000.0)),
        Schema::String => at.format(&Rfc3339).ok().map(Value::String),
        _ => moment(schema, at),
    }
}

/// The moment, in UTC, as a value of one of Avro's types for time.
fn moment(schema: &Schema, at: OffsetDateTime) -> Option<Value> {
    let micros = || (at.unix_timestamp_nanos() / 1_000) as i64;
    let nanos = || i64::try_from(at.unix_timestamp_nanos()).unwrap_or(i64::MAX);
    let of_day = at.time() - Time::MIDNIGHT;
    Some(match schema {
        Schema::Date => {
            Value::Date((at.date() - OffsetDateTime::UNIX_EPOCH.date()).whole_days() as i32)
        }
        Schema::TimeMillis => Value::TimeMillis(of_day.whole_milliseconds() as i32),
        Schema::TimeMicros => Value::TimeMicros(of_day.whole_microseconds() as i64),
        Schema::TimestampMillis => Value::TimestampMillis(millis(at)),
        Schema::TimestampMicros => Value::TimestampMicros(micros()),
        Schema::TimestampNanos => Value::TimestampNanos(nanos()),
        Schema::LocalTimestampMillis => Value::LocalTimestampMillis(millis(at)),
        Schema::LocalTimestampMicros => Value::LocalTimestampMicros(micros()),
        Schema::LocalTimestampNanos => Value::LocalTimestampNanos(nanos()),
        _ => return None,
    })
}
