//! Waiting for a dependency, while the batch in hand is ours.

use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use crate::{failure::Failure, metrics, retry::Outage};

/// Why a batch is not written.
#[derive(Debug)]
pub(super) enum Abandoned {
    /// Its partitions belong to somebody else, are read again, or the program ends.
    NotOurs,
    /// A person has to mend something.
    Stop(String),
}

/// What somebody waits for, and until when it is worth it.
pub(super) struct Wait<'w> {
    /// The stream.
    pub(super) stream: &'w str,
    /// The epoch of the batch in hand.
    pub(super) epoch: u64,
    pub(super) progress: &'w Progress,
    pub(super) stop: &'w CancellationToken,
}

impl Wait<'_> {
    /// Waits before the next attempt, if there is to be one.
    pub(super) async fn out(
        &self,
        what: &'static str,
        failure: Failure,
        outage: &mut Outage,
    ) -> Result<(), Abandoned> {
        let asked_for = failure.retry_after();
        let error = match failure {
            Failure::Dependency(error) => error,
            stop => return Err(Abandoned::Stop(stop.to_string())),
        };
        let delay = outage
            .failed(asked_for)
            .map_err(|too_long| Abandoned::Stop(format!("{what}: {too_long}: {error:#}")))?;
        tracing::warn!(
            stream = self.stream,
            error = format!("{error:#}"),
            "waiting for {what}; nothing is lost, and nothing is dead-lettered for it"
        );
        let _waiting = metrics::waiting(self.stream, what);
        self.pause(delay).await
    }

    /// Lets a time pass, unless the batch is given up before.
    pub(super) async fn pause(&self, time: std::time::Duration) -> Result<(), Abandoned> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.progress.until_given_up(self.epoch) => Err(Abandoned::NotOurs),
            () = self.stop.cancelled() => Err(Abandoned::NotOurs),
        }
    }
}
