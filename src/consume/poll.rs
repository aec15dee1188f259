//! One stream's polling thread: it polls, hands records to sink tasks, and commits.
//!
//! Polling never stops for long, or the group would take the partitions away. While a sink task
//! is full the thread first just waits a little: pausing a partition throws away what was fetched
//! ahead (librdkafka issue 2703), so that is done only when the wait gets long.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, mpsc::channel},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rdkafka::{
    Message, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, KafkaResult},
    metadata::Metadata,
    types::RDKafkaErrorCode,
};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    group::{Group, PATIENCE, commit, list},
    opening::{Opening, Step},
    receive::record,
    stream::Stream,
};
use crate::{batch::Record, failure::Failure, metrics, retry::TooLong};

/// How long a poll waits for a record.
const POLL: Duration = Duration::from_millis(50);

/// How many records are polled before offsets and limits are looked at again.
const BURST: usize = 1_000;

/// How long a full sink task is waited for before its partitions are paused.
const PAUSE_AFTER: Duration = Duration::from_secs(2);

/// How long Kafka may take to show that it is not away.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// How long leaving the group may take.
const CLOSE: Duration = Duration::from_secs(5);

/// How often it is asked for that.
const LOOK: Duration = Duration::from_secs(5);

/// Records on their way to a sink task.
#[derive(Debug)]
pub(super) struct Handed {
    /// The epoch that they were polled in.
    pub(super) epoch: u64,
    pub(super) records: Vec<Record>,
    /// What they weigh in memory, in bytes.
    pub(super) bytes: usize,
}

impl Handed {
    /// Nothing yet.
    pub(super) fn new(epoch: u64) -> Handed {
        Handed { epoch, records: Vec::new(), bytes: 0 }
    }

    /// Adds a record, and gives what it weighs.
    pub(super) fn push(&mut self, record: Record) -> usize {
        let weight = record.weight();
        self.bytes = self.bytes.saturating_add(weight);
        self.records.push(record);
        weight
    }

    /// The bytes of keys, values and headers.
    fn payload(&self) -> usize {
        self.bytes.saturating_sub(self.records.len().saturating_mul(size_of::<Record>()))
    }
}

/// The polling thread's own.
pub(super) struct Poller {
    consumer: BaseConsumer<Group>,
    stream: Arc<Stream>,
    tasks: Vec<UnboundedSender<Handed>>,
    opening: Opening,
    /// Where Kafka is complained about.
    away: Option<Away>,
    /// Whether Kafka has let us in before.
    has_read: bool,
    /// Partitions whose end has been reached.
    at_end: BTreeSet<i32>,
    /// Since when a sink task has been full.
    full_since: Option<Instant>,
    /// Sink tasks whose partitions are paused.
    paused: BTreeSet<usize>,
    /// Where the next messages are copied to.
    piece: BytesMut,
}

impl Poller {
    /// For a stream, whose sink tasks are given the records.
    pub(super) fn new(
        consumer: BaseConsumer<Group>,
        stream: Arc<Stream>,
        tasks: Vec<UnboundedSender<Handed>>,
    ) -> Poller {
        Poller {
            consumer,
            opening: Opening::new(stream.contract.clone(), stream.services.clone()),
            stream,
            tasks,
            away: None,
            has_read: false,
            at_end: BTreeSet::new(),
            full_since: None,
            paused: BTreeSet::new(),
            piece: BytesMut::new(),
        }
    }

    /// Runs until it is told to stop, the stream must stop, or everything has landed.
    pub(super) fn run(mut self) {
        let mut epoch = self.stream.progress.epoch();
        while !self.is_over() {
            self.commit(CommitMode::Async);
            self.open(&mut epoch);
            self.look_for_kafka();
            if self.opening.is_open() && self.hold_back() {
                continue;
            }
            self.poll(&mut epoch);
        }
        // the batches in hand are finished, and nothing new is begun
        self.stream.progress.revoke(PATIENCE);
        self.commit(CommitMode::Sync);
        // what can't be committed is read again; closing would wait for it
        _ = self.stream.progress.take_landed();
        self.close();
    }

    /// Leaves the group. librdkafka waits for the answer to commits that are under way, for as long
    /// as Kafka is away; nobody else needs to.
    fn close(self) {
        let Poller { consumer, stream, .. } = self;
        let (closed, is_closed) = channel();
        std::thread::spawn(move || {
            drop(consumer);
            // whoever has stopped waiting does not listen
            _ = closed.send(());
        });
        if is_closed.recv_timeout(CLOSE).is_err() {
            let stream = stream.name();
            tracing::warn!(stream, "the group does not answer; it notices later that we have left");
        }
    }

