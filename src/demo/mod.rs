//! The whole pipeline in one process, on services of its own: what `sluicegate demo` runs.
//!
//! [`produce`](crate::produce), [`consume`](crate::consume) and [`serve`](crate::serve) are those of
//! every other run; only the addresses are others.
//!
//! # Layout
//!
//! 1. [`demo`]: the play, from the first record to the audit
//! 2. `services`: what it runs on
//! 3. `producers`, `consumer`: both ends of it, in tasks
//! 4. `figures`: what has come of it so far
//! 5. `view`, `summary`: what a person sees meanwhile, and at the end

mod consumer;
mod figures;
mod producers;
mod services;
mod summary;
mod view;

pub use view::View;

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::{consumer::Consumer, figures::Figures, services::Services, summary::Summary};
use crate::{
    analytics::AnalyticsOptions,
    audit::{AuditOptions, Report, audit},
    consume::ConsumeOptions,
    contract::Contract,
    metrics,
    notify::{AlertTopic, Notifier},
    produce::Produced,
    register::register,
    registry::SubjectStrategy,
    serve::{Listening, ServeOptions, Service},
    tables,
    wire::SchemaId,
};

/// The topic that alerts are sent to.
const ALERTS: &str = "alerts";

/// Where the console is, if nobody else is there.
const CONSOLE: u16 = 9_465;

/// How often it is looked what has come of it.
const LOOK: Duration = Duration::from_millis(250);

/// How long nothing may land of what was sent before it is left to the audit to say what is missing.
const STANDSTILL: Duration = Duration::from_secs(30);

/// How long alerts are waited for that what landed last may lead to.
const LAST_ALERTS: Duration = Duration::from_secs(2);

/// Of each aggregate so many sets of dimensions are shown.
const MOST_SERIES: usize = 500;

/// What is played.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Events a second of each stream.
    pub rate: f64,
    /// How long events are produced.
    pub duration: Duration,
    /// Where the console listens; a place of its own choice, where none is given.
    pub listen: Option<SocketAddr>,
    /// The folder of Postgres's programs; the newest that is found, where none is given.
    pub postgres_programs: Option<PathBuf>,
    /// Whether the database is kept.
    pub keep: bool,
    /// Whether everything stays up after the summary, until it is told to stop.
    pub hold: bool,
}

/// Plays it until its time is over or `stop` is cancelled; says whether nothing was lost. `view`
/// shows what has come of it meanwhile.
///
/// However it ends, nothing of it is left behind, but for a database that is to be kept.
pub async fn demo(
    contracts: Vec<Contract>,
    options: DemoOptions,
    mut view: View,
    stop: CancellationToken,
) -> anyhow::Result<bool> {
    view.say("starting Kafka, the schema registry and Postgres");
    let services = tokio::select! {
        services = Services::start(&contracts, &options) => services,
        () = stop.cancelled() => Err(anyhow!(NOTHING_SENT)),
    };
    let played = match &services {
        Ok(services) => {
            let play = Play { services, contracts: &contracts, options: &options };
            play.run(&mut view, &stop).await
        }
        Err(_) => Ok(false),
    };
    view.end();
    let kept = services.map(|services| summary::kept(&services, &options))?;
    if let Some(kept) = kept {
        say(&kept);
    }
    played
}

/// That it was ended before there was anything to audit.
const NOTHING_SENT: &str = "stopped before anything was sent";

/// To standard output, where somebody may have stopped listening.
fn say(text: &str) {
    _ = writeln!(std::io::stdout(), "{text}");
}

/// One play.
struct Play<'p> {
    services: &'p Services,
    contracts: &'p [Contract],
    options: &'p DemoOptions,
}

