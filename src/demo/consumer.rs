//! The pipeline, in a task.

use anyhow::{Context, bail};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::services::Services;
use crate::{
    consume::{ConsumeOptions, StreamReport, consume},
    contract::Contract,
};

/// Consumes until it is ended.
pub(super) struct Consumer {
    stop: CancellationToken,
    task: Option<JoinHandle<anyhow::Result<Vec<StreamReport>>>>,
}

impl Consumer {
    pub(super) fn start(services: &Services, contracts: Vec<Contract>) -> Consumer {
        let (broker, registry) = (services.broker_client(), services.registry_client());
        let (postgres, stop) = (services.postgres.options(), CancellationToken::new());
        let stopping = stop.clone();
        let task = tokio::spawn(async move {
            let options = ConsumeOptions::default();
            consume(contracts, broker?, registry?, postgres, options, stopping).await
        });
        Consumer { stop, task: Some(task) }
    }

    /// An error if it has ended, which it does not do by itself.
    pub(super) async fn unless_ended(&mut self) -> anyhow::Result<()> {
        let has_ended = self.task.as_ref().is_none_or(JoinHandle::is_finished);
        if has_ended { self.until_ended().await } else { Ok(()) }
    }

    pub(super) async fn until_ended(&mut self) -> anyhow::Result<()> {
        self.join().await?;
        bail!("the consumer has ended")
    }

    /// Ends it in order.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.join().await
    }

    async fn join(&mut self) -> anyhow::Result<()> {
        let Some(task) = &mut self.task else { return Ok(()) };
        let ended = task.await;
        self.task = None;
        ended.context("the consumer panicked")?.map(drop)
    }
}
