//! What `consume` counts: once a batch, or once for what was polled together, never once a record.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{
    list::{
        BATCHES, BREAKER, COMMITS_FAILED, DEAD_LETTERS, EXPIRED, NEWEST_EVENT, OFFSET_COMMITS,
        PUBLISHED, RECEIVED_BYTES, RECEIVED_RECORDS, RECORDS, STAGE_DURATION, STOPPED,
    },
    readiness,
};
use crate::{
    batch::{Batch, DeadLetter},
    sink::{Way, Written},
};

/// What of a batch's work is timed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timed {
    /// Decode, check and label.
    Decide,
    /// Its transaction, up to the commit.
    Write,
    /// The commit.
    Commit,
}

impl Timed {
    fn name(self) -> &'static str {
        match self {
            Timed::Decide => "decide",
            Timed::Write => "write",
            Timed::Commit => "commit",
        }
    }
}

/// A stream begins. What it may do is there from now on, at nought: a rate needs a beginning.
pub(crate) fn began(stream: &str) {
    for metric in
        [RECEIVED_RECORDS, RECEIVED_BYTES, PUBLISHED, OFFSET_COMMITS, COMMITS_FAILED, EXPIRED]
    {
        metric.counter(&[stream]).increment(0);
    }
    landed(stream, &Written::default());
    for way in [Way::Direct, Way::Staged] {
        BATCHES.counter(&[stream, way.name()]).increment(0);
    }
    BREAKER.gauge(&[stream]).set(0.0);
    STOPPED.gauge(&[stream]).set(0.0);
}

/// Records were polled and handed to their sink task.
pub(crate) fn received(stream: &str, records: usize, bytes: usize) {
    RECEIVED_RECORDS.counter(&[stream]).increment(count(records));
    RECEIVED_BYTES.counter(&[stream]).increment(count(bytes));
}

/// A part of a batch's work is done.
pub(crate) fn took(stream: &str, what: Timed, time: Duration) {
    STAGE_DURATION.histogram(&[stream, what.name()]).record(time);
}

/// A batch landed.
pub(crate) fn batch_landed(stream: &str, written: &Written, way: Way) {
    landed(stream, written);
    BATCHES.counter(&[stream, way.name()]).increment(1);
}

fn landed(stream: &str, written: &Written) {
    let Written { inserted, duplicate, dead_lettered, skipped } = *written;
    for (outcome, records) in [
        ("inserted", inserted),
        ("duplicate", duplicate),
        ("dead_lettered", dead_lettered),
        ("skipped", skipped),
    ] {
        RECORDS.counter(&[stream, outcome]).increment(count(records));
    }
}

/// Dead letters of a batch landed, so many of them for the first time. Where these are not all,
/// the others were redelivered, or are the same as one before; the last ones are taken for new.
pub(crate) fn dead_lettered(stream: &str, letters: [&[DeadLetter]; 2], new: i64) {
    let mut letters: Vec<&DeadLetter> = letters.into_iter().flatten().collect();
    letters.sort_unstable_by_key(|letter| std::cmp::Reverse(letter.record));
    let mut counts = BTreeMap::new();
    for letter in letters.into_iter().take(usize::try_from(new).unwrap_or_default()) {
        let why = (letter.rejection.stage.name(), &*letter.rejection.reason);
        *counts.entry(why).or_insert(0_u64) += 1;
    }
    for ((stage, reason), letters) in counts {
        DEAD_LETTERS.counter(&[stream, stage, reason]).increment(letters);
    }
}

/// Copies of dead letters are on their topic.
pub(crate) fn published(stream: &str, letters: usize) {
    PUBLISHED.counter(&[stream]).increment(count(letters));
}

/// Offsets are on their way to Kafka.
pub(crate) fn commit_sent(stream: &str) {
    OFFSET_COMMITS.counter(&[stream]).increment(1);
}

/// Kafka did not take them.
pub(crate) fn commit_failed(stream: &str) {
    COMMITS_FAILED.counter(&[stream]).increment(1);
}

/// Kafka deleted offsets that nobody had read.
pub(crate) fn expired(stream: &str, offsets: i64) {
    EXPIRED.counter(&[stream]).increment(count(offsets));
}

