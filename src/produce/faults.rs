//! Faults put in on purpose: events sent twice, events that break a rule, and broken bytes.

use std::{collections::VecDeque, str::FromStr};

use anyhow::{bail, ensure};
use apache_avro::types::Value;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use time::{Duration, OffsetDateTime};

use super::{ProduceOptions, Source, send::Message};
use crate::{
    check::check,
    codec::cells,
    contract::{Contract, Scope},
    wire::HEADER_LENGTH,
};

/// How far back an event is sent again from.
const REMEMBERED: usize = 5_000;

/// An id that no registry has given out.
const UNKNOWN_SCHEMA: u32 = 0x7fff_fffe;

/// A share of all records, from 0 to 1; written as `1%` or `0.01`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Share(f64);

impl Share {
    /// So many hundredths.
    pub const fn percent(hundredths: u8) -> Share {
        // as many as there are
        let hundredths = if hundredths > 100 { 100 } else { hundredths };
        Share(hundredths as f64 / 100.0)
    }

    /// From 0 to 1.
    pub fn as_fraction(self) -> f64 {
        self.0
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "expected a share such as 1% or 0.01".to_owned();
        let (number, scale) = match text.strip_suffix('%') {
            Some(percent) => (percent, 0.01),
            None => (text, 1.0),
        };
        let share = number.trim().parse::<f64>().map_err(|_| wrong())? * scale;
        if (0.0..=1.0).contains(&share) { Ok(Share(share)) } else { Err(wrong()) }
    }
}

/// What is done to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Duplicate,
    Invalid,
    Corrupt,
}

/// Puts faults in, by a seed.
pub(super) struct Faults<'c> {
    contract: &'c Contract,
    duplicates: f64,
    invalid: f64,
    corrupt: f64,
    chance: StdRng,
    remembered: VecDeque<Message>,
    corrupted: usize,
}

impl<'c> Faults<'c> {
    pub(super) fn new(contract: &'c Contract, options: &ProduceOptions) -> anyhow::Result<Self> {
        let shares = [options.duplicates, options.invalid, options.corrupt].map(|Share(s)| s);
        let [duplicates, invalid, corrupt] = shares;
        ensure!(shares.iter().sum::<f64>() <= 1.0, "the shares of faults add up to more than 100%");
        let any = shares.iter().any(|share| *share > 0.0);
        ensure!(
            !any || matches!(options.source, Source::Simulate),
            "faults can be put into simulated readings only, not into real ones"
        );
        ensure!(
            invalid == 0.0 || !contract.rules.is_empty(),
            "\"{}\" has no rule that --invalid could break",
            contract.stream
        );
        // another sequence than the readings'
        let chance = StdRng::seed_from_u64(options.seed ^ 0x9e37_79b9_7f4a_7c15);
        let remembered = VecDeque::new();
        Ok(Faults { contract, duplicates, invalid, corrupt, chance, remembered, corrupted: 0 })
    }

    /// What is done to the next record, if anything.
    pub(super) fn next(&mut self) -> Option<Fault> {
        let drawn: f64 = self.chance.random();
        [
            (self.duplicates, Fault::Duplicate),
            (self.duplicates + self.invalid, Fault::Invalid),
            (self.duplicates + self.invalid + self.corrupt, Fault::Corrupt),
        ]
        .into_iter()
        .find_map(|(up_to, fault)| (drawn < up_to).then_some(fault))
    }

    /// Keeps a good record, so that it can be sent again.
    pub(super) fn remember(&mut self, message: &Message) {
        if self.duplicates > 0.0 {
            self.remembered.truncate(REMEMBERED - 1);
            self.remembered.push_front(message.clone());
        }
    }

    /// One of the records that were kept.
    pub(super) fn earlier(&mut self) -> Option<Message> {
        if self.remembered.is_empty() {
            return None;
        }
        let index = self.chance.random_range(0..self.remembered.len());
        self.remembered.get(index).cloned()
    }

    /// Changes a field so that a rule no longer holds.
    pub(super) fn invalid(&mut self, reading: Value) -> anyhow::Result<Value> {
        let Value::Record(mut fields) = reading else { return Ok(reading) };
        let scope = Scope::new(self.contract, OffsetDateTime::now_utc());
        let mut order: Vec<usize> = (0..fields.len()).collect();
        order.shuffle(&mut self.chance);
        for index in order {
            let Some((_, whole)) = fields.get(index).cloned() else { continue };
            for value in extremes(&whole) {
                set(&mut fields, index, value);
                let broken = check(&cells(&fields, &self.contract.columns), self.contract, &scope)
                    .is_err_and(|rejection| rejection.reason.starts_with("rule:"));
                if broken {
                    return Ok(Value::Record(fields));
                }
            }
            set(&mut fields, index, whole);
        }
        bail!("no value of a single field breaks a rule of \"{}\"", self.contract.stream)
    }

    /// Breaks the bytes: magic byte, schema id and length, in turn.
    pub(super) fn corrupt(&mut self, value: &mut Vec<u8>) {
        match self.corrupted % 3 {
            0 => value.iter_mut().take(1).for_each(|magic| *magic = 0x7b),
            1 => {
                let id = UNKNOWN_SCHEMA.to_be_bytes();
                value.iter_mut().skip(1).zip(id).for_each(|(byte, id)| *byte = id);
            }
            _ => value.truncate(HEADER_LENGTH + value.len().saturating_sub(HEADER_LENGTH) / 2),
        }
        self.corrupted += 1;
    }
}

/// Whether a reading keeps every rule of its contract.
pub(super) fn keeps_rules(contract: &Contract, reading: &Value, now: OffsetDateTime) -> bool {
    let Value::Record(fields) = reading else { return false };
    contract.rules.is_empty() || {
        let scope = Scope::new(contract, now);
        check(&cells(fields, &contract.columns), contract, &scope).is_ok()
    }
}

fn set(fields: &mut [(String, Value)], index: usize, value: Value) {
    if let Some((_, field)) = fields.get_mut(index) {
        *field = value;
    }
}

/// Values of the same type that a rule may well forbid.
fn extremes(value: &Value) -> Vec<Value> {
    let far = OffsetDateTime::now_utc() + Duration::days(3_650);
    match value {
        Value::Union(index, inner) => {
            let inside = extremes(inner).into_iter().map(|v| Value::Union(*index, Box::new(v)));
            // null is the first branch of most nullable fields
            let null = (*index == 1).then(|| Value::Union(0, Box::new(Value::Null)));
            inside.chain(null).collect()
        }
        Value::Int(_) => [-1, i32::MAX, i32::MIN, 0].map(Value::Int).into(),
        Value::Long(_) => [-1, i64::MAX, i64::MIN, 0].map(Value::Long).into(),
        Value::Float(_) => [-1.0, 1e30, -1e30, 0.0].map(Value::Float).into(),
        Value::Double(_) => [-1.0, 1e30, -1e30, 0.0].map(Value::Double).into(),
        Value::String(_) => vec![Value::String(String::new())],
        Value::Boolean(value) => vec![Value::Boolean(!value)],
        Value::TimestampMillis(_) => {
            vec![Value::TimestampMillis(far.unix_timestamp() * 1_000), Value::TimestampMillis(0)]
        }
        Value::TimestampMicros(_) => {
            vec![
                Value::TimestampMicros(far.unix_timestamp() * 1_000_000),
                Value::TimestampMicros(0),
            ]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_or_a_fraction() {
        assert_eq!("1%".parse(), Ok(Share(0.01)));
        assert_eq!("0.25".parse(), Ok(Share(0.25)));
        for wrong in ["101%", "-1%", "many", "1.5"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }
}
