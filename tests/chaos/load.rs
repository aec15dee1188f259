//! What is sent, all the time, and the record of everything that the broker acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rdkafka::{
    ClientConfig, ClientContext, Message,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer},
};

use crate::{
    events::{Kind, Record, Stream, Writer},
    wait,
};

/// Sends records, and keeps what was acknowledged.
pub struct Sender {
    producer: ThreadedProducer<Acknowledgements>,
    /// The topics' names begin with it.
    prefix: String,
    epoch: i64,
    state: Mutex<State>,
    account: Arc<Account>,
}

/// What was sent and where it is.
#[derive(Debug, Default)]
pub struct Account {
    acknowledged: Mutex<Vec<Acknowledged>>,
    /// Records handed to the producer, by stream.
    sent: [AtomicI64; Stream::ALL.len()],
    /// Records that the broker has.
    delivered: AtomicI64,
    /// Records that the producer gave up; whether the broker has them is not known.
    failed: AtomicI64,
}

/// A record that the broker has.
#[derive(Debug, Clone, Copy)]
pub struct Acknowledged {
    pub record: Record,
    pub writer: Writer,
    pub partition: i32,
    pub offset: i64,
}

struct State {
    chance: StdRng,
    next: BTreeMap<Stream, u64>,
    /// Events that the table refuses are not sent again: with a newer one in its batch such an
    /// event is a duplicate, and alone a dead letter. Nor are huge ones, so that their rows stay huge.
    once: BTreeSet<(Stream, u64)>,
    writers: BTreeMap<Stream, Vec<Writer>>,
}

/// How far back an event is sent again from.
const REMEMBERED: u64 = 3_000;

/// The share of each kind in the load, in a thousand; the rest is sound.
const MIX: [(Kind, u32); 11] = [
    (Kind::Again, 60),
    (Kind::BreaksRule, 20),
    (Kind::FromTheFuture, 10),
    (Kind::RefusedByTable, 2),
    (Kind::Tombstone, 6),
    (Kind::Empty, 4),
    (Kind::BadMagic, 6),
    (Kind::TruncatedHeader, 4),
    (Kind::TruncatedBody, 6),
    (Kind::TrailingBytes, 6),
    (Kind::ImpossibleSchema, 6),
];

