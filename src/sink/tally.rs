//! What rows add to the stream's aggregates, added up here before Postgres is told.
//!
//! Pure. It reads rows as [`RowEncoder`](super::RowEncoder) wrote them, and gives rows of the
//! aggregates in the same format, COPY's binary one. Whatever does not add up here without a doubt,
//! such as a sum beyond its type, is left to Postgres.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::cmp::Ordering;

use foldhash::{HashMap, HashMapExt};
use num_bigint::BigInt;

use super::{
    numeric::numeric,
    row::{put, put_null},
    storable::TIMESTAMPS,
};
use crate::contract::{Aggregate, ColumnType, Contract};

/// 2000-01-03, a Monday, in microseconds since 2000: where buckets are counted from.
const ORIGIN: i64 = 2 * 86_400_000_000;

/// How one aggregate is made of a stream's rows.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The place of the event's time among the table's columns.
    time: usize,
    /// The bucket's width in microseconds.
    width: i64,
    /// The places of the dimensions.
    by: Vec<usize>,
    /// The places of what is summed up, with its type and whether it may be null.
    of: Vec<(usize, Number, bool)>,
}

/// The types that are summed up here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Integer,
    Bigint,
    Real,
    Double,
}

/// What some rows add to one aggregate.
#[derive(Debug)]
pub(super) struct Tally<'p> {
    plan: &'p Plan,
    /// By the columns of the key as COPY has them.
    groups: HashMap<Vec<u8>, Group>,
    key: Vec<u8>,
}

/// One row of an aggregate in the making.
#[derive(Debug)]
struct Group {
    count: i64,
    sums: Vec<Sum>,
}

/// One number column of a group: how many there are, and what they come to.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: i64,
    sum: Total,
    min: Total,
    max: Total,
}

/// A number of the table, or a sum of them.
#[derive(Debug, Clone, Copy, Default)]
enum Total {
    #[default]
    None,
    Whole(i128),
    Float(f64),
}

/// That something can't be added up here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BeyondUs;

impl Plan {
    /// A plan for each of a stream's aggregates; none where one of them is Postgres's alone to
    /// make.
    pub(super) fn all(contract: &Contract) -> Option<Vec<Plan>> {
        contract.aggregates.iter().map(|aggregate| Plan::new(contract, aggregate)).collect()
    }

    fn new(contract: &Contract, aggregate: &Aggregate) -> Option<Plan> {
        let columns = contract.table_columns();
        let place = |name: &str| columns.iter().position(|column| column.name == name);
        // of other types two values may be equal whose bytes are not
        let dimension = |kind: &ColumnType| {
            use ColumnType::{
                Bigint, Boolean, Bytea, Date, Integer, Text, Time, Timestamp, TimestampTz, Uuid,
            };
            matches!(
                kind,
                Text | Uuid
                    | Integer
                    | Bigint
                    | Boolean
                    | Bytea
                    | Date
                    | Time
                    | Timestamp
                    | TimestampTz
            )
        };
        let by = aggregate
            .by
            .iter()
            .map(|column| dimension(&column.kind).then(|| place(&column.name)).flatten());
        let of = aggregate.of.iter().map(|column| {
            let number = match column.kind {
                ColumnType::Integer => Number::Integer,
                ColumnType::Bigint => Number::Bigint,
                ColumnType::Real => Number::Real,
                ColumnType::Double => Number::Double,
                _ => return None,
            };
            Some((place(&column.name)?, number, column.nullable))
        });
        Some(Plan {
            time: place(&contract.time_column()?.name)?,
            width: i64::try_from(aggregate.every.duration().as_micros()).ok()?,
            by: by.collect::<Option<_>>()?,
            of: of.collect::<Option<_>>()?,
        })
    }
}