impl Play<'_> {
    async fn run(&self, view: &mut View, stop: &CancellationToken) -> anyhow::Result<bool> {
        view.say("creating tables, registering schemas");
        let postgres = self.services.postgres.options();
        let migrated = tables::migrate(&postgres, None, self.contracts, false).await?;
        tables::refuse(&migrated.refusals)?;
        let ids = self.register().await?;

        let ending = CancellationToken::new();
        let listening = self.listen(&ending).await?;
        view.console(listening.address());
        let serving = AbortOnDropHandle::new(tokio::spawn(listening.run()));
        let mut consumer = Consumer::start(self.services, self.contracts.to_vec());
        let landed = self.land(ids, &mut consumer, view, stop).await;
        // also where it failed: what they are connected to is about to go
        let ended = consumer.end().await;
        let complete = match landed.and_then(|landed| ended.map(|()| landed)) {
            Ok(landed) => self.finish(landed, view, stop).await,
            Err(error) => Err(error),
        };
        ending.cancel();
        let served = serving.await.context("the analytics panicked");
        complete.and_then(|complete| served.map(|()| complete))
    }

    /// Produces, and waits until all of it has landed.
    async fn land(
        &self,
        ids: Vec<SchemaId>,
        consumer: &mut Consumer,
        view: &mut View,
        stop: &CancellationToken,
    ) -> anyhow::Result<Landed> {
        let mut figures = Figures::connect(&self.services.postgres.options()).await?;
        let started = Instant::now();
        let mut producers =
            producers::start(self.services, self.contracts, ids, self.options, stop);
        let mut sent = Vec::new();
        while !producers.is_empty() {
            view.show(&figures.read().await?, started.elapsed(), stop.is_cancelled());
            consumer.unless_ended().await?;
            tokio::time::sleep(LOOK).await;
            while let Some(produced) = producers.try_join_next() {
                sent.push(produced.context("a producer panicked")??);
            }
        }
        let took = started.elapsed();
        let delivered: u64 = sent.iter().map(|(_, produced)| produced.delivered).sum();
        if delivered == 0 {
            bail!(NOTHING_SENT);
        }
        let mut moved = Instant::now();
        let (mut before, mut landed_at) = (0, None);
        while moved.elapsed() < STANDSTILL {
            let now = figures.read().await?;
            view.show(&now, started.elapsed(), stop.is_cancelled());
            if now.seen() == delivered && now.unpublished == 0 {
                let landed_at: Instant = *landed_at.get_or_insert_with(Instant::now);
                if landed_at.elapsed() >= LAST_ALERTS {
                    break;
                }
            }
            if now.seen() != before {
                (before, moved) = (now.seen(), Instant::now());
            }
            consumer.unless_ended().await?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(Landed { sent, took, figures })
    }

    /// Audits, says what came of it, and stays up if it is to; says whether nothing is missing.
    async fn finish(
        &self,
        landed: Landed,
        view: &mut View,
        stop: &CancellationToken,
    ) -> anyhow::Result<bool> {
        let Landed { sent, took, mut figures } = landed;
        view.say("auditing");
        let audited = self.audit().await?;
        let figures = figures.read().await?;
        view.end();
        say(&Summary { sent: &sent, took, figures: &figures, audit: &audited }.render());
        let stream = self.contracts.first().map_or("", |contract| &contract.stream);
        let hold = self.options.hold && !stop.is_cancelled();
        say(&summary::next_steps(self.services, hold, view.address(), stream)?);
        if hold {
            let mut consumer = Consumer::start(self.services, self.contracts.to_vec());
            let ended = tokio::select! {
                () = stop.cancelled() => Ok(()),
                ended = consumer.until_ended() => ended,
            };
            consumer.end().await?;
            ended?;
        }
        Ok(audited.complete)
    }

    async fn register(&self) -> anyhow::Result<Vec<SchemaId>> {
        let registry = self.services.registry_client()?;
        let mut ids = Vec::new();
        for contract in self.contracts {
            let subject =
                SubjectStrategy::default().subject(&contract.topic.name, &contract.fullname);
            ids.push(register(&registry, &subject, contract).await?.id);
        }
        Ok(ids)
    }

    async fn listen(&self, stop: &CancellationToken) -> anyhow::Result<Listening> {
        let (broker, registry) = (self.services.broker_client()?, self.services.registry_client()?);
        let postgres = self.services.postgres.options();
        let strategy = SubjectStrategy::default();
        let topic = AlertTopic::new(ALERTS, strategy, broker.clone(), registry, self.contracts)?;
        let notifier = Notifier::new(&postgres, Some(topic), None);
        let options = AnalyticsOptions {
            every: Duration::from_millis(500),
            lateness: Duration::from_secs(30),
            idle: Duration::from_secs(2),
            hold: Duration::from_secs(6 * 3_600),
            look_back: Duration::from_secs(24 * 3_600),
            targets: notifier.targets(),
        };
        let process = metrics::install(&[metrics::PROCESS, metrics::CONSUME, metrics::SERVE])?;
        let options = ServeOptions { analytics: options, most_series: MOST_SERIES };
        let service =
            Service::new(self.contracts.to_vec(), broker, postgres, notifier, options).await?;
        // the usual place, or any if somebody is there
        let usual = [CONSOLE, 0].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let wanted = self.options.listen.map_or(usual.to_vec(), |address| vec![address]);
        service.listen(&wanted, process, stop.clone()).await
    }

    async fn audit(&self) -> anyhow::Result<Report> {
        let group_prefix = ConsumeOptions::default().group_prefix;
        let options = AuditOptions { group_prefix, drained: true };
        let broker = self.services.broker_client()?;
        audit(self.contracts, &self.services.postgres.options(), &broker, &options).await
    }
}

/// What was sent, by stream; how long that took; and where it is looked what came of it.
struct Landed {
    sent: Vec<(String, Produced)>,
    took: Duration,
    figures: Figures,
}
