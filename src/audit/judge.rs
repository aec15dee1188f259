//! Figures in, findings out.

use super::{
    copies::Stretch,
    figures::{Entry, Figures, Log, PartitionFigures, Place},
    report::{Check, Checked, Finding, State, StreamAudit},
};
use crate::sql::quoted;

/// Judges one stream; in one that is `drained` nothing may still be on its way.
pub(super) fn judge(figures: &Figures, drained: bool) -> StreamAudit {
    let mut judge = Judge { figures, drained, findings: Vec::new() };
    let compared = [
        (Check::Offsets, judge.offsets()),
        (Check::Expired, judge.expired()),
        (Check::Rows, judge.rows()),
        (Check::Aggregates, judge.aggregates()),
        (Check::DeadLetters, judge.dead_letters()),
        (Check::Copies, judge.copies()),
    ];
    let findings = judge.findings;
    let checked = |(check, compared)| {
        let of_check = findings.iter().filter(|finding| finding.check == check);
        // a note alone is no blemish
        let worst = of_check.map(|finding| finding.state).max();
        let state = worst.filter(|state| *state > State::Note).unwrap_or(State::Ok);
        Checked { check, state, compared }
    };
    let checks = compared.into_iter().map(checked).collect();
    StreamAudit { stream: figures.stream.clone(), checks, findings }
}

struct Judge<'f> {
    figures: &'f Figures,
    drained: bool,
    findings: Vec<Finding>,
}

