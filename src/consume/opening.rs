//! Opening the partitions that we were assigned: asking Kafka what there is and the ledger how far
//! it is, and then reading from where both agree.
//!
//! Until then nothing is fetched. Polling goes on meanwhile, so that a database that is away costs
//! no membership.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaResult,
};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::{Services, wait::delay};
use crate::{
    contract::Contract,
    failure::Failure,
    retry::Outage,
    sink::{Place, begin},
    sql::within,
};

/// How long Kafka may take for one answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How long the database may take.
const LEDGER: Duration = Duration::from_secs(60);

/// From where each partition is read.
type Begins = BTreeMap<i32, i64>;

/// How far opening is.
enum State {
    /// No partition is ours.
    Unassigned,
    /// To be tried at this moment.
    Due(Instant),
    /// The ledger is being asked.
    Asked(AbortOnDropHandle<Result<Begins, Failure>>),
    /// Everything is open.
    Open,
    /// What is in hand is finished first; then everything is opened anew.
    Draining,
}

/// Opens partitions, one step at a time.
pub(super) struct Opening {
    contract: Arc<Contract>,
    services: Arc<Services>,
    state: State,
    outage: Outage,
}

/// What the polling thread has to do.
pub(super) enum Step {
    /// Nothing new.
    None,
    /// Read from these offsets.
    Read(Begins),
    /// Stop the stream.
    Stop(String),
}

impl Opening {
    pub(super) fn new(contract: Arc<Contract>, services: Arc<Services>) -> Opening {
        let outage = Outage::new(services.options.max_outage);
        Opening { contract, services, state: State::Unassigned, outage }
    }

    /// Whether all partitions that are ours are read.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// The group gave or took partitions.
    pub(super) fn restart(&mut self, is_assigned: bool) {
        if is_assigned {
            self.state = State::Due(Instant::now());
        } else {
            self.state = State::Unassigned;
            self.outage.is_not_waited_for();
        }
    }

    /// Everything is to be opened anew, once what is in hand has landed: it may be gone from Kafka.
    /// Says whether this is news.
    pub(super) fn drain(&mut self) -> bool {
        let is_news = self.is_open();
        if is_news {
            self.state = State::Draining;
        }
        is_news
    }

    /// What was to be read could not be; it is tried again.
    pub(super) fn again(&mut self) {
        self.state = State::Due(Instant::now() + ANSWER / 10);
    }

    /// Takes the next step, which may take Kafka's time and never the database's.
    pub(super) fn step<C: ConsumerContext>(
        &mut self,
        consumer: &BaseConsumer<C>,
        assigned: &BTreeSet<i32>,
        is_idle: bool,
    ) -> Step {
        match &mut self.state {
            State::Draining if is_idle => self.state = State::Due(Instant::now()),
            State::Due(moment) if *moment <= Instant::now() => {
                match places(consumer, &self.contract.topic.name, assigned) {
                    Ok(places) => self.state = State::Asked(self.ask(places)),
                    Err(error) => return self.failed("Kafka", error.into()),
                }
            }
            State::Asked(answer) => match answer.now_or_never() {
                Some(Ok(Ok(begins))) => {
                    self.state = State::Open;
                    self.outage.ended();
                    return Step::Read(begins);
                }
                Some(Ok(Err(failure))) => return self.failed("Postgres", failure),
                Some(Err(error)) => return Step::Stop(format!("opening partitions: {error}")),
                None => {}
            },
            State::Unassigned | State::Open | State::Draining | State::Due(_) => {}
        }
        Step::None
    }

    fn ask(&self, places: Vec<Place>) -> AbortOnDropHandle<Result<Begins, Failure>> {
        let (contract, postgres) = (self.contract.clone(), self.services.postgres.clone());
        let (on_gap, limit) = (self.services.options.on_gap, self.outage.attempt(LEDGER));
        // asked anew where the partitions are taken away meanwhile
        AbortOnDropHandle::new(Handle::current().spawn(async move {
            within(limit, begin(&postgres, &contract, &places, on_gap)).await
        }))
    }

    fn failed(&mut self, what: &'static str, failure: Failure) -> Step {
        let stream = &self.contract.stream;
        match delay(stream, what, failure, &mut self.outage) {
            Ok(delay) => {
                self.state = State::Due(Instant::now() + delay);
                Step::None
            }
            Err(reason) => Step::Stop(reason),
        }
    }
}

/// What Kafka knows of partitions.
fn places<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    assigned: &BTreeSet<i32>,
) -> KafkaResult<Vec<Place>> {
    let mut list = TopicPartitionList::new();
    assigned.iter().for_each(|partition| _ = list.add_partition(topic, *partition));
    if assigned.is_empty() {
        return Ok(Vec::new());
    }
    let committed = consumer.committed_offsets(list, ANSWER)?;
    let place = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
        element.error()?;
        let partition = element.partition();
        let (low, high) = consumer.fetch_watermarks(topic, partition, ANSWER)?;
        let committed = element.offset().to_raw().filter(|offset| *offset >= 0);
        Ok(Place { partition, committed, low, high })
    };
    committed.elements().iter().map(place).collect()
}
