//! Avro types as Postgres types.

use std::fmt;

use apache_avro::{
    Schema,
    schema::{Name, UnionSchema},
};

/// A column that a field or a label is stored in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name, which is the field's.
    pub name: String,
    /// Its type.
    pub kind: ColumnType,
    /// Whether it may be null.
    pub nullable: bool,
}

/// A Postgres type that an Avro type maps to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are Postgres's own names")]
pub enum ColumnType {
    Text,
    Uuid,
    Integer,
    Bigint,
    Real,
    Double,
    Boolean,
    Bytea,
    /// `None` for Avro's `big-decimal`, whose scale each value carries.
    Numeric(Option<(usize, usize)>),
    Date,
    Time,
    TimestampTz,
    Timestamp,
    Interval,
    Jsonb,
}

impl ColumnType {
    /// Whether the type is a number that can be summed up.
    pub fn is_number(&self) -> bool {
        use ColumnType::{Bigint, Double, Integer, Numeric, Real};
        matches!(self, Integer | Bigint | Real | Double | Numeric(_))
    }

    /// Whether the type says when something happened.
    pub fn is_instant(&self) -> bool {
        matches!(self, ColumnType::TimestampTz)
    }

    /// The type of a sum over such a column, wide enough not to overflow.
    pub fn sum(&self) -> ColumnType {
        match self {
            ColumnType::Integer => ColumnType::Bigint,
            ColumnType::Bigint | ColumnType::Numeric(_) => ColumnType::Numeric(None),
            _ => ColumnType::Double,
        }
    }
}

/// The name that Postgres's `format_type` gives, so that it compares with a live table's.
impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ColumnType::Text => "text",
            ColumnType::Uuid => "uuid",
            ColumnType::Integer => "integer",
            ColumnType::Bigint => "bigint",
            ColumnType::Real => "real",
            ColumnType::Double => "double precision",
            ColumnType::Boolean => "boolean",
            ColumnType::Bytea => "bytea",
            ColumnType::Numeric(None) => "numeric",
            ColumnType::Numeric(Some((precision, scale))) => {
                return write!(f, "numeric({precision},{scale})");
            }
            ColumnType::Date => "date",
            ColumnType::Time => "time without time zone",
            ColumnType::TimestampTz => "timestamp with time zone",
            ColumnType::Timestamp => "timestamp without time zone",
            ColumnType::Interval => "interval",
            ColumnType::Jsonb => "jsonb",
        })
    }
}

impl Column {
    /// The column for a field; `named` looks up a named type that the schema refers to.
    pub(super) fn of_field<'s>(
        name: &str,
        schema: &'s Schema,
        named: &dyn Fn(&Name) -> Option<&'s Schema>,
    ) -> Column {
        let (schema, nullable) = match schema {
            Schema::Null => (schema, true),
            Schema::Union(union) => match single_branch(union) {
                Some(branch) => (branch, union.is_nullable()),
                None => (schema, union.is_nullable()),
            },
            _ => (schema, false),
        };
        Column { name: name.to_owned(), kind: column_type(schema, named), nullable }
    }
}

/// The one branch of a union that is not null.
fn single_branch(union: &UnionSchema) -> Option<&Schema> {
    let mut branches = union.variants().iter().filter(|branch| !matches!(branch, Schema::Null));
    branches.next().filter(|_| branches.next().is_none())
}

fn column_type<'s>(schema: &'s Schema, named: &dyn Fn(&Name) -> Option<&'s Schema>) -> ColumnType {
    match schema {
        Schema::String | Schema::Enum(_) => ColumnType::Text,
        Schema::Uuid(_) => ColumnType::Uuid,
        Schema::Int => ColumnType::Integer,
        Schema::Long => ColumnType::Bigint,
        Schema::Float => ColumnType::Real,
        Schema::Double => ColumnType::Double,
        Schema::Boolean => ColumnType::Boolean,
        Schema::Bytes | Schema::Fixed(_) => ColumnType::Bytea,
        Schema::Decimal(decimal) => ColumnType::Numeric(Some((decimal.precision, decimal.scale))),
        Schema::BigDecimal => ColumnType::Numeric(None),
        Schema::Date => ColumnType::Date,
        Schema::TimeMillis | Schema::TimeMicros => ColumnType::Time,
        Schema::TimestampMillis | Schema::TimestampMicros | Schema::TimestampNanos => {
            ColumnType::TimestampTz
        }
        Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => ColumnType::Timestamp,
        Schema::Duration(_) => ColumnType::Interval,
        Schema::Ref { name } => {
            named(name).map_or(ColumnType::Jsonb, |schema| column_type(schema, named))
        }
        Schema::Null | Schema::Array(_) | Schema::Map(_) | Schema::Record(_) | Schema::Union(_) => {
            ColumnType::Jsonb
        }
    }
}
