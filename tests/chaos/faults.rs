//! How each fault is done, and how it is known to have hit: one that does nothing fails the run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};

use crate::{
    events::{Kind, Stream, Writer, positions},
    load::Sender,
    members::{Mark, Members},
    plan::{Fault, Step},
    services::Services,
    support::Fixture,
    wait,
    watch::Watch,
};

/// How long a fault may take to show.
const SHOWS: Duration = Duration::from_secs(45);

/// How many members there are, but for storms.
pub const MEMBERS: usize = 2;

/// How many members a storm brings together.
const MOST_MEMBERS: usize = 4;

/// All that can be broken.
pub struct Scene {
    pub services: Services,
    pub fixture: Fixture,
    pub members: Members,
    pub sender: Arc<Sender>,
    pub watch: Watch,
    pub schemas: Schemas,
    /// Records that a member had landed, and that another one reads again.
    pub redelivered: i64,
}

/// The writers' schemas of positions.
pub struct Schemas {
    /// The id that the registry gave last.
    pub last: u32,
    /// How many fields the latest has that the contract does not.
    pub extra: usize,
}

impl Scene {
    /// Breaks something and mends it; says how it showed.
    pub fn inject(&mut self, step: &Step) -> anyhow::Result<String> {
        let mark = self.members.mark();
        match step.fault {
            Fault::MemberKilled => self.kill_member(step, &mark),
            Fault::MemberTerminated => self.terminate_member(step, &mark),
            Fault::MemberFrozen => self.freeze_member(step, &mark),
            Fault::RebalanceStorm => self.storm(step, &mark),
            Fault::PostgresKilled => {
                self.services.kill("postgres");
                self.until_said("Postgres", step, &mark, &["postgres"])
            }
            Fault::PostgresStopped => {
                self.services.stop(&["postgres"]);
                self.until_said("Postgres", step, &mark, &["postgres"])
            }
            Fault::PostgresFrozen => self.freeze_postgres(step),
            Fault::BackendsTerminated => self.terminate_backends(&mark),
            Fault::KafkaKilled => {
                self.services.kill("kafka");
                self.until_said("Kafka", step, &mark, &["kafka"])
            }
            Fault::KafkaFrozen => self.freeze_kafka(step),
            Fault::RegistryKilled => {
                let writer = self.evolve()?;
                self.services.kill("registry");
                self.write_with(writer)?;
                self.until_said("registry", step, &mark, &["registry"])
            }
            Fault::RegistryFrozen => self.freeze_registry(step, &mark),
            Fault::EverythingKilled => self.kill_everything(step, &mark),
            Fault::OffsetsSetBack => self.set_back(step),
            Fault::SchemaEvolved => {
                let writer = self.evolve()?;
                self.write_with(writer)?;
                Ok(format!("schema id {}, one field more than the contract", writer.id))
            }
            Fault::SchemaLate => self.register_late(step),
            Fault::SchemaUnknown => self.unknown_schema(step),
            Fault::PoisonBurst => self.poison(step),
            Fault::HugeEvents => self.huge(),
        }
    }

    fn kill_member(&mut self, step: &Step, mark: &Mark) -> anyhow::Result<String> {
        let number = self.members.draw(step.seed).number;
        let had = self.members.kill(number)?;
        ensure!(!had.is_empty(), "member {number} had no partitions");
        let again = self.not_committed(&had);
        self.redelivered += again;
        self.members.join(&self.fixture);
        self.until_assigned(mark, None)?;
        Ok(format!(
            "ended by signal 9; its {} partitions were assigned anew, with {again} records to be read again",
            had.len()
        ))
    }

    fn terminate_member(&mut self, step: &Step, mark: &Mark) -> anyhow::Result<String> {
        let number = self.members.draw(step.seed).number;
        let took = self.members.terminate(number)?;
        self.members.join(&self.fixture);
        self.until_assigned(mark, None)?;
        Ok(format!("exit code 0 after {:.1} s, batches in hand finished", took.as_secs_f64()))
    }

