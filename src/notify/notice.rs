//! What is told of an alert, as JSON and as Avro.

use std::collections::HashMap;

use apache_avro::{AvroResult, Schema, types::Value};
use serde_json::{Value as Json, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The schema of the alerts' topic.
pub(super) const SCHEMA: &str = include_str!("alert.avsc");

/// What became of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Status {
    /// Its condition has held for long enough.
    Open,
    /// It is over.
    Resolved,
}

impl Status {
    /// Its name in tables, messages and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Status::Open => "open",
            Status::Resolved => "resolved",
        }
    }
}

/// An alert that opened or resolved.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Notice {
    /// The same when it opens and when it resolves.
    pub alert_id: i64,
    /// The stream,
    pub stream: String,
    /// and its alert.
    pub name: String,
    /// What it is about: an object.
    pub dimensions: Json,
    /// What became of it.
    pub status: Status,
    /// From when on the condition held.
    pub since: OffsetDateTime,
    /// When it had held for long enough.
    pub opened_at: OffsetDateTime,
    /// When it was over.
    pub resolved_at: Option<OffsetDateTime>,
    /// How it ended: `cleared`, `forgotten` or `withdrawn`.
    pub resolution: Option<String>,
    /// What the condition saw when it opened: an object of numbers.
    pub measured: Json,
}

impl Notice {
    /// What tells alerts apart, by which the topic keeps their order.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.stream, self.name, self.dimensions)
    }

    /// As the webhook has it: moments by RFC 3339.
    pub fn to_json(&self) -> Json {
        let moment = |moment: OffsetDateTime| moment.format(&Rfc3339).ok();
        json!({
            "alert_id": self.alert_id,
            "stream": self.stream,
            "name": self.name,
            "dimensions": self.dimensions,
            "status": self.status.name(),
            "since": moment(self.since),
            "opened_at": moment(self.opened_at),
            "resolved_at": self.resolved_at.and_then(moment),
            "resolution": self.resolution,
            "measured": self.measured,
        })
    }

    /// As the topic has it, for [`SCHEMA`].
    pub(super) fn to_avro(&self, schema: &Schema) -> AvroResult<Value> {
        let text = |text: &str| Value::String(text.to_owned());
        let moment = |moment: OffsetDateTime| {
            let millis = moment.unix_timestamp_nanos() / 1_000_000;
            Value::TimestampMillis(i64::try_from(millis).unwrap_or(i64::MAX))
        };
        let option = |value: Option<Value>| value.unwrap_or(Value::Null);
        let dimensions = entries(&self.dimensions, |value| match value {
            Json::Null => Value::Null,
            Json::String(value) => text(value),
            other => Value::String(other.to_string()),
        });
        let measured = entries(&self.measured, |value| option(value.as_f64().map(Value::Double)));
        let record = [
            ("alert_id", Value::Long(self.alert_id)),
            ("stream", text(&self.stream)),
            ("name", text(&self.name)),
            ("dimensions", dimensions),
            ("status", text(self.status.name())),
            ("since", moment(self.since)),
            ("opened_at", moment(self.opened_at)),
            ("resolved_at", option(self.resolved_at.map(moment))),
            ("resolution", option(self.resolution.as_deref().map(text))),
            ("measured", measured),
        ];
        let fields = record.into_iter().map(|(name, value)| (name.to_owned(), value));
        Value::Record(fields.collect()).resolve(schema)
    }
}

fn entries(object: &Json, value: impl Fn(&Json) -> Value) -> Value {
    let entries = object.as_object().into_iter().flatten();
    Value::Map(entries.map(|(key, json)| (key.clone(), value(json))).collect::<HashMap<_, _>>())
}

#[cfg(test)]
mod tests {
    use apache_avro::schema::ResolvedSchema;
    use time::macros::datetime;

    use super::*;
    use crate::codec::{Encoder, value_to_json};

    #[test]
    fn a_notice_says_the_same_as_json_and_as_avro() {
        let schema = Schema::parse_str(SCHEMA).unwrap();
        let mut notice = Notice {
            alert_id: 7,
            stream: "traffic".into(),
            name: "jam".into(),
            dimensions: json!({"segment_id": "road-1-03", "lane": 2, "side": null}),
            status: Status::Open,
            since: datetime!(2026-03-02 08:00 UTC),
            opened_at: datetime!(2026-03-02 08:05 UTC),
            resolved_at: None,
            resolution: None,
            measured: json!({"avg(speed_kmh)": 9.5, "avg_before(speed_kmh)": null}),
        };
        for _ in 0..2 {
            let avro = notice.to_avro(&schema).unwrap();
            Encoder::new(&schema).unwrap().encode(&avro).unwrap();
            let resolved = ResolvedSchema::new(&schema).unwrap();
            let mut avro = value_to_json(&resolved, &schema, &avro);
            let json = notice.to_json();
            // a dimension of the topic is a text
            avro["dimensions"]["lane"] = json!(2);
            for (key, value) in json.as_object().unwrap() {
                let instant =
                    |json: &Json| OffsetDateTime::parse(json.as_str().unwrap(), &Rfc3339).unwrap();
                match key.as_str() {
                    "since" | "opened_at" | "resolved_at" if !value.is_null() => {
                        assert_eq!(instant(&avro[key]), instant(value), "{key}");
                    }
                    _ => assert_eq!(&avro[key], value, "{key}"),
                }
            }
            notice.status = Status::Resolved;
            notice.resolved_at = Some(datetime!(2026-03-02 08:30 UTC));
            notice.resolution = Some("cleared".into());
        }
    }
}
