//! Waiting: for a dependency that is away, and for as long as the batch in hand is ours.

use std::{pin::pin, time::Duration};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{progress::Progress, stream::Stream};
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
    stream: &'w str,
    /// The epoch of the batch in hand.
    epoch: u64,
    progress: &'w Progress,
    stop: &'w CancellationToken,
}

impl<'w> Wait<'w> {
    /// For a stream's batch of one epoch.
    pub(super) fn of(stream: &'w Stream, epoch: u64) -> Wait<'w> {
        let Stream { contract, progress, stop, .. } = stream;
        Wait { stream: &contract.stream, epoch, progress, stop }
    }

    /// Waits before the next attempt, if there is to be one.
    pub(super) async fn out(
        &self,
        what: &'static str,
        failure: Failure,
        outage: &mut Outage,
    ) -> Result<(), Abandoned> {
        let delay = delay(self.stream, what, failure, outage).map_err(Abandoned::Stop)?;
        let _waiting = metrics::waiting(self.stream, what);
        self.unless_given_up(tokio::time::sleep(delay)).await
    }

    /// What comes of something, unless the batch is given up before.
    pub(super) async fn unless_given_up<T>(
        &self,
        something: impl Future<Output = T>,
    ) -> Result<T, Abandoned> {
        tokio::select! {
            outcome = something => Ok(outcome),
            () = self.progress.until_given_up(self.epoch) => Err(Abandoned::NotOurs),
            () = self.stop.cancelled() => Err(Abandoned::NotOurs),
        }
    }
}

/// How long to wait before what failed is tried again; why the stream must stop where it is not.
pub(super) fn delay(
    stream: &str,
    what: &str,
    failure: Failure,
    outage: &mut Outage,
) -> Result<Duration, String> {
    let asked_for = failure.retry_after();
    let error = match failure {
        Failure::Dependency(error) => error,
        stop => return Err(stop.to_string()),
    };
    let delay =
        outage.failed(asked_for).map_err(|too_long| format!("{what}: {too_long}: {error:#}"))?;
    tracing::warn!(
        stream,
        error = format!("{error:#}"),
        "waiting for {what}; nothing is lost, and nothing is dead-lettered for it"
    );
    Ok(delay)
}

/// Waits until something is so; whoever makes it so tells `told`.
pub(super) async fn until(told: &Notify, is_so: impl Fn() -> bool) {
    loop {
        let mut notified = pin!(told.notified());
        // before looking, or what happens in between would go unnoticed
        notified.as_mut().enable();
        if is_so() {
            return;
        }
        notified.await;
    }
}