    fn freeze_member(&mut self, step: &Step, mark: &Mark) -> anyhow::Result<String> {
        let began = Instant::now();
        let member = self.members.draw(step.seed);
        let number = member.number;
        member.freeze();
        let taken = self.until_assigned(mark, Some(number)).map(|()| began.elapsed());
        let passed = wait::pass(step.lasts.saturating_sub(began.elapsed()));
        self.members.draw(step.seed).thaw();
        let taken = taken.and_then(|taken| passed.map(|()| taken))?;
        wait::until("the thawed member to be told", SHOWS, || {
            let told = |line: &str| line.contains("partitions taken away");
            self.members.said(mark, told)
        })?;
        Ok(format!(
            "its partitions went to another after {:.1} s; thawed, it was told and joined again",
            taken.as_secs_f64()
        ))
    }

    fn storm(&mut self, step: &Step, mark: &Mark) -> anyhow::Result<String> {
        let mut chance = StdRng::seed_from_u64(step.seed);
        let (mut joined, mut left, mut killed) = (0, 0, 0);
        for _ in 0..chance.random_range(6..=8) {
            let count = self.members.count();
            if count < MEMBERS || (count < MOST_MEMBERS && chance.random_bool(0.5)) {
                self.members.join(&self.fixture);
                joined += 1;
            } else {
                let number = self.members.draw(chance.random()).number;
                if chance.random_bool(0.3) {
                    self.members.kill(number)?;
                    killed += 1;
                } else {
                    self.members.terminate(number)?;
                    left += 1;
                }
            }
            wait::pass(Duration::from_millis(chance.random_range(200..900)))?;
        }
        while self.members.count() < MEMBERS {
            self.members.join(&self.fixture);
            joined += 1;
        }
        while self.members.count() > MEMBERS {
            let number = self.members.draw(0).number;
            self.members.terminate(number)?;
            left += 1;
        }
        self.until_assigned(mark, None)?;
        Ok(format!("{joined} joined, {left} left, {killed} killed"))
    }

    /// Waits until a member complains about what is away, then starts it again.
    fn until_said(
        &mut self,
        what: &str,
        step: &Step,
        mark: &Mark,
        services: &[&str],
    ) -> anyhow::Result<String> {
        let said = self.complaint(what, mark)?;
        wait::pass(step.lasts)?;
        self.services.start(services);
        Ok(said)
    }

    fn complaint(&self, what: &str, mark: &Mark) -> anyhow::Result<String> {
        let what = what.to_lowercase();
        let is_it = |line: &str| {
            let line = line.to_lowercase();
            // two members that touch the same buckets: no fault of ours
            line.contains("waiting") && line.contains(&what) && !line.contains("40p01")
        };
        let waiting = format!("a member to complain about {what}");
        let line = wait::until(&waiting, SHOWS, || self.members.said(mark, is_it))?;
        let (_, error) = line.split_once("error=").context("a complaint without an error")?;
        // what comes in brackets are addresses and repetitions
        let error = error.split(" (").next().unwrap_or(error).trim_matches('"');
        Ok(format!("logged: {}", error.chars().take(90).collect::<String>()))
    }

    fn freeze_postgres(&mut self, step: &Step) -> anyhow::Result<String> {
        self.services.freeze("postgres");
        let silent =
            wait::until("Postgres not to answer", SHOWS, || (!self.watch.answers()).then_some(()));
        let passed = wait::pass(step.lasts);
        self.services.thaw("postgres");
        silent.and(passed)?;
        Ok(format!("no answer for {:.1} s, connections held", step.lasts.as_secs_f64()))
    }

    fn terminate_backends(&mut self, mark: &Mark) -> anyhow::Result<String> {
        let ended = self.fixture.number(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE application_name LIKE 'sluicegate %'",
        );
        ensure!(ended > 0, "no member had a connection to terminate");
        let said = self.complaint("Postgres", mark)?;
        Ok(format!("{ended} connections; {said}"))
    }

