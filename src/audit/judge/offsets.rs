//! The ledger against Kafka's watermarks and committed offsets.

use super::{Compared, Judge, at, count, counted};
use crate::audit::{
    figures::{Entry, Log, Place},
    report::{Check, State},
};

impl Judge<'_> {
    /// The ledger against Kafka's watermarks and committed offsets.
    pub(super) fn offsets(&mut self) -> Compared {
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
        let read = count(partitions.values().filter(|figures| figures.ledger.is_some()).count());
        let behind = self.to_be_read;
        let compared =
            format!("{} of {}", counted(accounted, "offset"), counted(read, "partition"));
        let compared = match behind {
            0 => compared,
            _ => format!("{compared}, {behind} to be read"),
        };
        (compared, vec![("offsets", accounted), ("partitions", read), ("behind", behind)])
    }

    /// Every offset has one end.
    fn entry(&mut self, place: &Place, entry: &Entry) {
        if entry.counted() != Some(entry.offsets()) {
            let counts = entry.counted().map_or_else(
                || "the ledger has a count below zero".to_owned(),
                |ends| format!("the ledger counts {}", counted(ends, "end")),
            );
            let said = format!("{counts} for {}", counted(entry.offsets(), "offset"));
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
            return self.short_log(place, log, entry);
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

    /// A log that ends before the ledger does: that of another topic of the same name.
    fn short_log(&mut self, place: &Place, log: &Log, entry: &Entry) {
        let (from, to) = (entry.first_offset.max(log.high), entry.next_offset - 1);
        if place.0 == self.figures.topic {
            let said = "accounted for, and beyond the end of the log: the topic was made anew or cut \
                        short; `sluicegate consume` stops there and says what to run";
            self.gap(Check::Offsets, place, from, to, said);
        } else {
            let said = "accounted for; the topic was made anew since, and the stream has another";
            self.find(at(Check::Offsets, State::Note, place, from, to, said));
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
        self.to_be_read += end - next;
        let said = match place.0 == self.figures.topic {
            true => "still to be read; run `sluicegate consume`",
            false => {
                "still to be read, and the stream has another topic now; consume them with \
                      the contract as it was"
            }
        };
        self.find(at(Check::Offsets, State::Behind, place, next, end - 1, said));
    }
}
