//! What was done and what came of it, for people and for machines.

use std::{collections::BTreeMap, time::Duration};

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

use crate::{plan::Step, verdict::Verdict};

/// A fault that hit.
#[derive(Debug, Serialize)]
pub struct Injected {
    /// When it began, in seconds since the load began.
    pub at: f64,
    pub fault: &'static str,
    pub target: &'static str,
    /// How long it was there, in seconds.
    pub lasted: f64,
    /// How it is known to have hit.
    pub showed: String,
    /// How long it took until everything had landed that was sent before its end, in seconds.
    pub recovered: f64,
}

/// The run's figures.
#[derive(Debug, Serialize)]
pub struct Report {
    pub seed: u64,
    pub minutes: u64,
    /// From the first service's start to the end of the verification, in seconds.
    pub took: f64,
    pub faults: Vec<Injected>,
    pub sent: BTreeMap<&'static str, i64>,
    pub landed: i64,
    pub duplicates: i64,
    pub dead_letters: BTreeMap<String, i64>,
    /// Copies on the dead-letter topics beyond one of each.
    pub repeated_copies: i64,
    /// Records that had landed when their member was killed, or the committed offsets set back.
    pub redelivered: i64,
    pub rebalances: usize,
    /// In seconds.
    pub longest_stall: f64,
    pub lost: i64,
    pub double_counted: i64,
    /// Of one consumer, in kilobytes.
    pub peak_memory: u64,
    /// The exit code of `sluicegate audit --drained`.
    pub audit: i32,
}

impl Injected {
    /// A fault of the plan.
    pub fn new(step: &Step, at: Duration, lasted: Duration, showed: String) -> Injected {
        let (fault, target) = step.fault.words();
        let (at, lasted) = (at.as_secs_f64(), lasted.as_secs_f64());
        Injected { at, fault, target, lasted, showed, recovered: 0.0 }
    }

    /// One line while it goes on.
    pub fn print(&self) {
        println!(
            "{:>6.1} s  {}: {}, {:.1} s; {}; recovered in {:.1} s",
            self.at, self.target, self.fault, self.lasted, self.showed, self.recovered
        );
    }
}

impl Report {
    /// Takes over what was found.
    pub fn judged(mut self, verdict: &Verdict) -> Report {
        self.sent = verdict.sent.iter().map(|(kind, count)| (kind.words(), *count)).collect();
        self.dead_letters.clone_from(&verdict.dead_letters);
        (self.landed, self.duplicates) = (verdict.landed, verdict.duplicates);
        (self.lost, self.double_counted) = (verdict.lost, verdict.double_counted);
        self.repeated_copies = verdict.copies;
        self
    }

    /// Both tables, in Markdown.
    pub fn print(&self) {
        println!("\n{}\n\n{}\n", self.faults(), self.totals());
    }

    fn faults(&self) -> Table {
        let header = ["time, s", "fault", "target", "duration, s", "how it showed", "recovered, s"];
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN).set_header(header);
        for fault in &self.faults {
            table.add_row([
                format!("{:.0}", fault.at),
                fault.fault.to_owned(),
                fault.target.to_owned(),
                format!("{:.1}", fault.lasted),
                fault.showed.clone(),
                format!("{:.1}", fault.recovered),
            ]);
        }
        for column in [0, 3, 5] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    fn totals(&self) -> Table {
        let seed = format!("with seed {}", self.seed);
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN).set_header(["total", &seed]);
        let mut add = |what: &str, figure: String| _ = table.add_row([what.to_owned(), figure]);
        let mut by_class: BTreeMap<String, i64> = BTreeMap::new();
        for fault in &self.faults {
            *by_class.entry(format!("{}, {}", fault.target, fault.fault)).or_default() += 1;
        }
        let mut add_counts = |what: &str, counts: Vec<(&str, i64)>| {
            add(what, counts.iter().map(|(_, count)| count).sum::<i64>().to_string());
            counts.iter().for_each(|(each, count)| add(&format!("- {each}"), count.to_string()));
        };
        add_counts("faults injected", counts(&by_class));
        add_counts("records sent", self.sent.iter().map(|(kind, n)| (*kind, *n)).collect());
        add_counts("dead letters", counts(&self.dead_letters));
        for (what, figure) in [
            ("landed", self.landed.to_string()),
            ("duplicates", self.duplicates.to_string()),
            ("dead letters copied to their topic once more", self.repeated_copies.to_string()),
            ("redelivered, at least", self.redelivered.to_string()),
            ("partitions assigned, times", self.rebalances.to_string()),
            ("longest stall", format!("{:.1} s", self.longest_stall)),
            ("peak memory of a consumer", format!("{:.0} MB", self.peak_memory as f64 / 1024.0)),
            ("took in all", format!("{:.0} s", self.took)),
            ("lost", self.lost.to_string()),
            ("double counted", self.double_counted.to_string()),
            ("exit code of sluicegate audit --drained", self.audit.to_string()),
        ] {
            add(what, figure);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

fn counts(counts: &BTreeMap<String, i64>) -> Vec<(&str, i64)> {
    counts.iter().map(|(what, count)| (what.as_str(), *count)).collect()
}
