//! Analytics, alerts and their pages, in one process.

use std::{net::SocketAddr, sync::Arc};

use sqlx::postgres::PgConnectOptions;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    analytics::{Analytics, AnalyticsOptions},
    broker::{Broker, TopicEnds},
    contract::Contract,
    http::{self, Page, Serving},
    metrics::{DatabaseMetrics, Process},
    notify::{Delivered, Notifier},
    tables,
};

/// How it serves.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// How closed buckets are looked at.
    pub analytics: AnalyticsOptions,
    /// Of each aggregate, at most so many sets of dimensions are shown.
    pub most_series: usize,
}

/// What looks at closed buckets, tells of alerts and shows both.
pub struct Service {
    analytics: Analytics,
    notifier: Notifier,
    database: DatabaseMetrics,
}

impl Service {
    /// Over the contracts' tables.
    pub async fn new(
        contracts: Vec<Contract>,
        broker: Broker,
        postgres: PgConnectOptions,
        notifier: Notifier,
        options: ServeOptions,
    ) -> anyhow::Result<Service> {
        let ServeOptions { analytics: options, most_series } = options;
        tables::verify_migrated(&postgres).await?;
        let contracts = Arc::new(contracts);
        let topics = contracts.iter().map(|contract| contract.topic.name.clone()).collect();
        let ends = Arc::new(TopicEnds::watch(broker, topics));
        let analytics = Analytics::new(contracts.clone(), postgres.clone(), ends.clone(), options);
        let database = DatabaseMetrics::new(contracts, postgres, ends, most_series);
        Ok(Service { analytics, notifier, database })
    }

    /// Looks once, and tells what came of it; gives what was told, and whether looking went well.
    pub async fn run_once(self) -> anyhow::Result<(Delivered, anyhow::Result<()>)> {
        let looked = self.analytics.run_once().await;
        Ok((self.notifier.deliver_due().await?, looked))
    }

    /// Shows at the first of the addresses that is free what there is, with what this process counts;
    /// [`run`](Listening::run) is to follow.
    pub async fn listen(
        self,
        addresses: &[SocketAddr],
        process: Process,
        stop: CancellationToken,
    ) -> anyhow::Result<Listening> {
        let Service { analytics, notifier, database } = self;
        let database = Arc::new(database);
        let page = Page::new(process).with(move || {
            let database = database.clone();
            async move { database.render().await }
        });
        let serving = http::serve(addresses, http::routes(page), stop.clone()).await?;
        Ok(Listening { serving, analytics, notifier, stop })
    }
}

/// A [`Service`] whose pages are there.
pub struct Listening {
    serving: Serving,
    analytics: Analytics,
    notifier: Notifier,
    stop: CancellationToken,
}

impl Listening {
    /// Where the pages are.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// Looks and tells until it is told to stop.
    pub async fn run(self) {
        let told = Arc::new(Notify::new());
        let Listening { serving, analytics, notifier, stop } = self;
        tokio::join!(analytics.run(told.clone(), stop.clone()), notifier.run(told, stop));
        serving.ended().await;
    }
}
