//! Readings onto their topic: source -> codec -> topic, keyed, delivery awaited.

mod anomalies;
mod faults;
mod key;
mod options;
mod send;
mod simulated;

use std::time::Duration;

use anyhow::Context;
use apache_avro::types::Value;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use faults::Share;
pub use options::{ProduceOptions, Produced, Source};

use self::{
    anomalies::AnomalyFile,
    faults::{Fault, Faults},
    key::key_bytes,
    send::{Message, Sender},
    simulated::Simulated,
};
use crate::{
    broker::Broker,
    codec::Encoder,
    contract::{Contract, Identity},
    source::{Readings, RejectFile, Rejected, Row, StreamInput, file, http::Poller},
    wire::{SchemaId, frame},
};

/// How far a run may lag behind its rate and still catch up.
const SLACK: Duration = Duration::from_secs(1);

/// The longest that a server is left alone because it asks for it.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// How often a run that has no bar says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Produces until the source ends, a limit is reached or `stop` is cancelled, and waits until
/// every record is acknowledged. A record that is not is an error.
pub async fn produce(
    contract: &Contract,
    broker: &Broker,
    schema_id: SchemaId,
    options: ProduceOptions,
    stop: CancellationToken,
) -> anyhow::Result<Produced> {
    let faults = Faults::new(contract, &options)?;
    let run = Run {
        contract,
        encoder: Encoder::new(&contract.schema)?,
        schema_id,
        sender: Sender::new(broker, &contract.topic.name)?,
        faults,
        rejects: RejectFile::new(&options.rejects),
        bar: if options.bar { progress_bar(options.count) } else { ProgressBar::hidden() },
        started: Instant::now(),
        said: Instant::now(),
        due: Instant::now(),
        sent: 0,
        produced: Produced::default(),
        options,
        stop,
    };
    run.finish().await
}

/// One run.
struct Run<'c> {
    contract: &'c Contract,
    encoder: Encoder<'c>,
    schema_id: SchemaId,
    sender: Sender,
    faults: Faults<'c>,
    rejects: RejectFile,
    bar: ProgressBar,
    started: Instant,
    said: Instant,
    /// When the next record is due, where there is a rate.
    due: Instant,
    sent: u64,
    produced: Produced,
    options: ProduceOptions,
    stop: CancellationToken,
}

