//! Members that die, freeze, come and go; and groups whose offsets are set back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::ensure;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};

use super::{MEMBERS, SHOWS, Scene};
use crate::{
    events::Stream,
    members::{Mark, SESSION},
    plan::Step,
    wait,
};

/// How many members a storm brings together.
const MOST_MEMBERS: usize = 4;

/// How many records of a partition are read again at most once its offset is set back.
const MOST_AGAIN: i64 = 10_000;

/// How much earlier than it should the broker may miss a member.
const SLACK: Duration = Duration::from_millis(500);

/// How long the broker may take to describe a group.
const ANSWER: Duration = Duration::from_secs(5);

impl Scene {
    pub(super) fn kill_member(&mut self, step: &Step) -> anyhow::Result<String> {
        self.until_shared()?;
        let mark = self.members.mark();
        let number = self.members.draw(step.seed).number;
        let had = self.members.kill(number)?;
        let again = self.not_committed(&had);
        self.redelivered += again;
        self.members.join(&self.fixture);
        self.until_taken_over(&mark, &had, number)?;
        Ok(format!(
            "ended by signal 9; its {} partitions went to others, with {again} records to be read again",
            had.len()
        ))
    }

    pub(super) fn terminate_member(&mut self, step: &Step) -> anyhow::Result<String> {
        self.until_shared()?;
        let mark = self.members.mark();
        let member = self.members.draw(step.seed);
        let (number, had) = (member.number, member.partitions());
        let took = self.members.terminate(number)?;
        self.members.join(&self.fixture);
        self.until_taken_over(&mark, &had, number)?;
        Ok(format!(
            "exit code 0 after {:.1} s, batches in hand finished; its {} partitions went to others",
            took.as_secs_f64(),
            had.len()
        ))
    }

    pub(super) fn freeze_member(&mut self, step: &Step) -> anyhow::Result<String> {
        self.until_shared()?;
        let (mark, began) = (self.members.mark(), Instant::now());
        let member = self.members.draw(step.seed);
        let (number, had) = (member.number, member.partitions());
        member.freeze();
        let taken = self.until_taken_over(&mark, &had, number).map(|()| began.elapsed());
        let passed = wait::pass(step.lasts.saturating_sub(began.elapsed()));
        self.members.draw(step.seed).thaw();
        let taken = taken.and_then(|taken| passed.map(|()| taken))?;
        // the broker counts from the last heartbeat
        let (session, heartbeat) = SESSION;
        let least = session.saturating_sub(heartbeat).saturating_sub(SLACK);
        ensure!(taken >= least, "taken over after {taken:?}: not because its session was over");
        let told = ["partitions taken away", "partitions assigned"];
        let streams: BTreeSet<Stream> = had.iter().map(|(stream, _)| *stream).collect();
        wait::until("the thawed member to be told and to join again", SHOWS, || {
            let mut streams = streams.iter();
            streams.all(|stream| self.members.said_by(number, &mark, *stream, &told)).then_some(())
        })?;
        Ok(format!(
            "its {} partitions went to another after {:.1} s; thawed, it was told and joined again",
            had.len(),
            taken.as_secs_f64()
        ))
    }

    pub(super) fn storm(&mut self, step: &Step) -> anyhow::Result<String> {
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
        self.until_shared()?;
        Ok(format!(
            "{joined} joined, {left} left, {killed} killed; then every member had partitions"
        ))
    }

    /// Commits lower offsets in the name of the groups, as an operator does who resets them.
    pub(super) fn set_back(&mut self, step: &Step) -> anyhow::Result<String> {
        let mut chance = StdRng::seed_from_u64(step.seed);
        wait::until("dead letters that can be read again", SHOWS, || {
            (self.fixture.number("SELECT count(*) FROM dlq_events") > 100).then_some(())
        })?;
        self.members.terminate_all()?;
        let (mut again, mut letters) = (0, 0);
        for ((stream, partition), next) in self.next_offsets() {
            let most = (next / 2).min(MOST_AGAIN);
            let to = next - chance.random_range(most / 5..=most);
            again += next - to;
            letters += self.fixture.number(&format!(
                "SELECT count(*) FROM dlq_events WHERE stream = '{}' AND partition = {partition} \
                 AND \"offset\" >= {to}",
                stream.name()
            ));
            self.commit(stream, partition, to)?;
        }
        ensure!(
            again > 0 && letters > 0,
            "{again} records and {letters} dead letters to read again"
        );
        self.redelivered += again;
        let reader = self.members.join_and_say_statements(&self.fixture);
        wait::until("what is dead-lettered to be read again", SHOWS, || {
            (self.members.found_again(reader) >= letters).then_some(())
        })?;
        for _ in 0..MEMBERS {
            self.members.join(&self.fixture);
        }
        self.members.terminate(reader)?;
        Ok(format!("{again} records were read again, {letters} dead letters among them"))
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

    /// Waits until every member has partitions and the broker counts no member that is gone.
    fn until_shared(&self) -> anyhow::Result<()> {
        let groups = Stream::ALL.map(|stream| self.sender.topic(stream));
        let consumer: BaseConsumer = self.fixture.client().set("group.id", &groups[0]).create()?;
        let is_stable = |group: &String| {
            let list = consumer.fetch_group_list(Some(group), ANSWER).ok()?;
            let group = list.groups().first()?;
            let members = group.members().len();
            Some(group.state() == "Stable" && members == self.members.count())
        };
        wait::until("every member to have partitions", SHOWS, || {
            let is_so = self.members.share_all()
                && groups.iter().all(|group| is_stable(group) == Some(true));
            is_so.then_some(())
        })
    }

    /// Waits until what a member had was assigned to others.
    fn until_taken_over(
        &self,
        mark: &Mark,
        had: &BTreeSet<(Stream, i32)>,
        number: usize,
    ) -> anyhow::Result<()> {
        ensure!(!had.is_empty(), "member {number} had no partitions");
        wait::until("partitions to be taken over", SHOWS, || {
            had.is_subset(&self.members.taken_over(mark, number)).then_some(())
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
