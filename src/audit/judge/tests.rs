use super::{
    super::{
        copies::Compared as Copies,
        figures::{DeadLetters, Gap, Log},
    },
    *,
};
use crate::aggregates::Buckets;

/// One partition, whose offsets 10 to 29 are accounted for and all that the log has.
fn complete() -> Figures {
    let entry = Entry {
        first_offset: 10,
        next_offset: 30,
        inserted: 12,
        duplicate: 3,
        dead_lettered: 4,
        skipped: 1,
        expired: 0,
        replayed: 0,
    };
    let log = Log {
        unread_below: 10,
        low: 10,
        ready: 30,
        high: 30,
        committed: Some(30),
        head: None,
        tail: None,
    };
    let dead_letters = DeadLetters { count: 4, ..DeadLetters::default() };
    let figures = PartitionFigures { log: Some(log), ledger: Some(entry), dead_letters };
    Figures {
        stream: "s".into(),
        topic: "t".into(),
        dead_letter_topic: "t.dlq".into(),
        table: "s".into(),
        partitions: [(("t".to_owned(), 0), figures)].into(),
        gaps: Vec::new(),
        rows: 12,
        buckets: vec![Buckets { table: "agg".into(), kept: 5, ..Buckets::default() }],
        copies: Copies { letters: 4, published: 4, kept: true, ..Copies::default() },
    }
}

/// What is found once the figures are changed: state, check and offsets.
fn found(change: impl FnOnce(&mut Figures)) -> Vec<String> {
    let mut figures = complete();
    change(&mut figures);
    let line = |finding: &Finding| {
        let Finding { state, check, from, to, .. } = finding;
        let offsets = from.zip(*to).map(|(from, to)| format!(" {from}-{to}"));
        format!("{state} {check}{}", offsets.unwrap_or_default())
    };
    judge(&figures, false).findings.iter().map(line).collect()
}

/// Changes what Kafka says of the one partition.
fn with_log(change: impl FnOnce(&mut Log)) -> Vec<String> {
    found(|figures| {
        let mut logs = figures.partitions.values_mut().filter_map(|figures| figures.log.as_mut());
        change(logs.next().unwrap());
    })
}

fn gap(first_offset: i64, end_offset: i64, accepted: bool) -> Gap {
    Gap { topic: "t".into(), partition: 0, first_offset, end_offset, accepted }
}

#[test]
fn figures_that_agree_are_no_finding() {
    assert_eq!(found(|_| {}), [""; 0]);
    let checks = judge(&complete(), true).checks;
    assert!(checks.iter().all(|checked| checked.state == State::Ok), "{checks:?}");
}

#[test]
fn a_log_that_goes_on_is_behind_if_there_is_a_record_in_it() {
    assert_eq!(with_log(|log| (log.ready, log.high) = (35, 40)), [""; 0]);
    let behind = |log: &mut Log| (log.ready, log.high, log.tail) = (35, 40, Some(31));
    assert_eq!(with_log(behind), ["behind offsets 30-34"]);
    // what came since the audit began is nobody's business
    assert_eq!(with_log(|log| (log.ready, log.high, log.tail) = (30, 40, Some(31))), [""; 0]);
}

#[test]
fn in_a_drained_stream_what_is_behind_is_a_gap() {
    let mut figures = complete();
    figures.copies.waiting = 1;
    let states = |drained| -> Vec<State> {
        judge(&figures, drained).findings.iter().map(|finding| finding.state).collect()
    };
    assert_eq!((states(false), states(true)), (vec![State::Behind], vec![State::Gap]));
}

#[test]
fn a_log_that_begins_before_the_ledger_has_a_gap_if_there_is_a_record_in_it() {
    assert_eq!(with_log(|log| log.low = 5), [""; 0]);
    assert_eq!(with_log(|log| (log.low, log.head) = (5, Some(10))), [""; 0]);
    assert_eq!(with_log(|log| (log.low, log.head) = (5, Some(7))), ["GAP offsets 5-9"]);
    // deleted once they were read, as is usual
    assert_eq!(with_log(|log| (log.unread_below, log.low) = (25, 28)), [""; 0]);
}

#[test]
fn what_was_unread_when_the_log_began_behind_it_is_a_gap() {
    let log = |log: &mut Log| {
        *log = Log {
            unread_below: 33,
            low: 36,
            ready: 40,
            high: 40,
            committed: Some(30),
            ..Log::default()
        };
        log.tail = Some(36);
    };
    assert_eq!(with_log(log), ["GAP offsets 30-32", "behind offsets 33-39"]);
    // deleted since the audit began: the consumer may have read it by now
    assert_eq!(with_log(|log| (log.low, log.high) = (36, 40)), [""; 0]);
}

#[test]
fn a_ledger_ahead_of_the_log_is_a_gap() {
    assert_eq!(with_log(|log| (log.ready, log.high) = (20, 20)), ["GAP offsets 20-29"]);
    assert_eq!(with_log(|log| *log = Log::default()), ["GAP offsets 10-29"]);
    // the log went on since
    assert_eq!(with_log(|log| (log.ready, log.high) = (20, 30)), [""; 0]);
}

#[test]
fn committed_offsets_ahead_of_the_ledger_are_a_gap() {
    let ahead = |log: &mut Log| {
        (log.ready, log.high) = (50, 50);
        (log.committed, log.tail) = (Some(40), Some(30));
    };
    assert_eq!(with_log(ahead), ["GAP offsets 30-39", "behind offsets 40-49"]);
    assert_eq!(with_log(|log| log.committed = None), [""; 0]);
    assert_eq!(with_log(|log| log.committed = Some(3)), [""; 0]);
}

