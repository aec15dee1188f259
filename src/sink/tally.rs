//! What rows add to the stream's aggregates, added up here before Postgres is told.
//!
//! Pure. It reads rows as [`RowEncoder`](super::RowEncoder) wrote them, and gives rows of the
//! aggregates in the same format, COPY's binary one. Whatever does not add up here without a doubt,
//! such as a sum beyond its type, is left to Postgres.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod sum;

use foldhash::{HashMap, HashMapExt};

use self::sum::{Number, Sum};
use super::{
    bucket::ORIGIN_MICROS,
    row::{put, put_null},
    storable::TIMESTAMPS,
};
use crate::contract::{Aggregate, ColumnType, Contract};

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
        let of = aggregate
            .of
            .iter()
            .map(|column| Some((place(&column.name)?, Number::of(&column.kind)?, column.nullable)));
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
        let time = i64::from_be_bytes(array(time)?);
        let bucket = bucket(time, self.plan.width).ok_or(BeyondUs)?;
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
                sum.add(*number, bytes, time)?;
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
                sum.put(&mut row, *number, *nullable)?;
            }
            Ok(row)
        })
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
    let since = time.checked_sub(ORIGIN_MICROS)?;
    let begin = since.checked_sub(since.checked_rem_euclid(width)?)?.checked_add(ORIGIN_MICROS)?;
    Some(begin).filter(|begin| TIMESTAMPS.contains(begin))
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