    fn freeze_kafka(&mut self, step: &Step) -> anyhow::Result<String> {
        self.services.freeze("kafka");
        // what was on its way is told to the producer
        wait::pass(Duration::from_millis(300))?;
        let sent = |sender: &Sender| sender.account().sent().iter().sum::<i64>();
        let (before, delivered) = (sent(&self.sender), self.sender.account().delivered());
        let passed = wait::pass(step.lasts);
        let waiting = sent(&self.sender) - before;
        let told = self.sender.account().delivered() - delivered;
        self.services.thaw("kafka");
        passed?;
        ensure!(waiting > 0 && told == 0, "{waiting} sent, {told} acknowledged by a frozen broker");
        Ok(format!("{waiting} sent, none acknowledged for {:.1} s", step.lasts.as_secs_f64()))
    }

    fn freeze_registry(&mut self, step: &Step, mark: &Mark) -> anyhow::Result<String> {
        let writer = self.evolve()?;
        self.services.freeze("registry");
        let said = self
            .write_with(writer)
            .and_then(|()| self.complaint("registry", mark))
            .and_then(|said| wait::pass(step.lasts).map(|()| said));
        self.services.thaw("registry");
        said
    }

    fn kill_everything(&mut self, step: &Step, mark: &Mark) -> anyhow::Result<String> {
        let number = self.members.draw(step.seed).number;
        let all = ["kafka", "registry", "postgres"];
        all.iter().for_each(|service| self.services.kill(service));
        self.members.kill(number)?;
        let said = self.complaint("Kafka", mark)?;
        wait::pass(step.lasts)?;
        self.services.start(&all);
        self.members.join(&self.fixture);
        Ok(said)
    }

    /// Commits lower offsets in the name of the groups, as an operator does who resets them.
    fn set_back(&mut self, step: &Step) -> anyhow::Result<String> {
        let mut chance = StdRng::seed_from_u64(step.seed);
        self.members.terminate_all()?;
        let mut again = 0;
        for ((stream, partition), next) in self.next_offsets() {
            let to = next - chance.random_range(next / 10..=next / 2);
            again += next - to;
            self.commit(stream, partition, to)?;
        }
        self.redelivered += again;
        for _ in 0..MEMBERS {
            self.members.join(&self.fixture);
        }
        Ok(format!("{again} records to be read again"))
    }