impl<'p> Tally<'p> {
    pub(super) fn new(plan: &'p Plan) -> Tally<'p> {
        Tally { plan, groups: HashMap::new(), key: Vec::new() }
    }

    /// Adds a row of the table, whose columns are at `cells`. One without a time is in no bucket.
    pub(super) fn add(&mut self, cells: &[Option<&[u8]>]) -> Result<(), BeyondUs> {
        let cell = |place: usize| cells.get(place).copied().flatten();
        let Some(time) = cell(self.plan.time) else { return Ok(()) };
        let bucket = bucket(long(time)?, self.plan.width).ok_or(BeyondUs)?;
        self.key.clear();
        put(&mut self.key, &bucket.to_be_bytes());
        self.plan.by.iter().for_each(|place| put_or_null(&mut self.key, cell(*place)));
        let group = match self.groups.get_mut(&self.key) {
            Some(group) => group,
            None => {
                let new = Group { count: 0, sums: vec![Sum::default(); self.plan.of.len()] };
                self.groups.entry(self.key.clone()).or_insert(new)
            }
        };
        group.count = group.count.saturating_add(1);
        for (sum, (place, number, _)) in group.sums.iter_mut().zip(&self.plan.of) {
            if let Some(bytes) = cell(*place) {
                sum.add(number.read(bytes)?)?;
            }
        }
        Ok(())
    }

    /// The rows for the aggregate, each with the columns that
    /// [`aggregate_columns`](super::aggregate_columns) names.
    pub(super) fn rows(&self) -> impl Iterator<Item = Result<Vec<u8>, BeyondUs>> {
        self.groups.iter().map(|(key, group)| {
            let mut row = key.clone();
            put(&mut row, &group.count.to_be_bytes());
            for (sum, (_, number, nullable)) in group.sums.iter().zip(&self.plan.of) {
                if *nullable {
                    put(&mut row, &sum.count.to_be_bytes());
                }
                put_or_null(&mut row, number.sum(sum.sum)?.as_deref());
                put_or_null(&mut row, number.write(sum.min)?.as_deref());
                put_or_null(&mut row, number.write(sum.max)?.as_deref());
            }
            Ok(row)
        })
    }
}

impl Sum {
    fn add(&mut self, number: Total) -> Result<(), BeyondUs> {
        self.count = self.count.saturating_add(1);
        self.sum = match (self.sum, number) {
            (Total::None, number) => number,
            (Total::Whole(sum), Total::Whole(number)) => {
                Total::Whole(sum.checked_add(number).ok_or(BeyondUs)?)
            }
            (Total::Float(sum), Total::Float(number)) => {
                // Postgres has an error of its own for a sum beyond the type
                Some(sum + number)
                    .filter(|sum| sum.is_finite())
                    .map(Total::Float)
                    .ok_or(BeyondUs)?
            }
            _ => return Err(BeyondUs),
        };
        if self.min.order(number) != Ordering::Less {
            self.min = number;
        }
        if self.max.order(number) != Ordering::Greater {
            self.max = number;
        }
        Ok(())
    }
}

impl Total {
    /// The order of two numbers of one type; nothing is equal to everything. There is no NaN.
    fn order(self, other: Total) -> Ordering {
        match (self, other) {
            (Total::Whole(a), Total::Whole(b)) => a.cmp(&b),
            (Total::Float(a), Total::Float(b)) => a.total_cmp(&b),
            _ => Ordering::Equal,
        }
    }
}

impl Number {
    fn read(self, bytes: &[u8]) -> Result<Total, BeyondUs> {
        let number = match self {
            Number::Integer => Total::Whole(i32::from_be_bytes(array(bytes)?).into()),
            Number::Bigint => Total::Whole(i64::from_be_bytes(array(bytes)?).into()),
            Number::Real => Total::Float(f32::from_be_bytes(array(bytes)?).into()),
            Number::Double => Total::Float(f64::from_be_bytes(array(bytes)?)),
        };
        Ok(number)
    }

    /// A number in the column's own type.
    #[expect(clippy::cast_possible_truncation, reason = "a float that was read from a real")]
    fn write(self, number: Total) -> Result<Option<Vec<u8>>, BeyondUs> {
        let bytes = match (self, number) {
            (_, Total::None) => return Ok(None),
            (Number::Integer, Total::Whole(whole)) => {
                i32::try_from(whole).map_err(|_| BeyondUs)?.to_be_bytes().to_vec()
            }
            (Number::Bigint, Total::Whole(whole)) => {
                i64::try_from(whole).map_err(|_| BeyondUs)?.to_be_bytes().to_vec()
            }
            (Number::Real, Total::Float(float)) => (float as f32).to_be_bytes().to_vec(),
            (Number::Double, Total::Float(float)) => float.to_be_bytes().to_vec(),
            _ => return Err(BeyondUs),
        };
        Ok(Some(bytes))
    }

    /// A sum in the type that [`ColumnType::sum`] gives.
    fn sum(self, sum: Total) -> Result<Option<Vec<u8>>, BeyondUs> {
        match (self, sum) {
            (Number::Integer, Total::Whole(_)) => Number::Bigint.write(sum),
            (Number::Bigint, Total::Whole(whole)) => {
                numeric(&BigInt::from(whole), 0, None).map(Some).map_err(|_| BeyondUs)
            }
            (_, sum) => Number::Double.write(sum),
        }
    }
}

/// A row's columns as COPY has them: none for a null.
pub(super) fn cells<'r>(mut columns: &'r [u8], into: &mut Vec<Option<&'r [u8]>>) {
    into.clear();
    while let Some((length, rest)) = columns.split_first_chunk() {
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let cell = length.and_then(|length| rest.split_at_checked(length));
        columns = cell.map_or(rest, |(_, rest)| rest);
        into.push(cell.map(|(cell, _)| cell));
    }
}

/// Where the bucket of an instant begins, as `date_bin` says; both in microseconds since 2000.
fn bucket(time: i64, width: i64) -> Option<i64> {
    let since = time.checked_sub(ORIGIN)?;
    let begin = since.checked_sub(since.checked_rem_euclid(width)?)?.checked_add(ORIGIN)?;
    Some(begin).filter(|begin| TIMESTAMPS.contains(begin))
}

fn long(bytes: &[u8]) -> Result<i64, BeyondUs> {
    Ok(i64::from_be_bytes(array(bytes)?))
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], BeyondUs> {
    bytes.try_into().map_err(|_| BeyondUs)
}

fn put_or_null(row: &mut Vec<u8>, cell: Option<&[u8]>) {
    match cell {
        Some(cell) => put(row, cell),
        None => put_null(row),
    }
}
