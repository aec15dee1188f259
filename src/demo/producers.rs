//! Simulated readings of every stream, each in a task.

use std::{path::PathBuf, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{DemoOptions, services::Services};
use crate::{
    contract::Contract,
    produce::{ProduceOptions, Produced, Share, Source, produce},
    wire::SchemaId,
};

/// The time that passes for the events, at least: alerts take minutes.
const EVENT_TIME: Duration = Duration::from_secs(900);

/// What of the events is sent a second time, breaks a rule, is no event at all.
const FAULTS: [Share; 3] = [Share::percent(2), Share::percent(2), Share::percent(1)];

/// Starts them, until their time is over or `stop` is cancelled; each gives its stream and what it sent.
pub(super) fn start(
    services: &Services,
    contracts: &[Contract],
    ids: Vec<SchemaId>,
    options: &DemoOptions,
    stop: &CancellationToken,
) -> JoinSet<anyhow::Result<(String, Produced)>> {
    let mut producers = JoinSet::new();
    for (contract, id) in contracts.iter().cloned().zip(ids) {
        let (broker, options, stop) = (services.broker_client(), readings(options), stop.clone());
        producers.spawn(async move {
            let produced = produce(&contract, &broker?, id, options, stop).await?;
            Ok((contract.stream, produced))
        });
    }
    producers
}

fn readings(options: &DemoOptions) -> ProduceOptions {
    let [duplicates, invalid, corrupt] = FAULTS;
    let duration = options.duration;
    ProduceOptions {
        source: Source::Simulate,
        rate: Some(options.rate),
        count: None,
        duration: Some(duration),
        seed: u64::from(rand::random::<u32>()),
        start: None,
        speed_up: (EVENT_TIME.as_secs_f64() / duration.as_secs_f64()).max(1.0),
        anomalies: None,
        duplicates,
        invalid,
        corrupt,
        rejects: PathBuf::new(),
        bar: false,
    }
}