    /// Takes a step towards reading what is ours.
    fn open(&mut self, epoch: &mut u64) {
        if self.stream.progress.must_reopen() {
            self.reopen();
        }
        let assigned = self.stream.progress.assigned().unwrap_or_default();
        match self.opening.step(&self.consumer, &assigned, self.stream.progress.is_idle()) {
            Step::None => {}
            Step::Stop(reason) => self.stream.progress.stop(reason),
            Step::Read(begins) => match self.read_from(&begins) {
                Ok(()) => {
                    self.has_read = true;
                    self.paused.clear();
                    self.at_end.clear();
                    self.full_since = None;
                    self.stream.progress.opened(begins);
                    *epoch = self.stream.progress.epoch();
                }
                Err(error) => {
                    self.opening.again();
                    self.failed(error);
                }
            },
        }
    }

    fn read_from(&self, begins: &BTreeMap<i32, i64>) -> KafkaResult<()> {
        let list = list(self.stream.topic(), begins);
        self.consumer.assign(&list)?;
        // librdkafka remembers a pause from an earlier assignment
        self.consumer.resume(&list)
    }

    /// Reads nothing more until what is in hand has landed, and then from where the ledger is.
    fn reopen(&mut self) {
        if self.opening.drain()
            && let Err(error) = self.consumer.assign(&TopicPartitionList::new())
        {
            self.failed(error);
        }
    }

    fn poll(&mut self, epoch: &mut u64) {
        let mut burst = Burst::new(self.tasks.len());
        while burst.records < BURST && burst.bytes < self.stream.options().batch_bytes {
            // what is in hand does not wait for more
            let patience = if burst.records == 0 { POLL } else { Duration::ZERO };
            let polled = self.consumer.poll(patience);
            if self.stream.progress.epoch() != *epoch {
                *epoch = self.stream.progress.epoch();
                self.opening.restart(self.stream.progress.assigned().is_some());
                self.at_end.clear();
                self.paused.clear();
                burst = Burst::new(self.tasks.len());
            }
            match polled {
                None => break,
                // fetched before the partitions were to be opened anew
                Some(Ok(_)) if !self.opening.is_open() => {}
                Some(Ok(message)) => {
                    self.away = None;
                    self.at_end.remove(&message.partition());
                    burst.push(record(&message, &mut self.piece));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.away = None;
                    self.at_end.insert(partition);
                    break;
                }
                Some(Err(error)) => {
                    self.failed(error);
                    break;
                }
            }
        }
        burst.hand_over(&self.tasks, &self.stream);
    }

    fn is_over(&self) -> bool {
        self.stream.stop.is_cancelled()
            || self.stream.progress.stopped().is_some()
            || (self.stream.options().exit_when_drained && self.is_drained())
    }

    fn is_drained(&self) -> bool {
        let all_at_end = |partitions: BTreeSet<i32>| partitions.is_subset(&self.at_end);
        self.opening.is_open()
            && self.stream.progress.assigned().is_some_and(all_at_end)
            && self.stream.progress.is_idle()
    }

    /// Waits with it while Kafka is away: librdkafka would hold on to it, and could not be closed.
    fn commit(&self, mode: CommitMode) {
        if self.away.is_some() {
            return;
        }
        let offsets = self.stream.progress.take_landed();
        commit(&self.consumer, &offsets, mode);
    }

    /// Whether polling has to wait because a sink task is full.
    fn hold_back(&mut self) -> bool {
        let (records, bytes) =
            (self.stream.options().batch_rows * 2, self.stream.options().batch_bytes * 2);
        let roomy: Vec<usize> = self
            .paused
            .iter()
            .copied()
            .filter(|task| self.stream.progress.has_room(*task, records, bytes))
            .collect();
        for task in roomy {
            if self.set_paused(task, false) {
                self.paused.remove(&task);
            }
        }
        let full: Vec<usize> = (0..self.tasks.len())
            .filter(|task| !self.paused.contains(task))
            .filter(|task| self.stream.progress.is_full(*task, records, bytes))
            .collect();
        if full.is_empty() {
            self.full_since = None;
            return false;
        }
        if self.full_since.get_or_insert_with(Instant::now).elapsed() < PAUSE_AFTER {
            self.stream.progress.wait(POLL);
            return true;
        }
        let mut holds_back = false;
        for task in full {
            if self.set_paused(task, true) {
                self.paused.insert(task);
            } else {
                holds_back = true;
            }
        }
        if holds_back {
            self.stream.progress.wait(POLL);
        }
        holds_back
    }

