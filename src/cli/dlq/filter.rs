//! Which dead letters, as flags that every verb of `dlq` has.

use clap::Args;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    config::seconds,
    dlq::{Filter, Status},
};

/// Which dead letters.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which dead letters")]
pub(super) struct FilterArgs {
    /// Those with this number; may be repeated, as --stream, --stage, --reason and --status
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<i64>,

    /// Those of this stream
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,

    /// Those that failed there
    #[arg(long = "stage", value_name = "STAGE")]
    #[arg(value_parser = ["wire", "decode", "check", "label", "land"])]
    stages: Vec<String>,

    /// Those with this reason, such as truncated_body or rule:NAME
    #[arg(long = "reason", value_name = "REASON")]
    reasons: Vec<String>,

    /// Those that this rule refused, or that it could not be evaluated for
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,

    /// Those seen from then on: an age such as 24h or 7d, or a moment such as 2026-05-01T12:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<OffsetDateTime>,

    /// Those seen before then
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    until: Option<OffsetDateTime>,

    /// Those written with the schema of this id
    #[arg(long, value_name = "ID")]
    schema_id: Option<u32>,

    /// Those with this Kafka key
    #[arg(id = "letter_key", long = "key", value_name = "TEXT")]
    key: Option<String>,

    /// Those with this status
    #[arg(long = "status", value_enum, value_name = "STATUS")]
    statuses: Vec<Status>,
}

impl FilterArgs {
    /// The flags as a filter.
    pub(super) fn filter(&self) -> Filter {
        Filter {
            ids: self.ids.clone(),
            streams: self.streams.clone(),
            stages: self.stages.clone(),
            reasons: self.reasons.clone(),
            rule: self.rule.clone(),
            since: self.since,
            until: self.until,
            schema_id: self.schema_id,
            key: self.key.clone().map(String::into_bytes),
            statuses: self.statuses.clone(),
        }
    }
}

/// A moment, or how long ago it was.
pub(in crate::cli) fn moment(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(moment);
    }
    let age = seconds(text).ok().and_then(|age| time::Duration::try_from(age).ok());
    age.and_then(|age| OffsetDateTime::now_utc().checked_sub(age)).ok_or_else(|| {
        "expected an age such as 90m, 24h or 7d, or a moment such as 2026-05-01T12:00:00Z".into()
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        filter: FilterArgs,
    }

    #[test]
    fn every_flag_reaches_the_filter() {
        let line = "dlq --id 1 --id 2 --stream s --stage wire --stage land --reason r --rule n \
                    --since 2026-05-01T12:00:00Z --until 2026-05-01T14:00:00+02:00 --schema-id 7 \
                    --key k --status parked --status pending";
        let noon = OffsetDateTime::from_unix_timestamp(1_777_636_800).unwrap();
        let expected = Filter {
            ids: vec![1, 2],
            streams: vec!["s".into()],
            stages: vec!["wire".into(), "land".into()],
            reasons: vec!["r".into()],
            rule: Some("n".into()),
            since: Some(noon),
            until: Some(noon),
            schema_id: Some(7),
            key: Some(b"k".to_vec()),
            statuses: vec![Status::Parked, Status::Pending],
        };
        let filter = Line::try_parse_from(line.split_whitespace()).unwrap().filter.filter();
        assert_eq!(filter, expected);
        assert_eq!(Line::try_parse_from(["dlq"]).unwrap().filter.filter(), Filter::default());
    }

    #[test]
    fn a_moment_is_a_date_or_an_age() {
        let day_ago = OffsetDateTime::now_utc() - time::Duration::DAY;
        for age in ["24h", "1d", "86400"] {
            assert!((moment(age).unwrap() - day_ago).abs() < time::Duration::MINUTE, "{age}");
        }
        for wrong in ["yesterday", "2026-05-01", "-1h", "1e300d"] {
            assert!(moment(wrong).unwrap_err().starts_with("expected an age"), "{wrong}");
        }
    }
}
