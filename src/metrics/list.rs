//! Every metric whose name is fixed: its kind, its labels, and what it says. Descriptions and
//! `docs/metrics.md` are made of it.

use ::metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, with the unit and, for a counter, `_total` at the end.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// The names of its labels, each with few values.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// What may be done with a metric's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It is as it is.
    Gauge,
    /// How many values there were up to each of some bounds.
    Histogram,
}

/// Each metric as a constant, and all of them as a list, so that none is missing there.
macro_rules! metrics {
    ($(#[$doc:meta])* $list:ident:
     $($constant:ident = $kind:ident $name:literal {$($label:literal),*} $help:literal;)*) => {
        $(pub(super) const $constant: Metric =
            Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        $(#[$doc])*
        pub const $list: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    /// What every process shows.
    PROCESS:
    BUILD_INFO = Gauge "sluicegate_build_info" {"version"}
        "1, with the version that runs";
    WAITING_TASKS = Gauge "sluicegate_waiting_tasks" {"stream", "dependency"}
        "Tasks that wait for a dependency that is away";
}

metrics! {
    /// What `consume` shows besides.
    CONSUME:
    RECEIVED_RECORDS = Counter "sluicegate_received_records_total" {"stream"}
        "Records polled from Kafka; redelivered ones are counted again";
    RECEIVED_BYTES = Counter "sluicegate_received_bytes_total" {"stream"}
        "Bytes of the keys, values and headers of those records";
    STAGE_DURATION = Histogram "sluicegate_stage_duration_seconds" {"stream", "stage"}
        "How long a batch took: decide (decode, check and label), write (its transaction up to the commit), commit";
    RECORDS = Counter "sluicegate_records_total" {"stream", "outcome"}
        "Offsets by what became of them; redelivered ones are not counted again";
    BATCHES = Counter "sluicegate_batches_total" {"stream", "way"}
        "Batches that landed, by the way they went: direct into the table, or staged";
    DEAD_LETTERS = Counter "sluicegate_dead_letters_total" {"stream", "stage", "reason"}
        "Dead letters that are in dlq_events, by what is wrong with them";
    PUBLISHED = Counter "sluicegate_dead_letters_published_total" {"stream"}
        "Copies of dead letters that their topic has acknowledged";
    OFFSET_COMMITS = Counter "sluicegate_offset_commits_total" {"stream"}
        "Commits of offsets that were sent to Kafka";
    COMMITS_FAILED = Counter "sluicegate_offset_commits_failed_total" {"stream"}
        "Those of them that failed; what they were to cover may be read again, and lands once";
    EXPIRED = Counter "sluicegate_expired_offsets_total" {"stream"}
        "Offsets that Kafka deleted before they were read";
    NEWEST_EVENT = Gauge "sluicegate_newest_event_timestamp_seconds" {"stream"}
        "The newest time of an event that this process landed";
    BREAKER = Gauge "sluicegate_breaker_open" {"stream"}
        "1 while the stream pauses because nearly all events would be dead letters";
    STOPPED = Gauge "sluicegate_stream_stopped" {"stream"}
        "1 once the stream has stopped for a reason that a person must mend; others go on";
}

metrics! {
    /// What `serve` shows besides.
    SERVE:
    LEADER = Gauge "sluicegate_analytics_leader" {}
        "1 while this process is the one that makes metrics and alerts, 0 while another is";
    STEPS = Counter "sluicegate_analytics_steps_total" {"result"}
        "Steps of analytics: ok or failed; a failed one is taken again";
    STEP_DURATION = Histogram "sluicegate_analytics_step_duration_seconds" {}
        "How long a step of analytics took";
    WATERMARK = Gauge "sluicegate_analytics_watermark_timestamp_seconds" {"stream"}
        "Up to when buckets of the stream are closed, by the events' own time";
    ALERT_TRANSITIONS = Counter "sluicegate_alert_transitions_total" {"stream", "alert", "status"}
        "Alerts that became open or resolved";
    ALERT_DELIVERIES = Counter "sluicegate_alert_deliveries_total" {"target", "result"}
        "Attempts to tell a target of an alert: delivered, failed (tried again) or given_up";
    SCRAPE_ERRORS = Counter "sluicegate_scrape_errors_total" {}
        "Scrapes for which the database could not be read";
}

metrics! {
    /// What `serve` reads from the database and from Kafka for each scrape.
    DATABASE:
    DATABASE_UP = Gauge "sluicegate_database_up" {}
        "1 where the database was read for this scrape; without it, all that is read there is missing";
    LEDGER_OFFSETS = Counter "sluicegate_ledger_offsets_total" {"stream", "outcome"}
        "Offsets in the ledger by what became of them";
    LEDGER_NEWEST = Gauge "sluicegate_ledger_newest_event_timestamp_seconds" {"stream"}
        "The newest time of an event that landed, whoever landed it";
    LAG = Gauge "sluicegate_lag_records" {"stream"}
        "Offsets on the topic that are not in the ledger yet; missing while Kafka does not answer";
    UNPUBLISHED = Gauge "sluicegate_dead_letters_unpublished" {"stream"}
        "Dead letters whose copy is not on their topic yet";
    BREAKERS = Gauge "sluicegate_breakers_open" {"stream"}
        "Members of the consumer group that pause because nearly all events would be dead letters";
    ALERTS_OPEN = Gauge "sluicegate_alerts_open" {"stream", "alert"}
        "Alerts that are open";
    DELIVERIES_PENDING = Gauge "sluicegate_alert_deliveries_pending" {"target"}
        "What a target has still to be told of alerts";
    BUCKET = Gauge "sluicegate_aggregate_bucket_timestamp_seconds" {"aggregate"}
        "Where the bucket begins whose metrics are shown: the newest one that is closed";
    OMITTED = Gauge "sluicegate_aggregate_series_omitted" {"aggregate"}
        "Sets of dimensions of that bucket that are not shown, being those with the fewest events";
}

impl Metric {
    /// The counter with these values of its labels.
    pub(super) fn counter(&self, values: &[&str]) -> Counter {
        counter!(self.name, self.with(values))
    }

    /// The gauge with these values of its labels.
    pub(super) fn gauge(&self, values: &[&str]) -> Gauge {
        gauge!(self.name, self.with(values))
    }

    /// The histogram with these values of its labels.
    pub(super) fn histogram(&self, values: &[&str]) -> Histogram {
        histogram!(self.name, self.with(values))
    }

    fn with(&self, values: &[&str]) -> Vec<Label> {
        debug_assert_eq!(self.labels.len(), values.len(), "{}", self.name);
        let label = |(name, value): (&&'static str, &&str)| Label::new(*name, escaped(value));
        self.labels.iter().zip(values).map(label).collect()
    }
}

impl Kind {
    /// Its name, as Prometheus has it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A label's value as the exporter takes it: to its mind two backslashes are one that is escaped
/// already, and one before a quotation mark is nothing.
pub(super) fn escaped(value: &str) -> String {
    value.replace('\\', r"\\")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PAGE: &str = include_str!("../../docs/metrics.md");

    fn all() -> impl Iterator<Item = &'static Metric> {
        [PROCESS, CONSUME, SERVE, DATABASE].into_iter().flatten()
    }

    fn table(list: &[Metric]) -> String {
        let row = |metric: &Metric| {
            let labels: Vec<String> =
                metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let Metric { name, kind, help, .. } = metric;
            format!("| `{name}` | {} | {} | {help} |\n", kind.name(), labels.join(", "))
        };
        let head = "| metric | kind | labels | what it says |\n| --- | --- | --- | --- |\n";
        list.iter().map(row).fold(head.to_owned(), |table, row| table + &row)
    }

    #[test]
    fn the_documented_tables_are_the_codes_own() {
        let tables = [PROCESS, CONSUME, SERVE, DATABASE].map(table);
        let missing: Vec<String> =
            tables.into_iter().filter(|table| !PAGE.contains(table.as_str())).collect();
        assert!(missing.is_empty(), "docs/metrics.md lacks:\n\n{}", missing.join("\n"));
    }

    #[test]
    fn names_are_as_prometheus_asks_and_no_two_are_the_same() {
        let names: BTreeSet<&str> = all().map(|metric| metric.name).collect();
        assert_eq!(names.len(), all().count());
        for Metric { name, kind, labels, help } in all() {
            let legal = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.starts_with("sluicegate_") && name.chars().all(legal), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(*kind != Kind::Histogram || name.ends_with("_seconds"), "{name}");
            assert!(labels.iter().all(|label| label.chars().all(legal)), "{labels:?}");
            assert!(!help.is_empty() && !help.ends_with('.'), "{help}");
        }
    }
}
