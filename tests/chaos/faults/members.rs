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
use crate::{events::Stream, members::Mark, plan::Step, wait};

/// How many members a storm brings together.
const MOST_MEMBERS: usize = 4;

impl Scene {
    pub(super) fn kill_member(&mut self, step: &Step, mark: &Mark) -> anyhow::Result<String> {
        let number = self.members.draw(step.seed).number;
        wait::until("the member to have partitions", SHOWS, || {
            self.members.draw(step.seed).has_partitions().then_some(())
        })?;
        let had = self.members.kill(number)?;
        let again = self.not_committed(&had);
        self.redelivered += again;
        self.members.join(&self.fixture);
        self.until_assigned(mark, None)?;
        Ok(format!(
            "ended by signal 9; its {} partitions were assigned anew, with {again} records to be read again",
            had.len()
        ))
    }

    pub(super) fn terminate_member(&mut self, step: &Step, mark: &Mark) -> anyhow::Result<String> {
        let number = self.members.draw(step.seed).number;
        let took = self.members.terminate(number)?;
        self.members.join(&self.fixture);
        self.until_assigned(mark, None)?;
        Ok(format!("exit code 0 after {:.1} s, batches in hand finished", took.as_secs_f64()))
    }

    pub(super) fn freeze_member(&mut self, step: &Step, mark: &Mark) -> anyhow::Result<String> {
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

    pub(super) fn storm(&mut self, step: &Step, mark: &Mark) -> anyhow::Result<String> {
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

    /// Commits lower offsets in the name of the groups, as an operator does who resets them.
    pub(super) fn set_back(&mut self, step: &Step) -> anyhow::Result<String> {
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
