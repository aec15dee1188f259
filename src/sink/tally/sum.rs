//! What the numbers of one column come to.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::cmp::Ordering;

use num_bigint::BigInt;

use super::{
    super::{numeric::numeric, row::put},
    BeyondUs, array, put_or_null,
};
use crate::contract::ColumnType;

/// One number column of a group: how many there are, and what they come to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    count: i64,
    sum: Total,
    min: Total,
    max: Total,
    last: Total,
    /// When the last one was; it says nothing where there is none.
    last_at: i64,
}

/// The types that are summed up here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Integer,
    Bigint,
    Real,
    Double,
}

/// A number of the table, or a sum of them.
#[derive(Debug, Clone, Copy, Default)]
enum Total {
    #[default]
    None,
    Whole(i128),
    Float(f64),
}

impl Sum {
    /// Adds a number of an event at this time.
    pub(super) fn add(&mut self, number: Number, bytes: &[u8], time: i64) -> Result<(), BeyondUs> {
        let number = number.read(bytes)?;
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
        let newer = time.cmp(&self.last_at).then_with(|| number.order(self.last));
        if self.count == 0 || newer == Ordering::Greater {
            (self.last, self.last_at) = (number, time);
        }
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// Appends the columns that an aggregate has of the number.
    pub(super) fn put(
        &self,
        row: &mut Vec<u8>,
        number: Number,
        nullable: bool,
    ) -> Result<(), BeyondUs> {
        if nullable {
            put(row, &self.count.to_be_bytes());
        }
        put_or_null(row, number.write(self.last)?.as_deref());
        let last_at = (self.count > 0).then(|| self.last_at.to_be_bytes());
        put_or_null(row, last_at.as_ref().map(|at| &at[..]));
        put_or_null(row, number.sum(self.sum)?.as_deref());
        put_or_null(row, number.write(self.min)?.as_deref());
        put_or_null(row, number.write(self.max)?.as_deref());
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
    pub(super) fn of(kind: &ColumnType) -> Option<Number> {
        Some(match kind {
            ColumnType::Integer => Number::Integer,
            ColumnType::Bigint => Number::Bigint,
            ColumnType::Real => Number::Real,
            ColumnType::Double => Number::Double,
            _ => return None,
        })
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_number_is_the_last_one_and_of_equal_times_the_greater_in_any_order() {
        let last = |events: &[(i64, i64)]| {
            let mut sum = Sum::default();
            for (time, number) in events {
                sum.add(Number::Bigint, &number.to_be_bytes(), *time).unwrap();
            }
            let Total::Whole(last) = sum.last else { panic!("{sum:?}") };
            (sum.last_at, last)
        };
        // before 2000, where Postgres's clock starts, too
        let events = [(-9, 7), (-5, -3), (-5, -2), (-9, 1)];
        for start in 0..events.len() {
            let mut turned = events;
            turned.rotate_left(start);
            assert_eq!(last(&turned), (-5, -2));
            turned.reverse();
            assert_eq!(last(&turned), (-5, -2));
        }
        assert_eq!(last(&events[..1]), (-9, 7));
    }

    #[test]
    fn where_there_is_no_number_there_is_no_last_one() {
        let mut row = Vec::new();
        Sum::default().put(&mut row, Number::Double, true).unwrap();
        let null = (-1i32).to_be_bytes();
        let none = [&8i32.to_be_bytes()[..], &0i64.to_be_bytes(), &null.repeat(5)].concat();
        assert_eq!(row, none);
    }
}
