//! What the pipeline does, as Prometheus reads it.

use std::net::SocketAddr;

use ::metrics::{counter, describe_counter, describe_gauge, gauge};
use anyhow::Context;
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::sink::{Way, Written};

const RECORDS: &str = "sluicegate_records_total";
const BATCHES: &str = "sluicegate_batches_total";
const EXPIRED: &str = "sluicegate_expired_offsets_total";
const WAITING: &str = "sluicegate_waiting_tasks";
const BREAKER: &str = "sluicegate_breaker_open";

/// Answers at `http://ADDRESS/metrics` for as long as the program runs. Needs a Tokio runtime.
pub fn serve(address: SocketAddr) -> anyhow::Result<()> {
    PrometheusBuilder::new()
        .with_http_listener(address)
        .install()
        .with_context(|| format!("metrics can't be served at {address}"))?;
    describe_counter!(
        RECORDS,
        "Offsets by what became of them; redelivered ones are not counted again"
    );
    describe_counter!(
        BATCHES,
        "Batches that landed, by the way they went: direct into the table, or staged"
    );
    describe_counter!(EXPIRED, "Offsets that Kafka deleted before they were read");
    describe_gauge!(WAITING, "Tasks that wait for a dependency that is away");
    describe_gauge!(
        BREAKER,
        "1 while the stream pauses because nearly all events would be dead letters"
    );
    Ok(())
}

/// A batch landed.
pub(crate) fn landed(stream: &str, written: &Written, way: Way) {
    let Written { inserted, duplicate, dead_lettered, skipped } = *written;
    for (outcome, records) in [
        ("inserted", inserted),
        ("duplicate", duplicate),
        ("dead_lettered", dead_lettered),
        ("skipped", skipped),
    ] {
        let records = u64::try_from(records).unwrap_or_default();
        counter!(RECORDS, "stream" => stream.to_owned(), "outcome" => outcome).increment(records);
    }
    counter!(BATCHES, "stream" => stream.to_owned(), "way" => way.name()).increment(1);
}

/// Kafka deleted offsets that nobody had read.
pub(crate) fn expired(stream: &str, offsets: i64) {
    let offsets = u64::try_from(offsets).unwrap_or_default();
    counter!(EXPIRED, "stream" => stream.to_owned()).increment(offsets);
}

/// The stream's breaker opened or closed.
pub(crate) fn breaker(stream: &str, open: bool) {
    gauge!(BREAKER, "stream" => stream.to_owned()).set(f64::from(u8::from(open)));
}

/// Somebody waits for a dependency, until the value is dropped.
pub(crate) fn waiting(stream: &str, dependency: &'static str) -> Waiting {
    let gauge = gauge!(WAITING, "stream" => stream.to_owned(), "dependency" => dependency);
    gauge.increment(1.0);
    Waiting(gauge)
}

/// See [`waiting`].
pub(crate) struct Waiting(::metrics::Gauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

pub(crate) fn analytics_leads(_leads: bool) {}
pub(crate) fn analytics_stepped(_ok: bool, _took: std::time::Duration) {}
pub(crate) fn watermark(_stream: &str, _at: time::OffsetDateTime) {}
pub(crate) fn alert_changed(_stream: &str, _alert: &str, _status: &'static str) {}
pub(crate) fn alert_delivery(_target: &str, _result: &'static str) {}
