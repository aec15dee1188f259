//! The consumers: started, killed, frozen, told to end, and what they say.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use crate::{
    events::Stream,
    support::{Fixture, Running},
    wait,
};

/// How long a member that is told to end may take.
const END: Duration = Duration::from_secs(60);

/// What every member runs with: a session that is soon over, and batches small enough that a
/// fault is seldom between two of them.
const CONSUME: [&str; 9] = [
    "consume",
    "--kafka-property",
    "session.timeout.ms=6000",
    "--kafka-property",
    "heartbeat.interval.ms=1500",
    "--batch-rows",
    "1000",
    // the registry, just restarted, may take seconds to register what was used before
    "--unknown-schema-attempts",
    "6",
];

/// The session.timeout and the heartbeat.interval of [`CONSUME`].
pub const SESSION: (Duration, Duration) = (Duration::from_secs(6), Duration::from_millis(1_500));

/// What makes a member log every statement that it sends to Postgres.
const SAY_STATEMENTS: [&str; 2] = ["--log", "info,sqlx::query=debug"];

/// The consumers that run, and what is remembered of those that do not any more.
#[derive(Default)]
pub struct Members {
    running: Vec<Member>,
    started: usize,
    /// The most memory that any of them ever had, in kilobytes.
    pub peak_memory: u64,
    /// How often partitions were assigned.
    pub assignments: usize,
}

/// One consumer process, with a member in the group of every stream.
pub struct Member {
    pub number: usize,
    process: Running,
}

/// A point in all the members' logs.
pub struct Mark(BTreeMap<usize, usize>);

impl Members {
    /// Starts one more; gives its number.
    pub fn join(&mut self, fixture: &Fixture) -> usize {
        self.join_with(fixture, &[])
    }

    /// Starts one more that logs every statement; gives its number.
    pub fn join_and_say_statements(&mut self, fixture: &Fixture) -> usize {
        self.join_with(fixture, &SAY_STATEMENTS)
    }

    fn join_with(&mut self, fixture: &Fixture, more: &[&str]) -> usize {
        self.started += 1;
        let process = fixture.start(&[&CONSUME, more].concat());
        self.running.push(Member { number: self.started, process });
        self.started
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.running.len()
    }

    /// One of them, by a number that was drawn.
    pub fn draw(&mut self, draw: u64) -> &mut Member {
        let index = usize::try_from(draw).unwrap_or(0) % self.running.len();
        &mut self.running[index]
    }

    /// kill -9; gives the partitions that it had.
    pub fn kill(&mut self, number: usize) -> anyhow::Result<BTreeSet<(Stream, i32)>> {
        let mut member = self.take(number)?;
        ensure!(member.process.has_ended().is_none(), "member {number} had ended before");
        member.process.kill();
        let log = self.remember(&member);
        Ok(partitions(&log))
    }

