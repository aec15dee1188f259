//! Figures in, findings out.

mod offsets;

use super::{
    copies::Stretch,
    figures::{Entry, Figures, PartitionFigures, Place},
    report::{Check, Checked, Finding, State, StreamAudit},
};
use crate::{aggregates::counted, sql::quoted};

/// Judges one stream; in one that is `drained` nothing may still be on its way.
pub(super) fn judge(figures: &Figures, drained: bool) -> StreamAudit {
    let mut judge = Judge { figures, drained, to_be_read: 0, findings: Vec::new() };
    let compared = [
        (Check::Offsets, judge.offsets()),
        (Check::Expired, judge.expired()),
        (Check::Rows, judge.rows()),
        (Check::Aggregates, judge.aggregates()),
        (Check::DeadLetters, judge.dead_letters()),
        (Check::Copies, judge.copies()),
    ];
    let findings = judge.findings;
    let checked = |(check, (compared, figures)): (Check, Compared)| {
        let of_check = findings.iter().filter(|finding| finding.check == check);
        // a note alone is no blemish
        let worst = of_check.map(|finding| finding.state).max();
        let state = worst.filter(|state| *state > State::Note).unwrap_or(State::Ok);
        Checked { check, state, compared, figures: figures.into_iter().collect() }
    };
    let checks = compared.into_iter().map(checked).collect();
    StreamAudit { stream: figures.stream.clone(), checks, findings }
}

/// What was held against what, in words and as numbers.
type Compared = (String, Vec<(&'static str, i64)>);

struct Judge<'f> {
    figures: &'f Figures,
    drained: bool,
    /// Offsets that the ledger has not got to.
    to_be_read: i64,
    findings: Vec<Finding>,
}

impl Judge<'_> {
    /// `ledger_gaps` against the ledger.
    fn expired(&mut self) -> Compared {
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
        let said = match accepted {
            0 => String::new(),
            _ => format!(", {accepted} accepted"),
        };
        let compared = format!("{} expired unread{said}", counted(total, "offset"));
        (compared, vec![("offsets", total), ("accepted", accepted)])
    }

    /// The table's rows against what the ledger says has landed.
    fn rows(&mut self) -> Compared {
        let rows = self.figures.rows;
        let inserted = self.sum(|entry| entry.inserted + entry.replayed);
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
        let compared = format!("{}, {inserted} in the ledger", counted(rows, "row"));
        (compared, vec![("rows", rows), ("ledger", inserted)])
    }

    /// The aggregates against what the table's rows make.
    fn aggregates(&mut self) -> Compared {
        let mut kept = 0;
        for buckets in &self.figures.buckets {
            kept += buckets.kept;
            if let Some(said) = buckets.difference() {
                let examples = buckets.first.clone();
                let finding = of(Check::Aggregates, State::Gap, said);
                self.find(Finding { examples, ..finding });
            }
            if let Some(said) = buckets.note() {
                self.find(of(Check::Aggregates, State::Note, said));
            }
        }
        let tables = counted(count(self.figures.buckets.len()), "table");
        let differing = self.figures.buckets.iter().map(|buckets| buckets.differing).sum();
        let compared = format!("{} of {tables}", counted(kept, "bucket"));
        (compared, vec![("buckets", kept), ("differing", differing)])
    }

    /// `dlq_events` against the ledger.
    fn dead_letters(&mut self) -> Compared {
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
        let compared = counted(total, "dead letter");
        let compared = format!("{compared} in dlq_events, {ledger} in the ledger");
        (compared, vec![("dead_letters", total), ("ledger", ledger)])
    }

    /// The dead-letter topic against `dlq_events`.
    fn copies(&mut self) -> Compared {
        let (topic, copies) = (&self.figures.dead_letter_topic, &self.figures.copies);
        let lost = |stretch: &Stretch| {
            format!(
                "{} neither in dlq_outbox nor on {topic}; to copy them: INSERT INTO \
                 dlq_outbox SELECT stream, id FROM dlq_events WHERE stream = '{}' AND topic = '{}' AND partition = {} \
                 AND \"offset\" BETWEEN {} AND {} AND purged_at IS NULL ON CONFLICT DO NOTHING; and `sluicegate consume`",
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
        let published = counted(copies.published, "dead letter");
        let compared = format!("{published} of {} published", copies.letters);
        let missing = copies.missing.iter().map(|stretch| stretch.count).sum();
        let figures = [
            ("dead_letters", copies.letters),
            ("published", copies.published),
            ("waiting", copies.waiting),
            ("records", copies.copies),
            ("missing", missing),
            ("unknown", copies.unknown),
        ];
        (compared, figures.into())
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

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