impl Judge<'_> {
    /// The ledger against Kafka's watermarks and committed offsets.
    fn offsets(&mut self) -> String {
        let partitions = &self.figures.partitions;
        for (place, figures) in partitions {
            if let Some(entry) = &figures.ledger {
                self.entry(place, entry);
            }
            match (&figures.log, &figures.ledger) {
                (Some(log), Some(entry)) => self.log(place, log, entry),
                (Some(log), None) => self.unknown_log(place, log),
                (None, Some(entry)) => self.lost_log(place, entry),
                (None, None) => {}
            }
        }
        let accounted = self.sum(Entry::offsets);
        let partitions = partitions.values().filter(|p| p.ledger.is_some()).count();
        format!("{}, of {}", counted(accounted, "offset"), partitions_of(partitions))
    }

    /// Every offset has one end.
    fn entry(&mut self, place: &Place, entry: &Entry) {
        if entry.counted() != entry.offsets() {
            let said = format!(
                "the ledger counts {} for {}",
                counted(entry.counted(), "end"),
                counted(entry.offsets(), "offset")
            );
            self.gap(Check::Offsets, place, entry.first_offset, entry.next_offset - 1, said);
        }
    }

    fn log(&mut self, place: &Place, log: &Log, entry: &Entry) {
        let first = entry.first_offset.min(log.high);
        if log.head.is_some_and(|record| record < first) {
            let said = "never read: the ledger begins behind them, and no consumer goes back there";
            self.gap(Check::Offsets, place, log.low, first - 1, said);
        }
        if entry.next_offset > log.high {
            let said = "accounted for, and beyond the end of the log: the topic was truncated or made \
                        anew; give the stream another topic";
            let from = entry.first_offset.max(log.high);
            return self.gap(Check::Offsets, place, from, entry.next_offset - 1, said);
        }
        let mut next = entry.next_offset;
        if log.unread_below > next {
            let said = "deleted by Kafka before they were read, and not recorded yet; `sluicegate \
                        consume` records it";
            self.gap(Check::Offsets, place, next, log.unread_below - 1, said);
            next = log.unread_below;
        }
        if let Some(committed) = log.committed.filter(|committed| *committed > next) {
            let said = "committed, and the ledger has not seen them, as when a database is \
                        restored; `sluicegate consume` goes back to them";
            self.gap(Check::Offsets, place, next, committed - 1, said);
            next = committed;
        }
        if log.tail.is_some_and(|record| record.max(next) < log.ready) {
            self.behind(place, next, log.ready);
        }
    }

    /// A partition that the ledger knows nothing of: nobody has read it yet, unless somebody has.
    fn unknown_log(&mut self, place: &Place, log: &Log) {
        let Some(head) = log.head.filter(|head| *head < log.ready) else { return };
        let mut next = log.low;
        if let Some(committed) = log.committed.filter(|committed| head < *committed) {
            let said = "committed, and the ledger has no row of the partition: put it back from a \
                        backup of the database";
            self.gap(Check::Offsets, place, next, committed - 1, said);
            next = committed;
        }
        if next < log.ready {
            self.behind(place, next, log.ready);
        }
    }

    fn lost_log(&mut self, place: &Place, entry: &Entry) {
        let (from, to) = (entry.first_offset, entry.next_offset - 1);
        if place.0 == self.figures.topic {
            let said = "accounted for, and Kafka has no such partition any more: what came after \
                        them can't be known";
            self.gap(Check::Offsets, place, from, to, said);
        } else {
            let said = "accounted for; Kafka has no such partition any more";
            self.find(at(Check::Offsets, State::Note, place, from, to, said));
        }
    }

    fn behind(&mut self, place: &Place, next: i64, end: i64) {
        let said = match place.0 == self.figures.topic {
            true => "still to be read; run `sluicegate consume`",
            false => {
                "still to be read, and the stream has another topic now; consume them with \
                      the contract as it was"
            }
        };
        self.find(at(Check::Offsets, State::Behind, place, next, end - 1, said));
    }

    /// `ledger_gaps` against the ledger.
    fn expired(&mut self) -> String {
        let (mut total, mut accepted) = (0, 0);
        for gap in &self.figures.gaps {
            let place = (gap.topic.clone(), gap.partition);
            let offsets = gap.end_offset - gap.first_offset;
            total += offsets;
            let lost = "deleted by Kafka before they were read";
            let (state, said) = if gap.accepted {
                accepted += offsets;
                (State::Accepted, lost.to_owned())
            } else {
                let stream = &self.figures.stream;
                let accept = format!("`sluicegate audit {stream} --accept-gaps` accepts that");
                (State::Gap, format!("{lost}; {accept}"))
            };
            let (from, to) = (gap.first_offset, gap.end_offset - 1);
            self.find(at(Check::Expired, state, &place, from, to, said));
        }
        for (place, figures) in &self.figures.partitions {
            let gaps = self.figures.gaps.iter();
            let of_place = gaps.filter(|gap| (&gap.topic, gap.partition) == (&place.0, place.1));
            let recorded: i64 = of_place.map(|gap| gap.end_offset - gap.first_offset).sum();
            let entry = figures.ledger.clone().unwrap_or_default();
            if recorded != entry.expired {
                let said = format!(
                    "the ledger counts {} as expired, and ledger_gaps has {recorded}",
                    entry.expired
                );
                self.gap(Check::Expired, place, entry.first_offset, entry.next_offset - 1, said);
            }
        }
        match accepted {
            0 => format!("{} expired unread", counted(total, "offset")),
            _ => format!("{} expired unread, {accepted} accepted", counted(total, "offset")),
        }
    }

    /// The table's rows against what the ledger says has landed.
    fn rows(&mut self) -> String {
        let (rows, inserted) = (self.figures.rows, self.sum(|entry| entry.inserted));
        let table = quoted(&self.figures.table);
        if rows < inserted {
            let missing = counted(inserted - rows, "row");
            self.find(of(
                Check::Rows,
                State::Gap,
                format!(
                    "{missing} missing from {table}: deleted, by hand or to make room; buckets \
                     of aggregates that differ say of which time"
                ),
            ));
        } else if rows > inserted {
            let more = counted(rows - inserted, "row");
            self.find(of(
                Check::Rows,
                State::Gap,
                format!(
                    "{more} of {table} not in the ledger: written by something else, or before the \
                     ledger was put back"
                ),
            ));
        }
        format!("{}, {inserted} in the ledger", counted(rows, "row"))
    }

    /// The aggregates against what the table's rows make.
    fn aggregates(&mut self) -> String {
        let mut kept = 0;
        for buckets in &self.figures.buckets {
            kept += buckets.kept;
            let table = quoted(&buckets.table);
            if buckets.differing > 0 {
                let what = counted(buckets.differing, "bucket");
                let said = format!(
                    "{what} of {table} not what the rows of {} make; to make it again: DROP TABLE \
                     {table}; and `sluicegate migrate`",
                    quoted(&self.figures.table)
                );
                let examples = buckets.first.clone();
                let finding = of(Check::Aggregates, State::Gap, said);
                self.find(Finding { examples, ..finding });
            }
            if !buckets.late.is_empty() {
                let columns = buckets.late.join(", ");
                let said = format!(
                    "not compared, as they count from when they were added to {table}: {columns}"
                );
                self.find(of(Check::Aggregates, State::Note, said));
            }
        }
        let tables = counted(count(self.figures.buckets.len()), "table");
        format!("{} of {tables}", counted(kept, "bucket"))
    }

    /// `dlq_events` against the ledger.
    fn dead_letters(&mut self) -> String {
        let mut total = 0;
        for (place, PartitionFigures { ledger, dead_letters, .. }) in &self.figures.partitions {
            total += dead_letters.count;
            if let (Some(from), Some(to)) = (dead_letters.outside_from, dead_letters.outside_to) {
                let letters = counted(dead_letters.outside, "dead letter");
                let said = format!("{letters} of dlq_events outside of what the ledger has");
                self.gap(Check::DeadLetters, place, from, to, said);
            }
            let Some(entry) = ledger else { continue };
            if dead_letters.count != entry.dead_lettered {
                let said = format!(
                    "{} in dlq_events, {} in the ledger: deleted, or written by something else",
                    counted(dead_letters.count, "dead letter"),
                    entry.dead_lettered
                );
                self.gap(
                    Check::DeadLetters,
                    place,
                    entry.first_offset,
                    entry.next_offset - 1,
                    said,
                );
            }
        }
        let ledger = self.sum(|entry| entry.dead_lettered);
        format!("{} in dlq_events, {ledger} in the ledger", counted(total, "dead letter"))
    }

    /// The dead-letter topic against `dlq_events`.
    fn copies(&mut self) -> String {
        let (topic, copies) = (&self.figures.dead_letter_topic, &self.figures.copies);
        let lost = |stretch: &Stretch| {
            format!(
                "{} marked as published, and not on {topic}; to copy them again: UPDATE dlq_events \
                 SET published_at = NULL WHERE stream = '{}' AND topic = '{}' AND partition = {} \
                 AND \"offset\" BETWEEN {} AND {}; and `sluicegate consume`",
                counted(stretch.count, "dead letter"),
                self.figures.stream,
                stretch.topic,
                stretch.partition,
                stretch.from,
                stretch.to
            )
        };
        let differs = |stretch: &Stretch| {
            let letters = counted(stretch.count, "dead letter");
            format!("{letters} with another key or value on {topic} than in dlq_events")
        };
        let unknown = |stretch: &Stretch| {
            let copies = counted(stretch.count, "record");
            format!("{copies} on {topic}, and not in dlq_events: was something deleted there?")
        };
        if copies.kept {
            self.stretches(&copies.missing, lost);
        } else if !copies.missing.is_empty() {
            let missing = copies.missing.iter().map(|stretch| stretch.count).sum();
            let said = format!(
                "{} not on {topic}, whose oldest records Kafka has deleted",
                counted(missing, "published dead letter")
            );
            self.find(of(Check::Copies, State::Note, said));
        }
        self.stretches(&copies.differing, differs);
        self.stretches(&copies.unknown_at, unknown);
        if copies.waiting > 0 {
            let waiting = counted(copies.waiting, "dead letter");
            let said = format!("{waiting} not on {topic} yet; `sluicegate consume` copies them");
            self.find(of(Check::Copies, State::Behind, said));
        }
        if copies.foreign > 0 {
            let foreign = counted(copies.foreign, "record");
            let said = format!("{foreign} on {topic} from somebody else");
            self.find(of(Check::Copies, State::Note, said));
        }
        format!("{} of {} published", counted(copies.published, "dead letter"), copies.letters)
    }

    fn stretches(&mut self, stretches: &[Stretch], said: impl Fn(&Stretch) -> String) {
        for stretch in stretches {
            let place = (stretch.topic.clone(), stretch.partition);
            self.gap(Check::Copies, &place, stretch.from, stretch.to, said(stretch));
        }
    }

    fn sum(&self, of: impl Fn(&Entry) -> i64) -> i64 {
        self.figures.partitions.values().filter_map(|figures| figures.ledger.as_ref()).map(of).sum()
    }

    fn gap(&mut self, check: Check, place: &Place, from: i64, to: i64, said: impl Into<String>) {
        self.find(at(check, State::Gap, place, from, to, said));
    }

    fn find(&mut self, mut finding: Finding) {
        if self.drained && finding.state == State::Behind {
            finding.state = State::Gap;
        }
        self.findings.push(finding);
    }
}

/// About the whole stream.
fn of(check: Check, state: State, said: String) -> Finding {
    let (topic, partition, from, to, examples) = (None, None, None, None, Vec::new());
    Finding { check, state, topic, partition, from, to, said, examples }
}

/// About some offsets.
fn at(
    check: Check,
    state: State,
    (topic, partition): &Place,
    from: i64,
    to: i64,
    said: impl Into<String>,
) -> Finding {
    Finding {
        topic: Some(topic.clone()),
        partition: Some(*partition),
        from: Some(from),
        to: Some(to),
        ..of(check, state, said.into())
    }
}

fn counted(count: i64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn partitions_of(count: usize) -> String {
    format!("{count} partition{}", if count == 1 { "" } else { "s" })
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