#[test]
fn a_partition_without_a_row_of_the_ledger_is_behind_unless_it_was_committed() {
    let other = |committed, head| {
        found(|figures| {
            let log = Log { ready: 8, high: 8, committed, head, ..Log::default() };
            let other = PartitionFigures { log: Some(log), ..PartitionFigures::default() };
            figures.partitions.insert(("t".into(), 1), other);
        })
    };
    assert_eq!(other(None, None), [""; 0]);
    assert_eq!(other(None, Some(0)), ["behind offsets 0-7"]);
    assert_eq!(other(Some(5), Some(0)), ["GAP offsets 0-4", "behind offsets 5-7"]);
    assert_eq!(other(Some(8), Some(0)), ["GAP offsets 0-7"]);
    assert_eq!(other(Some(5), Some(6)), ["behind offsets 0-7"]);
}

#[test]
fn a_partition_that_kafka_has_no_more_is_a_gap_only_of_the_topic_that_is_read() {
    let gone = |topic: &str| {
        let topic = topic.to_owned();
        found(|figures| {
            figures.topic = topic;
            figures.partitions.values_mut().for_each(|figures| figures.log = None);
        })
    };
    assert_eq!(gone("t"), ["GAP offsets 10-29"]);
    assert_eq!(gone("renamed"), ["note offsets 10-29"]);
}

#[test]
fn a_log_that_ends_before_the_ledger_is_a_gap_only_of_the_topic_that_is_read() {
    let cut_short = |topic: &str| {
        let topic = topic.to_owned();
        found(|figures| {
            figures.topic = topic;
            let logs = figures.partitions.values_mut().filter_map(|figures| figures.log.as_mut());
            logs.for_each(|log| (log.low, log.ready, log.high) = (0, 25, 25));
        })
    };
    assert_eq!(cut_short("t"), ["GAP offsets 25-29"]);
    assert_eq!(cut_short("renamed"), ["note offsets 25-29"]);
}

#[test]
fn recorded_gaps_are_held_against_the_ledger_and_accepted_one_by_one() {
    let expired = |gaps: Vec<Gap>, expired: i64| {
        found(|figures| {
            figures.gaps = gaps;
            for entry in figures.partitions.values_mut().filter_map(|f| f.ledger.as_mut()) {
                entry.expired = expired;
                entry.next_offset = 30;
                entry.duplicate = 3 - expired;
            }
        })
    };
    assert_eq!(expired(vec![gap(11, 13, false)], 2), ["GAP expired 11-12"]);
    assert_eq!(expired(vec![gap(11, 13, true)], 2), ["accepted expired 11-12"]);
    let both = vec![gap(11, 13, true), gap(20, 21, false)];
    assert_eq!(expired(both, 3), ["accepted expired 11-12", "GAP expired 20-20"]);
    assert_eq!(
        expired(vec![gap(11, 13, true)], 0),
        ["accepted expired 11-12", "GAP expired 10-29"]
    );
    assert_eq!(expired(Vec::new(), 1), ["GAP expired 10-29"]);
}

#[test]
fn rows_and_buckets_are_neither_fewer_nor_more_nor_others() {
    assert_eq!(found(|figures| figures.rows = 11), ["GAP rows"]);
    assert_eq!(found(|figures| figures.rows = 13), ["GAP rows"]);
    let buckets =
        |change: fn(&mut Buckets)| found(|figures| figures.buckets.iter_mut().for_each(change));
    assert_eq!(buckets(|buckets| buckets.differing = 1), ["GAP aggregates"]);
    assert_eq!(buckets(|buckets| buckets.late = vec!["x_sum".into()]), ["note aggregates"]);
}

#[test]
fn dead_letters_are_as_many_as_the_ledger_counts_and_of_its_offsets() {
    let letters = |letters: DeadLetters| {
        found(|figures| {
            for figures in figures.partitions.values_mut() {
                figures.dead_letters = letters.clone();
            }
        })
    };
    let none = DeadLetters::default();
    assert_eq!(letters(none.clone()), ["GAP dead letters 10-29"]);
    let outside = DeadLetters { outside: 2, outside_from: Some(3), outside_to: Some(40), ..none };
    assert_eq!(letters(DeadLetters { count: 4, ..outside }), ["GAP dead letters 3-40"]);
}

#[test]
fn copies_that_are_missing_count_only_where_the_topic_kept_all() {
    let stretch = || Stretch { topic: "t".into(), partition: 0, from: 12, to: 15, count: 2 };
    let missing = |kept| {
        found(|figures| {
            figures.copies.kept = kept;
            figures.copies.missing = vec![stretch()];
        })
    };
    assert_eq!(missing(true), ["GAP copies 12-15"]);
    assert_eq!(missing(false), ["note copies"]);
    assert_eq!(found(|f| f.copies.differing = vec![stretch()]), ["GAP copies 12-15"]);
    assert_eq!(found(|f| f.copies.unknown_at = vec![stretch()]), ["GAP copies 12-15"]);
    assert_eq!(found(|f| f.copies.foreign = 3), ["note copies"]);
}

#[test]
fn a_ledger_whose_counts_do_not_add_up_is_a_gap() {
    let counts = |skipped: i64, duplicate: i64| {
        found(|figures| {
            let entries = figures.partitions.values_mut().filter_map(|f| f.ledger.as_mut());
            entries.for_each(|entry| (entry.skipped, entry.duplicate) = (skipped, duplicate));
        })
    };
    assert_eq!(counts(1, 3), [""; 0]);
    assert_eq!(counts(2, 3), ["GAP offsets 10-29"]);
    assert_eq!(counts(-1, 5), ["GAP offsets 10-29"]);
}