impl Run<'_> {
    async fn finish(mut self) -> anyhow::Result<Produced> {
        match self.options.source.clone() {
            Source::Simulate => self.simulate().await?,
            Source::File(path) => self.file(&path).await?,
            Source::Poll { url, every } => self.poll(&url, every).await?,
        }
        self.produced.delivered = self.sender.finish().await?;
        self.produced.rejected = self.rejects.count();
        self.bar.finish_and_clear();
        if self.rejects.count() > 0 {
            let (rejected, file) = (self.rejects.count(), self.rejects.path().display());
            let stream = &self.contract.stream;
            tracing::warn!(stream, rejected, %file, "some rows could not be encoded");
        }
        Ok(self.produced)
    }

    async fn simulate(&mut self) -> anyhow::Result<()> {
        let mut simulated = Simulated::new(self.contract, &self.options)?;
        // a file that can't be written is known before anything is sent
        let anomalies = self.options.anomalies.as_deref().map(AnomalyFile::create).transpose()?;
        while !self.is_over() {
            let reading = simulated.next()?;
            let message = match self.faults.next() {
                Some(Fault::Duplicate) => match self.faults.earlier() {
                    Some(message) => {
                        self.produced.duplicates += 1;
                        message
                    }
                    None => self.message(&reading)?,
                },
                Some(Fault::Invalid) => {
                    self.produced.invalid += 1;
                    let reading = self.faults.invalid(reading)?;
                    self.message(&reading)?
                }
                Some(Fault::Corrupt) => {
                    self.produced.corrupt += 1;
                    let mut message = self.message(&reading)?;
                    self.faults.corrupt(&mut message.value);
                    message
                }
                None => {
                    let message = self.message(&reading)?;
                    self.faults.remember(&message);
                    message
                }
            };
            self.send(message).await?;
        }
        if let Some(file) = anomalies {
            file.write(&self.contract.stream, &simulated)?;
        }
        Ok(())
    }

    async fn file(&mut self, path: &std::path::Path) -> anyhow::Result<()> {
        let readings = readings(self.contract)?;
        let mut rows = file::open(path, &self.contract.input)?;
        while !self.is_over() {
            // standard input may take its time
            let Some(row) = tokio::task::block_in_place(|| rows.next()) else { break };
            self.row(&readings, row.with_context(|| path.display().to_string())?).await?;
        }
        Ok(())
    }

    async fn poll(&mut self, url: &str, every: Option<Duration>) -> anyhow::Result<()> {
        let readings = readings(self.contract)?;
        let mut poller = Poller::new(url, &self.contract.input)?;
        while !self.is_over() {
            let polled_at = Instant::now();
            let mut wait = every;
            match (poller.fetch().await, every) {
                (Ok(rows), _) => {
                    let rows = rows.unwrap_or_default();
                    tracing::info!(stream = self.contract.stream, new = rows.len(), "polled");
                    for row in rows {
                        if self.is_over() {
                            return Ok(());
                        }
                        self.row(&readings, row).await?;
                    }
                    // only what has arrived need not be fetched again
                    self.sender.flush().await?;
                    poller.delivered();
                }
                (Err(error), None) => return Err(error.into()),
                (Err(error), Some(every)) => {
                    let asked = error.retry_after().unwrap_or(every).min(LONGEST_WAIT);
                    wait = Some(asked.max(every));
                    let error = anyhow::Error::from(error);
                    tracing::warn!(error = %format!("{error:#}"), "polling failed; trying again later");
                }
            }
            let Some(wait) = wait else { break };
            tokio::select! {
                () = tokio::time::sleep_until(self.deadline(polled_at + wait)) => {}
                () = self.stop.cancelled() => {}
            }
        }
        Ok(())
    }

    async fn row(
        &mut self,
        readings: &Readings<'_>,
        row: Result<Row, Rejected>,
    ) -> anyhow::Result<()> {
        match row.and_then(|row| readings.read(row)) {
            Ok(reading) => {
                let message = self.message(&reading)?;
                self.send(message).await
            }
            Err(rejected) => self.rejects.write(&rejected),
        }
    }

    fn message(&self, reading: &Value) -> anyhow::Result<Message> {
        let body = self.encoder.encode(reading)?;
        let key = self.contract.key.and_then(|index| key_bytes(reading, index));
        Ok(Message { key, value: frame(self.schema_id, &body) })
    }

    async fn send(&mut self, message: Message) -> anyhow::Result<()> {
        self.sender.send(message).await?;
        self.sent += 1;
        self.say_how_far();
        if let Some(rate) = self.options.rate {
            // what was not sent while there was nothing to send is not made up for
            let since = self.due.max(Instant::now().checked_sub(SLACK).unwrap_or(self.due));
            self.due = since + Duration::from_secs_f64(1.0 / rate);
            if self.due > Instant::now() {
                tokio::select! {
                    () = tokio::time::sleep_until(self.deadline(self.due)) => {}
                    () = self.stop.cancelled() => {}
                }
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let counted = self.options.count.is_some_and(|count| self.sent >= count);
        let timed = self.options.duration.is_some_and(|time| self.started.elapsed() >= time);
        counted || timed || self.stop.is_cancelled()
    }

    /// A moment, or the end of the run if that is earlier.
    fn deadline(&self, moment: Instant) -> Instant {
        let end = self.options.duration.map(|duration| self.started + duration);
        end.map_or(moment, |end| end.min(moment))
    }

    /// A bar on a terminal, a line now and then elsewhere.
    fn say_how_far(&mut self) {
        if self.sent.is_multiple_of(64) {
            self.bar.set_position(self.sent);
        }
        if self.bar.is_hidden() && self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            tracing::info!(stream = self.contract.stream, sent = self.sent, "producing");
        }
    }
}

fn readings(contract: &Contract) -> anyhow::Result<Readings<'_>> {
    let id_field = match contract.identity {
        Identity::Field(_) => Some(contract.id_column()),
        Identity::Coordinates => None,
    };
    Readings::new(StreamInput {
        stream: &contract.stream,
        schema: &contract.schema,
        mapping: &contract.input,
        id_field,
        id_from: &contract.id_from,
    })
}

fn progress_bar(count: Option<u64>) -> ProgressBar {
    let (bar, template) = match count {
        Some(count) => (ProgressBar::new(count), "{bar:30} {pos}/{len} {per_sec} {eta}"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} {per_sec} {elapsed}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