    /// SIGTERM: it ends with what it has in hand, and then its exit code is 0. Gives how long
    /// that took.
    pub fn terminate(&mut self, number: usize) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let member = self.take(number)?;
        member.ask_to_end()?;
        self.ended(member)?;
        Ok(began.elapsed())
    }

    /// SIGTERM to all of them at once.
    pub fn terminate_all(&mut self) -> anyhow::Result<()> {
        let members: Vec<Member> = self.running.drain(..).collect();
        members.iter().try_for_each(Member::ask_to_end)?;
        members.into_iter().try_for_each(|member| self.ended(member))
    }

    fn ended(&mut self, mut member: Member) -> anyhow::Result<()> {
        let number = member.number;
        self.peak_memory = self.peak_memory.max(member.memory());
        let what = format!("member {number} to end after SIGTERM");
        let ended = wait::until(&what, END, || member.process.has_ended());
        let log = self.remember(&member);
        let status = ended.with_context(|| tail(&log))?;
        ensure!(status.code() == Some(0), "member {number} ended with {status}: {}", tail(&log));
        let done = log.lines().filter(|line| line.contains(" done ")).count();
        // one that was told to end before it had begun has nothing to finish
        let began = log.contains("partitions assigned");
        let all = !began || done == Stream::ALL.len();
        ensure!(all, "member {number} finished {done} streams: {}", tail(&log));
        Ok(())
    }

    fn take(&mut self, number: usize) -> anyhow::Result<Member> {
        let mut all = self.running.iter();
        let index = all.position(|member| member.number == number).context("no such member")?;
        // while it still has memory to look at
        let memory = self.running[index].memory();
        self.peak_memory = self.peak_memory.max(memory);
        Ok(self.running.remove(index))
    }

    fn remember(&mut self, member: &Member) -> String {
        let log = member.process.log();
        self.assignments += assignments(&log);
        log
    }

    /// Where the logs end now.
    pub fn mark(&self) -> Mark {
        let end = |member: &Member| (member.number, member.process.log().len());
        Mark(self.running.iter().map(end).collect())
    }

    /// The first line since a mark, of those that run, that is of a kind.
    pub fn said(&self, since: &Mark, is_it: impl Fn(&str) -> bool) -> Option<String> {
        let mut logs = self.running.iter().map(|member| member.log_since(since));
        logs.find_map(|log| log.lines().find(|line| is_it(line)).map(str::to_owned))
    }

    /// Whether one member has said, since a mark, a line of each kind about a stream, in this
    /// order.
    pub fn said_by(&self, number: usize, since: &Mark, stream: Stream, what: &[&str]) -> bool {
        let member = self.running.iter().find(|member| member.number == number);
        let log = member.map(|member| member.log_since(since)).unwrap_or_default();
        let field = stream_field(stream);
        let mut lines = log.lines().filter(|line| line.contains(&field));
        what.iter().all(|what| lines.any(|line| line.contains(what)))
    }

    /// How many dead letters a member that logs every statement found for records that it read
    /// again: only then does it look for them.
    pub fn found_again(&self, number: usize) -> i64 {
        let member = self.running.iter().find(|member| member.number == number);
        let log = member.map(|member| member.process.log()).unwrap_or_default();
        let found = |line: &str| {
            let (_, rows) = line.split_once("rows_returned=")?;
            rows.split_whitespace().next()?.parse::<i64>().ok()
        };
        log.lines().filter(|line| line.contains("AS redelivered")).filter_map(found).sum()
    }

    /// The partitions that members other than one were assigned since a mark, and still have.
    pub fn taken_over(&self, since: &Mark, but: usize) -> BTreeSet<(Stream, i32)> {
        let others = self.running.iter().filter(|member| member.number != but);
        others.flat_map(|member| partitions(&member.log_since(since))).collect()
    }

    /// Whether every partition has one member, and every member some of every stream.
    pub fn share_all(&self) -> bool {
        let has = self.running.iter().map(Member::partitions).collect::<Vec<_>>();
        let of_every_stream = |has: &BTreeSet<(Stream, i32)>| {
            Stream::ALL.into_iter().all(|stream| has.iter().any(|(of, _)| *of == stream))
        };
        let all: i32 = Stream::ALL.into_iter().map(Stream::partitions).sum();
        let each: BTreeSet<_> = has.iter().flatten().collect();
        let held = has.iter().map(BTreeSet::len).sum::<usize>();
        has.iter().all(of_every_stream)
            && held == each.len()
            && usize::try_from(all).is_ok_and(|all| all == held)
    }

    /// Fails if a member has ended that nobody ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        for member in &mut self.running {
            if let Some(status) = member.process.has_ended() {
                let log = member.process.log();
                anyhow::bail!("member {} ended by itself, {status}: {}", member.number, tail(&log));
            }
        }
        Ok(())
    }
}

impl Member {
    /// SIGSTOP.
    pub fn freeze(&self) {
        self.process.signal("STOP");
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.process.signal("CONT");
    }

    /// The partitions that it has.
    pub fn partitions(&self) -> BTreeSet<(Stream, i32)> {
        partitions(&self.process.log())
    }

    fn log_since(&self, mark: &Mark) -> String {
        let from = mark.0.get(&self.number).copied().unwrap_or(0);
        self.process.log().get(from..).unwrap_or_default().to_owned()
    }

    /// SIGTERM, as soon as it listens: before that, any process just dies of it.
    fn ask_to_end(&self) -> anyhow::Result<()> {
        let what = format!("member {} to listen for SIGTERM", self.number);
        wait::until(&what, END, || {
            let caught = u64::from_str_radix(&self.status("SigCgt:")?, 16).ok()?;
            (caught & 1 << 14 != 0).then_some(())
        })?;
        self.process.ask_to_end();
        Ok(())
    }

    /// The most memory that it had so far, in kilobytes.
    fn memory(&self) -> u64 {
        self.status("VmHWM:").and_then(|memory| memory.parse().ok()).unwrap_or(0)
    }

    /// What Linux says of the process.
    fn status(&self, name: &str) -> Option<String> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.to_owned())
    }
}

fn assignments(log: &str) -> usize {
    log.lines().filter(|line| line.contains("partitions assigned")).count()
}

/// The partitions that a member had at last.
fn partitions(log: &str) -> BTreeSet<(Stream, i32)> {
    let of = |stream: Stream| {
        let field = stream_field(stream);
        let last = log.lines().rfind(|line| {
            line.contains(&field)
                && (line.contains("partitions assigned") || line.contains("partitions taken away"))
        });
        let numbers = last.and_then(|line| line.split_once("partitions={")).map_or("", |(_, n)| n);
        let numbers = numbers.trim_end_matches('}').split(", ").filter_map(|n| n.parse().ok());
        numbers.map(move |partition| (stream, partition)).collect::<Vec<_>>()
    };
    Stream::ALL.into_iter().flat_map(of).collect()
}

fn stream_field(stream: Stream) -> String {
    format!("stream=\"{}\"", stream.name())
}

/// The end of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains(" DEBUG ")).collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
