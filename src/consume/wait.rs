//! Waiting: for a dependency that is away, and for as long as the batch in hand is ours.

use std::{pin::pin, time::Duration};

use tokio::sync::Notify;

use super::stream::Stream;
use crate::{failure::Failure, retry::Outage};

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
    pub(super) stream: &'w Stream,
    /// The epoch of the batch in hand.
    pub(super) epoch: u64,
}

impl Wait<'_> {
    /// Waits before the next attempt, if there is to be one.
    pub(super) async fn out(
        &self,
        what: &'static str,
        failure: Failure,
        outage: &mut Outage,
    ) -> Result<(), Abandoned> {
        let stream = self.stream.name();
        let delay = delay(stream, what, failure, outage).map_err(Abandoned::Stop)?;
        self.unless_given_up(tokio::time::sleep(delay)).await
    }

    /// What comes of something, unless the batch is given up before.
    pub(super) async fn unless_given_up<T>(
        &self,
        something: impl Future<Output = T>,
    ) -> Result<T, Abandoned> {
        tokio::select! {
            outcome = something => Ok(outcome),
            () = self.stream.progress.until_given_up(self.epoch) => Err(Abandoned::NotOurs),
            () = self.stream.stop.cancelled() => Err(Abandoned::NotOurs),
        }
    }
}

/// How long to wait before what failed is tried again; why the stream must stop where it is not.
pub(super) fn delay(
    stream: &str,
    what: &'static str,
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
    outage.is_waited_for(stream, what);
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