    /// Says whether librdkafka did so.
    fn set_paused(&self, task: usize, paused: bool) -> bool {
        let mut list = TopicPartitionList::new();
        for partition in self.stream.progress.assigned().into_iter().flatten() {
            if task_of(partition, self.tasks.len()) == task {
                list.add_partition(self.stream.topic(), partition);
            }
        }
        let result = match paused {
            true => self.consumer.pause(&list),
            false => self.consumer.resume(&list),
        };
        match &result {
            Ok(()) => tracing::info!(stream = self.stream.name(), task, paused, "back-pressure"),
            Err(error) => {
                tracing::warn!(stream = self.stream.name(), %error, "can't pause or resume");
            }
        }
        result.is_ok()
    }

    fn failed(&mut self, error: KafkaError) {
        // there is nothing at the offset that we wanted, or any more
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) {
            tracing::warn!(
                stream = self.stream.name(),
                "Kafka no longer has what is to be read next"
            );
            return self.reopen();
        }
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        // a broker that goes away in the middle of a handshake looks like one without TLS
        let handshake = self.has_read && self.consumer.context().is_cut_short(&error);
        let failure = Failure::from(error);
        if !fatal && (handshake || matches!(failure, Failure::Dependency(_))) {
            self.away.get_or_insert_with(|| Away::new(self.stream.name()));
            tracing::warn!(stream = self.stream.name(), error = %failure, "waiting for Kafka");
        } else {
            self.stream.progress.stop(format!("Kafka refuses us: {failure}"));
        }
    }

    /// Kafka says when it goes away and not when it is back, so it is asked now and then. Ends the
    /// stream when it has been away for too long.
    fn look_for_kafka(&mut self) {
        let Some(away) = &mut self.away else { return };
        let longest = self.stream.options().max_outage;
        let is_too_long = longest.is_some_and(|longest| away.since.elapsed() >= longest);
        if !is_too_long && away.looked.elapsed() < LOOK {
            return;
        }
        let error = match self.consumer.fetch_metadata(Some(self.stream.topic()), SIGN_OF_LIFE) {
            Ok(metadata) if has_leaders(&metadata) => {
                self.away = None;
                return;
            }
            Ok(_) => "a partition has no leader".to_owned(),
            Err(error) => error.to_string(),
        };
        away.looked = Instant::now();
        if let Some(longest) = longest.filter(|_| is_too_long) {
            self.stream.progress.stop(format!("Kafka: {}: {error}", TooLong(longest)));
        }
    }
}

fn has_leaders(metadata: &Metadata) -> bool {
    let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    partitions.all(|partition| partition.leader() >= 0)
}

/// Kafka's absence.
pub(super) struct Away {
    since: Instant,
    /// When it was asked last.
    looked: Instant,
    _waiting: metrics::Waiting,
}

impl Away {
    fn new(stream: &str) -> Away {
        let (now, waiting) = (Instant::now(), metrics::waiting(stream, "Kafka"));
        Away { since: now, looked: now, _waiting: waiting }
    }
}

/// Which sink task a partition belongs to.
fn task_of(partition: i32, tasks: usize) -> usize {
    usize::try_from(partition).unwrap_or(0) % tasks.max(1)
}

/// Records that were polled together, by sink task.
struct Burst {
    tasks: Vec<Handed>,
    records: usize,
    bytes: usize,
}

impl Burst {
    fn new(tasks: usize) -> Burst {
        // the epoch is known when they are handed over
        Burst { tasks: (0..tasks).map(|_| Handed::new(0)).collect(), records: 0, bytes: 0 }
    }

    fn push(&mut self, record: Record) {
        let task = task_of(record.partition, self.tasks.len());
        if let Some(handed) = self.tasks.get_mut(task) {
            self.records = self.records.saturating_add(1);
            self.bytes = self.bytes.saturating_add(handed.push(record));
        }
    }

    /// Gives the records to their partitions' sink tasks.
    fn hand_over(self, tasks: &[UnboundedSender<Handed>], stream: &Stream) {
        for (number, (handed, task)) in self.tasks.into_iter().zip(tasks).enumerate() {
            if handed.records.is_empty() {
                continue;
            }
            let records = handed.records.len();
            let epoch = stream.progress.handed(number, records, handed.bytes);
            metrics::received(stream.name(), records, handed.payload());
            if task.send(Handed { epoch, ..handed }).is_err() {
                stream.progress.stop("a sink task has ended".to_owned());
            }
        }
    }
}
