//! What `serve` counts.
#![expect(dead_code, reason = "analytics counts with it, which is being built")]

use std::time::Duration;

use super::list::{ALERT_DELIVERIES, ALERT_TRANSITIONS, LEADER, STEP_DURATION, STEPS, WATERMARK};

/// Whether this process is the one that makes metrics and alerts.
pub(crate) fn leads(leader: bool) {
    LEADER.gauge(&[]).set(f64::from(u8::from(leader)));
}

/// A step of analytics ended, well or not.
pub(crate) fn step_ended(ok: bool, time: Duration) {
    STEPS.counter(&[if ok { "ok" } else { "failed" }]).increment(1);
    STEP_DURATION.histogram(&[]).record(time);
}

/// Up to when the stream's buckets are closed, in seconds since 1970.
pub(crate) fn watermark(stream: &str, seconds: f64) {
    WATERMARK.gauge(&[stream]).set(seconds);
}

/// So many alerts of one name became `open` or `resolved`.
pub(crate) fn alerts_became(stream: &str, alert: &str, status: &str, alerts: u64) {
    ALERT_TRANSITIONS.counter(&[stream, alert, status]).increment(alerts);
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