/// The stream's breaker opened or closed.
pub(crate) fn breaker(stream: &str, open: bool) {
    BREAKER.gauge(&[stream]).set(f64::from(u8::from(open)));
    readiness::breaker(stream, open);
}

/// The stream stopped, and a person has to mend something.
pub(crate) fn stopped(stream: &str, reason: &str) {
    STOPPED.gauge(&[stream]).set(1.0);
    readiness::stopped(stream, reason);
}

/// The newest event of one stream, whichever sink task landed it.
#[derive(Debug, Default)]
pub(crate) struct NewestEvent(Mutex<Option<i64>>);

impl NewestEvent {
    /// A batch landed.
    #[expect(clippy::cast_precision_loss, reason = "microseconds of our times are far below 2^53")]
    pub(crate) fn landed(&self, stream: &str, batch: &Batch) {
        let newest_of_batch = batch.rows.iter().filter_map(|row| row.time).max();
        // no code panics while it holds the lock
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if newest_of_batch > *newest {
            *newest = newest_of_batch;
            let micros = newest_of_batch.unwrap_or_default();
            NEWEST_EVENT.gauge(&[stream]).set(micros as f64 / 1e6);
        }
    }
}

fn count<T: TryInto<u64>>(number: T) -> u64 {
    number.try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::shown, *};
    use crate::{
        batch::Row,
        failure::{Rejection, Stage},
    };

    fn letter(record: usize, reason: &'static str) -> DeadLetter {
        let rejection = Rejection::new(Stage::Check, reason, "");
        let (event_id, decoded) = (None, None);
        DeadLetter {
            record,
            rejection,
            schema_id: None,
            event_id,
            decoded,
            event_time: None,
            attempts: 1,
        }
    }

    fn lines(text: &str, name: &str) -> Vec<String> {
        let mut lines: Vec<String> =
            text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_a_stream_may_do_is_there_from_its_beginning() {
        let text = shown(|| began("s"));
        insta::assert_snapshot!(lines(&text, "sluicegate_").join("\n"), @r#"
        sluicegate_batches_total{stream="s",way="direct"} 0
        sluicegate_batches_total{stream="s",way="staged"} 0
        sluicegate_breaker_open{stream="s"} 0
        sluicegate_dead_letters_published_total{stream="s"} 0
        sluicegate_expired_offsets_total{stream="s"} 0
        sluicegate_offset_commits_failed_total{stream="s"} 0
        sluicegate_offset_commits_total{stream="s"} 0
        sluicegate_received_bytes_total{stream="s"} 0
        sluicegate_received_records_total{stream="s"} 0
        sluicegate_records_total{stream="s",outcome="dead_lettered"} 0
        sluicegate_records_total{stream="s",outcome="duplicate"} 0
        sluicegate_records_total{stream="s",outcome="inserted"} 0
        sluicegate_records_total{stream="s",outcome="skipped"} 0
        sluicegate_stream_stopped{stream="s"} 0
        "#);
    }

    #[test]
    fn dead_letters_that_were_there_before_are_not_counted_again() {
        let text = shown(|| {
            let decided = [letter(0, "rule:a"), letter(7, "rule:b")];
            dead_lettered("s", [&decided, &[letter(3, "rule:b")]], 2);
        });
        let expected =
            r#"sluicegate_dead_letters_total{stream="s",stage="check",reason="rule:b"} 2"#;
        assert_eq!(lines(&text, "sluicegate_dead_letters_total"), [expected]);
    }

    #[test]
    fn a_late_event_is_not_the_newest() {
        let newest = NewestEvent::default();
        let batch = |times: &[Option<i64>]| {
            let row = |time: &Option<i64>| {
                let (columns, id) = (0..0, 0..0);
                Row { record: 0, columns, id, time: *time, spares: Vec::new() }
            };
            Batch { rows: times.iter().map(row).collect(), ..Batch::default() }
        };
        let text = shown(|| {
            newest.landed("s", &batch(&[Some(2_500_000), None]));
            newest.landed("s", &batch(&[Some(1_000_000)]));
            newest.landed("s", &batch(&[None]));
        });
        let name = "sluicegate_newest_event_timestamp_seconds";
        assert_eq!(lines(&text, name), [format!("{name}{{stream=\"s\"}} 2.5")]);
    }
}
