//! Under which name a stream's schema is registered.

use std::fmt;

/// How a subject is named after topic and record, as in Confluent's serializers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubjectStrategy {
    /// `<topic>-value`: one schema a topic.
    #[default]
    TopicName,
    /// `<record>`: one schema a record type, whatever the topic.
    RecordName,
    /// `<topic>-<record>`: several record types in one topic.
    TopicRecordName,
}

impl SubjectStrategy {
    /// The subject of a topic's values; the record's name includes its namespace.
    pub fn subject(self, topic: &str, record_fullname: &str) -> String {
        match self {
            Self::TopicName => format!("{topic}-value"),
            Self::RecordName => record_fullname.to_owned(),
            Self::TopicRecordName => format!("{topic}-{record_fullname}"),
        }
    }
}

impl fmt::Display for SubjectStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TopicName => "topic-name",
            Self::RecordName => "record-name",
            Self::TopicRecordName => "topic-record-name",
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn subjects_and_names() {
        let subjects = SubjectStrategy::value_variants().iter().map(|strategy| {
            let name = strategy.to_string();
            assert_eq!(SubjectStrategy::from_str(&name, false).as_ref(), Ok(strategy));
            let text = format!("\"{name}\"");
            assert_eq!(serde_json::from_str::<SubjectStrategy>(&text).unwrap(), *strategy);
            strategy.subject("device.telemetry", "sluicegate.Reading")
        });
        assert_eq!(
            subjects.collect::<Vec<_>>(),
            ["device.telemetry-value", "sluicegate.Reading", "device.telemetry-sluicegate.Reading"]
        );
    }
}
