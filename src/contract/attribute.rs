//! The attribute `"sluicegate"` of a schema's record, as it is written.
//!
//! A closed set: an unknown key is a problem. Each key, and each item of a list, is read on its
//! own, so that one mistake does not hide the next.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value as Json};

use crate::{registry::Compatibility, source::InputMapping};

/// The attribute, with what is absent left out.
#[derive(Debug, Default)]
pub(super) struct Attribute {
    pub(super) topic: Option<String>,
    pub(super) partitions: Option<i32>,
    pub(super) replication: Option<i32>,
    pub(super) dead_letter_topic: Option<String>,
    pub(super) dead_letter_partitions: Option<i32>,
    pub(super) table: Option<String>,
    pub(super) id: Option<String>,
    pub(super) id_from: Option<Vec<String>>,
    pub(super) key: Option<String>,
    pub(super) time: Option<String>,
    pub(super) on_conflict: Option<OnConflict>,
    pub(super) compatibility: Option<Compatibility>,
    pub(super) private: Option<Vec<String>>,
    pub(super) params: Option<Map<String, Json>>,
    pub(super) input: Option<InputMapping>,
    pub(super) rules: Vec<(String, RuleSpec)>,
    pub(super) labels: Vec<(String, LabelSpec)>,
    pub(super) aggregates: Vec<(String, AggregateSpec)>,
    pub(super) alerts: Vec<(String, AlertSpec)>,
}

/// The keys that the attribute may have.
const KEYS: &str = "topic, partitions, replication, dead_letter_topic, dead_letter_partitions, \
                    table, id, id_from, key, time, on_conflict, compatibility, private, params, \
                    input, rules, labels, aggregates, alerts";

/// A rule as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleSpec {
    pub(super) name: String,
    pub(super) check: String,
}

/// A label as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LabelSpec {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: LabelType,
    pub(super) value: String,
}

/// The types that a label may have, by Avro's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LabelType {
    Boolean,
    Long,
    Double,
    String,
}

impl LabelType {
    /// The name, as written.
    pub(super) fn name(self) -> &'static str {
        match self {
            LabelType::Boolean => "boolean",
            LabelType::Long => "long",
            LabelType::Double => "double",
            LabelType::String => "string",
        }
    }
}

/// An aggregate as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AggregateSpec {
    pub(super) name: Option<String>,
    pub(super) every: Every,
    #[serde(default)]
    pub(super) by: Vec<String>,
    #[serde(default)]
    pub(super) of: Vec<String>,
}

/// An alert as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertSpec {
    pub(super) name: String,
    #[serde(default)]
    pub(super) by: Vec<String>,
    pub(super) when: String,
    #[serde(rename = "for")]
    pub(super) lasting: Option<Every>,
    pub(super) clear: Option<String>,
    pub(super) clear_for: Option<Every>,
    pub(super) before: Option<Every>,
    pub(super) every: Option<Every>,
}

/// What happens to an event whose id has already landed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// The first event with an id stands.
    #[default]
    Ignore,
    /// The event with the newer event time wins, and aggregates follow.
    Latest,
}

/// A width of time, such as `1m`, `15m`, `1h` or `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Every(Duration);

impl Every {
    /// The width.
    pub fn duration(self) -> Duration {
        self.0
    }

    /// The name of a column that holds the start of such a bucket.
    pub fn bucket_column(self) -> &'static str {
        match self.0.as_secs() {
            60 => "minute",
            3_600 => "hour",
            86_400 => "day",
            _ => "bucket",
        }
    }

    /// The end of a default table's name.
    pub(super) fn suffix(self) -> String {
        match self.bucket_column() {
            "bucket" => self.to_string(),
            named => named.to_owned(),
        }
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (unit, name) = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')]
            .into_iter()
            .find(|(unit, _)| seconds.is_multiple_of(*unit))
            .unwrap_or((1, 's'));
        write!(f, "{}{name}", seconds.checked_div(unit).unwrap_or_default())
    }
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || format!("\"{text}\" is not a width of time; expected one like 30s, 1m, 1h or 1d");
        let split = text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at));
        let (number, unit) = split.map(|at| text.split_at(at)).ok_or_else(wrong)?;
        let unit: u64 = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        match number.checked_mul(unit) {
            Some(seconds) if (1..=31 * 86_400).contains(&seconds) => {
                Ok(Every(Duration::from_secs(seconds)))
            }
            _ => Err(format!("\"{text}\" is out of range; expected from 1s to 31d")),
        }
    }
}

impl TryFrom<String> for Every {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl Attribute {
    /// Reads the attribute; `problem` is told the place and text of each mistake.
    pub(super) fn read(json: &Json, problem: &mut dyn FnMut(String, String)) -> Attribute {
        let Json::Object(object) = json else {
            problem("sluicegate".into(), "expected an object".into());
            return Attribute::default();
        };
        let mut keys = Keys { rest: object.clone(), problem };
        let attribute = Attribute {
            topic: keys.take("topic"),
            partitions: keys.take("partitions"),
            replication: keys.take("replication"),
            dead_letter_topic: keys.take("dead_letter_topic"),
            dead_letter_partitions: keys.take("dead_letter_partitions"),
            table: keys.take("table"),
            id: keys.take("id"),
            id_from: keys.take("id_from"),
            key: keys.take("key"),
            time: keys.take("time"),
            on_conflict: keys.take("on_conflict"),
            compatibility: keys.take("compatibility"),
            private: keys.take("private"),
            params: keys.take("params"),
            input: keys.take("input"),
            rules: keys.take_list("rules"),
            labels: keys.take_list("labels"),
            aggregates: keys.take_list("aggregates"),
            alerts: keys.take_list("alerts"),
        };
        keys.refuse_rest();
        attribute
    }
}

/// The keys not read yet.
struct Keys<'p> {
    rest: Map<String, Json>,
    problem: &'p mut dyn FnMut(String, String),
}

impl Keys<'_> {
    fn take<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let json = self.rest.remove(key)?;
        self.parse(format!("sluicegate.{key}"), json)
    }

    /// Each item together with its place.
    fn take_list<T: DeserializeOwned>(&mut self, key: &str) -> Vec<(String, T)> {
        let items = self.take::<Vec<Json>>(key).unwrap_or_default();
        let parse = |(index, json)| {
            let place = format!("sluicegate.{key}[{index}]");
            self.parse(place.clone(), json).map(|item| (place, item))
        };
        items.into_iter().enumerate().filter_map(parse).collect()
    }

    fn parse<T: DeserializeOwned>(&mut self, place: String, json: Json) -> Option<T> {
        match serde_path_to_error::deserialize(json) {
            Ok(value) => Some(value),
            Err(error) => {
                let place = match error.path().to_string() {
                    path if path == "." => place,
                    path => format!("{place}.{path}"),
                };
                (self.problem)(place, error.into_inner().to_string());
                None
            }
        }
    }

    fn refuse_rest(self) {
        for key in self.rest.keys() {
            let message = format!("unknown key; expected one of {KEYS}");
            (self.problem)(format!("sluicegate.{key}"), message);
        }
    }
}