impl Sender {
    /// A sender of records to the streams' topics, the first of them written with these schemas.
    pub fn new(
        mut client: ClientConfig,
        prefix: &str,
        seed: u64,
        writers: [(Stream, Writer); 2],
    ) -> anyhow::Result<Sender> {
        let account = Arc::new(Account::default());
        // an outage of any length is waited for: nothing that was handed over is given up
        let producer = client
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "0")
            .set("linger.ms", "20")
            .create_with_context(Acknowledgements(account.clone()))?;
        let epoch = time::OffsetDateTime::now_utc().unix_timestamp() * 1_000;
        let state = State {
            chance: StdRng::seed_from_u64(seed),
            next: Stream::ALL.map(|stream| (stream, 0)).into(),
            once: BTreeSet::new(),
            writers: writers.map(|(stream, writer)| (stream, vec![writer])).into(),
        };
        let (prefix, state) = (prefix.to_owned(), Mutex::new(state));
        Ok(Sender { producer, prefix, epoch, state, account })
    }

    /// What was sent so far.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// A stream's topic.
    pub fn topic(&self, stream: Stream) -> String {
        format!("{}.{}", self.prefix, stream.name())
    }

    /// Sends a record as it comes.
    pub fn send_any(&self) -> anyhow::Result<()> {
        let (stream, kind) = {
            let chance = &mut self.state().chance;
            let stream = Stream::ALL[usize::from(chance.random_bool(0.3))];
            let mut drawn: u32 = chance.random_range(0..1_000);
            let kind = MIX.iter().find_map(|(kind, share)| match drawn.checked_sub(*share) {
                None => Some(*kind),
                Some(left) => {
                    drawn = left;
                    None
                }
            });
            (stream, kind.unwrap_or(Kind::Sound))
        };
        self.send(stream, kind).map(drop)
    }

    /// Sends a record of a kind, written with one of the schemas that are in use; gives it.
    pub fn send(&self, stream: Stream, kind: Kind) -> anyhow::Result<Record> {
        let writer = {
            let State { chance, writers, .. } = &mut *self.state();
            writers[&stream][chance.random_range(0..writers[&stream].len())]
        };
        self.send_written_with(stream, kind, writer)
    }

    /// Sends a record of a kind, written with a schema; gives it.
    pub fn send_written_with(
        &self,
        stream: Stream,
        kind: Kind,
        writer: Writer,
    ) -> anyhow::Result<Record> {
        let record = self.next(stream, kind);
        let (topic, key, value) = (self.topic(stream), record.key(), record.value(writer));
        let opaque = Box::new((record, writer));
        let mut message = BaseRecord::with_opaque_to(&topic, opaque).key(&key);
        message.payload = value.as_deref();
        self.account.sent[stream as usize].fetch_add(1, Ordering::Relaxed);
        while let Err((error, back)) = self.producer.send(message) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            anyhow::ensure!(error == full, "can't send: {error}");
            wait::go_on().context("the producer's queue is full")?;
            message = back;
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(record)
    }

    /// From now on, events of a stream are written with this schema, too.
    pub fn write_with(&self, stream: Stream, writer: Writer) {
        self.state().writers.entry(stream).or_default().push(writer);
    }

    /// Waits until all that was sent is acknowledged.
    pub fn finish(&self) -> anyhow::Result<()> {
        wait::until("the broker to acknowledge all", Duration::from_secs(90), || {
            (self.account.in_flight() == 0).then_some(())
        })
    }

    /// The next event, or another version of one before.
    fn next(&self, stream: Stream, kind: Kind) -> Record {
        let State { chance, next, once, .. } = &mut *self.state();
        let next = next.entry(stream).or_default();
        let earlier = chance.random_range(next.saturating_sub(REMEMBERED)..*next + 1);
        let can_be_again = earlier < *next && !once.contains(&(stream, earlier));
        let (number, version) = match kind {
            Kind::Again if can_be_again => (earlier, chance.random_range(0..5)),
            _ => {
                if matches!(kind, Kind::RefusedByTable | Kind::Huge) {
                    once.insert((stream, *next));
                }
                *next += 1;
                (*next - 1, u32::from(stream == Stream::Positions && *next % 3 == 0))
            }
        };
        Record { stream, number, version, kind, epoch: self.epoch }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// Records handed to the producer, by stream.
    pub fn sent(&self) -> [i64; Stream::ALL.len()] {
        self.sent.each_ref().map(|sent| sent.load(Ordering::Relaxed))
    }

    /// Records that the broker has.
    pub fn delivered(&self) -> i64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Records that the producer gave up.
    pub fn failed(&self) -> i64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Where records are that were sent once, as soon as the broker has them all.
    pub fn places(&self, records: &[Record]) -> Option<Vec<(Stream, i32, i64)>> {
        let which = |record: &Record| (record.stream, record.number, record.kind);
        let wanted: BTreeSet<_> = records.iter().map(which).collect();
        let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let all = acknowledged.iter().filter(|sent| wanted.contains(&which(&sent.record)));
        let places: Vec<_> =
            all.map(|sent| (sent.record.stream, sent.partition, sent.offset)).collect();
        (places.len() == records.len()).then_some(places)
    }

    /// Records of which it is not known what becomes of them.
    fn in_flight(&self) -> i64 {
        self.sent().iter().sum::<i64>() - self.delivered() - self.failed()
    }

    /// All that the broker has.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Notes what the broker says.
struct Acknowledgements(Arc<Account>);

impl ClientContext for Acknowledgements {
    // an outage is the harness's own doing
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = Box<(Record, Writer)>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Self::DeliveryOpaque) {
        let account = &self.0;
        match result {
            Ok(message) => {
                let (record, writer) = *sent;
                let (partition, offset) = (message.partition(), message.offset());
                account
                    .acknowledged
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(Acknowledged { record, writer, partition, offset });
                account.delivered.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                eprintln!("  not delivered: {error}");
                account.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Sends at a rate until it is stopped, or dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Load {
    /// Begins.
    pub fn start(sender: Arc<Sender>, rate: u32) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (began, mut sent) = (Instant::now(), 0u64);
            while !stopped.load(Ordering::Relaxed) {
                let due = (began.elapsed().as_secs_f64() * f64::from(rate)) as u64;
                while sent < due && !stopped.load(Ordering::Relaxed) {
                    sender.send_any()?;
                    sent += 1;
                }
                std::thread::park_timeout(Duration::from_millis(10));
            }
            Ok(())
        });
        Load { stop, thread: Some(thread) }
    }

    /// Ends; what was sent may still be under way.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.end()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        ended.unwrap_or(Ok(Ok(()))).unwrap_or_else(|_| anyhow::bail!("the load panicked"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        _ = self.end();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // without a broker, what is queued would be waited for
        self.producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }
}
