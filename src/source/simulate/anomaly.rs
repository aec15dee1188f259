//! What a generator has planted, so that what is detected can be held against what was there.

use std::collections::BTreeMap;

use serde::Serialize;
use time::OffsetDateTime;

/// Something that is not as usual, in the world that the readings tell of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Anomaly {
    /// What it is, such as `jam`.
    pub kind: &'static str,
    /// Whom or what it concerns, by the names of the stream's fields; empty if all of them.
    pub dimensions: BTreeMap<&'static str, String>,
    /// When it began, by the clock of the readings.
    #[serde(with = "time::serde::rfc3339")]
    pub begins: OffsetDateTime,
    /// When it ended; none while it goes on.
    #[serde(with = "time::serde::rfc3339::option")]
    pub ends: Option<OffsetDateTime>,
}

/// The anomalies of one generator, in the order in which they began. All are kept: they are few,
/// some tens an hour of the readings' time.
#[derive(Debug, Default)]
pub(super) struct Anomalies {
    all: Vec<Anomaly>,
}

/// Which anomaly goes on at the moment with one person or thing, if any.
#[derive(Debug, Default)]
pub(super) struct Current(Option<usize>);

impl Anomalies {
    /// All so far.
    pub(super) fn list(&self) -> Vec<Anomaly> {
        self.all.clone()
    }

    /// Takes down what is the matter now. What went on before and is another kind has ended.
    pub(super) fn observe<const N: usize>(
        &mut self,
        current: &mut Current,
        now: Option<&'static str>,
        at: OffsetDateTime,
        dimensions: impl FnOnce() -> [(&'static str, String); N],
    ) {
        if current.0.map(|index| self.all[index].kind) == now {
            return;
        }
        // as precise as the readings are
        let at = at.truncate_to_millisecond();
        if let Some(index) = current.0 {
            self.all[index].ends = Some(at);
        }
        current.0 = now.map(|kind| {
            let dimensions = BTreeMap::from(dimensions());
            self.all.push(Anomaly { kind, dimensions, begins: at, ends: None });
            self.all.len() - 1
        });
    }
}
