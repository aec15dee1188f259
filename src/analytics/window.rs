//! What an aggregate says of one bucket of a series, and of the buckets before it.
//!
//! Pure: samples in, values of a condition's measures out.

use std::collections::BTreeMap;

use crate::contract::{Function, Measure};

/// What one bucket holds of a series.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sample {
    /// How many events.
    pub(super) count: f64,
    /// One a field that is asked for.
    pub(super) fields: Vec<Field>,
    /// One a label that is asked for: of how many events it is true.
    pub(super) labelled: Vec<f64>,
}

/// What a bucket holds of one field.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Field {
    /// How many events have a value.
    pub(super) count: f64,
    pub(super) sum: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

/// The fields and labels that an alert asks for, in the order in which samples have them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) fields: Vec<String>,
    pub(super) labels: Vec<String>,
}

impl Asked {
    /// What some measures need.
    pub(super) fn of(measures: &[&Measure]) -> Asked {
        let mut asked = Asked::default();
        for measure in measures {
            let Some(of) = &measure.of else { continue };
            let share = measure.function == Function::Share;
            let names = if share { &mut asked.labels } else { &mut asked.fields };
            if !names.contains(of) {
                names.push(of.clone());
            }
        }
        asked
    }

    /// A measure's value in a sample; none where no event has one.
    pub(super) fn value(&self, measure: &Measure, sample: &Sample) -> Option<f64> {
        let place =
            |names: &[String]| names.iter().position(|name| measure.of.as_ref() == Some(name));
        let field = || sample.fields.get(place(&self.fields)?).copied();
        match measure.function {
            Function::Count => Some(sample.count),
            Function::Sum => field()?.sum.filter(|sum| sum.is_finite()),
            Function::Average => {
                let field = field()?;
                Some(field.sum? / field.count).filter(|average| average.is_finite())
            }
            Function::Min => field()?.min,
            Function::Max => field()?.max,
            Function::Share => {
                let labelled = sample.labelled.get(place(&self.labels)?)?;
                (sample.count > 0.0).then(|| labelled / sample.count)
            }
        }
    }
}

impl Sample {
    /// Adds what another holds.
    pub(super) fn merge(&mut self, more: &Sample) {
        self.count += more.count;
        self.fields.resize(more.fields.len().max(self.fields.len()), Field::default());
        for (field, more) in self.fields.iter_mut().zip(&more.fields) {
            field.merge(more);
        }
        self.labelled.resize(more.labelled.len().max(self.labelled.len()), 0.0);
        for (labelled, more) in self.labelled.iter_mut().zip(&more.labelled) {
            *labelled += more;
        }
    }
}

impl Field {
    fn merge(&mut self, more: &Field) {
        let either = |a: Option<f64>, b: Option<f64>, both: fn(f64, f64) -> f64| match (a, b) {
            (Some(a), Some(b)) => Some(both(a, b)),
            (a, b) => a.or(b),
        };
        self.count += more.count;
        self.sum = either(self.sum, more.sum, |a, b| a + b);
        self.min = either(self.min, more.min, f64::min);
        self.max = either(self.max, more.max, f64::max);
    }
}

/// A series' samples by where their bucket begins.
pub(super) type Samples = BTreeMap<i64, Sample>;

/// A bucket of a series, and the buckets before it, together.
pub(super) fn look(samples: &Samples, bucket: i64, before: i64) -> (Sample, Sample) {
    let now = samples.get(&bucket).cloned().unwrap_or_default();
    let mut earlier = Sample::default();
    let buckets = samples.range(bucket.saturating_sub(before)..bucket);
    buckets.for_each(|(_, sample)| earlier.merge(sample));
    (now, earlier)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(function: Function, of: &str) -> Measure {
        let of = (!of.is_empty()).then(|| of.to_owned());
        Measure { function, of, before: false }
    }

    fn sample(count: f64, sum: f64, min: f64, max: f64, labelled: f64) -> Sample {
        let field = Field { count, sum: Some(sum), min: Some(min), max: Some(max) };
        Sample { count, fields: vec![field], labelled: vec![labelled] }
    }

    #[test]
    fn a_bucket_and_those_before_it_give_what_is_asked_of_their_events_together() {
        let samples = Samples::from([
            (0, sample(10.0, 1e9, 0.0, 1e9, 10.0)), // too long ago
            (60, sample(1.0, 50.0, 50.0, 50.0, 0.0)),
            (180, sample(3.0, 90.0, 20.0, 40.0, 3.0)),
            (240, sample(2.0, 10.0, 4.0, 6.0, 1.0)),
        ]);
        let (now, earlier) = look(&samples, 240, 180);
        let all = [
            measure(Function::Count, ""),
            measure(Function::Sum, "v"),
            measure(Function::Average, "v"),
            measure(Function::Min, "v"),
            measure(Function::Max, "v"),
            measure(Function::Share, "l"),
        ];
        let asked = Asked::of(&all.iter().collect::<Vec<_>>());
        let values = |sample| all.each_ref().map(|measure| asked.value(measure, sample));
        assert_eq!(values(&now), [2.0, 10.0, 5.0, 4.0, 6.0, 0.5].map(Some));
        assert_eq!(values(&earlier), [4.0, 140.0, 35.0, 20.0, 50.0, 0.75].map(Some));
        let (nothing, _) = look(&samples, 120, 60);
        assert_eq!(values(&nothing), [Some(0.0), None, None, None, None, None]);
    }
}
