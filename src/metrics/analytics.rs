//! What `serve` counts.

use std::time::Duration;

use time::OffsetDateTime;

use super::list::{ALERT_DELIVERIES, ALERT_TRANSITIONS, LEADER, STEP_DURATION, STEPS, WATERMARK};
use crate::notify::Status;

/// Whether this process is the one that makes metrics and alerts.
pub(crate) fn leads(leader: bool) {
    LEADER.gauge(&[]).set(f64::from(u8::from(leader)));
}

/// A step of analytics ended, well or not.
pub(crate) fn step_ended(ok: bool, time: Duration) {
    STEPS.counter(&[if ok { "ok" } else { "failed" }]).increment(1);
    STEP_DURATION.histogram(&[]).record(time);
}

/// Up to when a stream has been read, by its events' own time.
pub(crate) fn watermark(stream: &str, at: OffsetDateTime) {
    WATERMARK.gauge(&[stream]).set((at - OffsetDateTime::UNIX_EPOCH).as_seconds_f64());
}

/// An alert became `open` or `resolved`.
pub(crate) fn alert_became(stream: &str, alert: &str, status: Status) {
    ALERT_TRANSITIONS.counter(&[stream, alert, status.name()]).increment(1);
}

/// How an attempt to tell a target of an alert ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It knows.
    Delivered,
    /// It is tried again.
    Failed,
    /// It is not tried again.
    GivenUp,
}

/// Somebody was told of an alert, or was to be.
pub(crate) fn told(target: &str, delivery: Delivery) {
    let result = match delivery {
        Delivery::Delivered => "delivered",
        Delivery::Failed => "failed",
        Delivery::GivenUp => "given_up",
    };
    ALERT_DELIVERIES.counter(&[target, result]).increment(1);
}