    /// Commits an offset, as soon as the group is empty: a member that was killed is missed for a
    /// while.
    fn commit(&self, stream: Stream, partition: i32, offset: i64) -> anyhow::Result<()> {
        let topic = self.sender.topic(stream);
        let consumer: BaseConsumer = self.fixture.client().set("group.id", &topic).create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, partition, Offset::Offset(offset))?;
        wait::until("the consumer group to be empty", SHOWS, || {
            consumer.commit(&list, CommitMode::Sync).ok()
        })?;
        let committed = self.fixture.committed(stream.name());
        let at = usize::try_from(partition)?;
        ensure!(committed[at] == Some(offset), "{topic} is at {committed:?}, not set to {offset}");
        Ok(())
    }

    /// Registers a schema of positions with a field more.
    fn evolve(&mut self) -> anyhow::Result<Writer> {
        let extra = self.schemas.extra + 1;
        let id = self.fixture.register("positions-value", &positions(extra), "AVRO");
        ensure!(id > self.schemas.last, "schema id {id} is not new");
        self.schemas = Schemas { last: id, extra };
        Ok(Writer { id, extra })
    }

    /// Some events right away, and others with all that follows.
    fn write_with(&mut self, writer: Writer) -> anyhow::Result<()> {
        for _ in 0..50 {
            self.sender.send_written_with(Stream::Positions, Kind::Sound, writer)?;
        }
        self.sender.write_with(Stream::Positions, writer);
        Ok(())
    }

    fn register_late(&mut self, step: &Step) -> anyhow::Result<String> {
        let writer = Writer { id: self.schemas.last + 1, extra: self.schemas.extra + 1 };
        let began = Instant::now();
        for _ in 0..5 {
            self.sender.send_written_with(Stream::Positions, Kind::LateSchema, writer)?;
        }
        wait::pass(step.lasts)?;
        let registered = self.evolve()?;
        ensure!(registered == writer, "the registry gave {registered:?}, not {writer:?}");
        self.sender.write_with(Stream::Positions, writer);
        Ok(format!("id {} registered {:.1} s late", writer.id, began.elapsed().as_secs_f64()))
    }

    fn unknown_schema(&mut self, step: &Step) -> anyhow::Result<String> {
        let id = 2_000_000_000 + u32::try_from(step.seed % 1_000_000)?;
        for stream in Stream::ALL {
            let writer = Writer { id, extra: 0 };
            self.sender.send_written_with(stream, Kind::UnknownSchema, writer)?;
        }
        let letters = format!("SELECT count(*) FROM dlq_events WHERE schema_id = {id}");
        wait::until("dead letters of an unknown schema", SHOWS, || {
            (self.fixture.number(&letters) == 2).then_some(())
        })?;
        let attempts = format!("SELECT max(attempts) FROM dlq_events WHERE schema_id = {id}");
        Ok(format!("dead letters after {} attempts", self.fixture.number(&attempts)))
    }

    fn poison(&mut self, step: &Step) -> anyhow::Result<String> {
        let mut chance = StdRng::seed_from_u64(step.seed);
        let unsound = [
            Kind::BreaksRule,
            Kind::RefusedByTable,
            Kind::Empty,
            Kind::Tombstone,
            Kind::BadMagic,
            Kind::TruncatedBody,
            Kind::TrailingBytes,
            Kind::ImpossibleSchema,
        ];
        let (count, mut poisoned) = (600, 0);
        for _ in 0..count {
            let stream = Stream::ALL[usize::from(chance.random_bool(0.5))];
            let poison = chance.random_bool(2.0 / 3.0);
            poisoned += usize::from(poison);
            let kind = unsound[chance.random_range(0..unsound.len())];
            self.sender.send(stream, if poison { kind } else { Kind::Sound })?;
        }
        Ok(format!("{poisoned} unsound among {count}"))
    }

    fn huge(&mut self) -> anyhow::Result<String> {
        let kinds = [Kind::Huge, Kind::HugeAndBreaksRule, Kind::Huge];
        for kind in kinds.into_iter().cycle().take(9) {
            self.sender.send(Stream::Positions, kind)?;
        }
        Ok("6 sound, 3 that break a rule".into())
    }

    fn until_assigned(&self, mark: &Mark, but: Option<usize>) -> anyhow::Result<()> {
        wait::until("partitions to be assigned anew", SHOWS, || {
            (self.members.assigned_since(mark, but) > 0).then_some(())
        })
    }

    /// How many records of some partitions have landed whose offsets are not committed.
    fn not_committed(&self, partitions: &BTreeSet<(Stream, i32)>) -> i64 {
        let committed = Stream::ALL.map(|stream| (stream, self.fixture.committed(stream.name())));
        let committed: BTreeMap<Stream, Vec<Option<i64>>> = committed.into();
        let behind = |((stream, partition), next): ((Stream, i32), i64)| {
            let at = usize::try_from(partition).unwrap_or(0);
            let committed = committed[&stream].get(at).copied().flatten().unwrap_or(0);
            partitions.contains(&(stream, partition)).then_some((next - committed).max(0))
        };
        self.next_offsets().into_iter().filter_map(behind).sum()
    }

    /// How far the ledger is with each partition.
    fn next_offsets(&self) -> BTreeMap<(Stream, i32), i64> {
        let rows = self.fixture.rows("SELECT stream, partition, next_offset FROM ledger");
        let entry = |row: &serde_json::Value| {
            let stream = Stream::ALL.into_iter().find(|stream| row["stream"] == stream.name());
            let partition = i32::try_from(row["partition"].as_i64()?).ok()?;
            Some(((stream?, partition), row["next_offset"].as_i64()?))
        };
        rows.iter().filter_map(entry).collect()
    }
}

/// Sets up the first schemas: what the streams' contracts were registered as.
pub fn writers(fixture: &Fixture) -> anyhow::Result<([(Stream, Writer); 2], Schemas)> {
    let writers = Stream::ALL.map(|stream| {
        let topic = format!("{}.{}", fixture.prefix, stream.name());
        (stream, Writer { id: fixture.schema_id(&topic), extra: 0 })
    });
    let last = writers.iter().map(|(_, writer)| writer.id).max().context("no stream")?;
    Ok((writers, Schemas { last, extra: 0 }))
}
