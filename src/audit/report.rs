//! What an audit found, for a person or as JSON.

use std::{collections::BTreeMap, fmt};

use comfy_table::{ContentArrangement, Table, presets::UTF8_BORDERS_ONLY};
use serde::Serialize;

/// How many characters a line of the table has.
const WIDTH: u16 = 80;

/// How many findings of one check a person is shown.
const MOST_FINDINGS: usize = 20;

/// What was found, of all streams.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether nothing is missing.
    pub complete: bool,
    /// How many findings say that something is.
    pub gaps: usize,
    /// Each stream.
    pub streams: Vec<StreamAudit>,
}

/// What was found of one stream.
#[derive(Debug, Serialize)]
pub struct StreamAudit {
    /// The stream.
    pub stream: String,
    /// What was compared.
    pub checks: Vec<Checked>,
    /// What did not agree.
    pub findings: Vec<Finding>,
}

/// One comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The ledger against Kafka's watermarks.
    Offsets,
    /// Offsets that Kafka deleted before they were read.
    Expired,
    /// The table's rows against the ledger.
    Rows,
    /// The aggregates against the table's rows.
    Aggregates,
    /// `dlq_events` against the ledger.
    DeadLetters,
    /// The dead-letter topic against `dlq_events`.
    Copies,
}

/// How a comparison came out; the worst is last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Both sides agree.
    Ok,
    /// Something could not be compared, or is worth knowing.
    Note,
    /// Something is missing, and a person knows of it.
    Accepted,
    /// Something is not there yet.
    Behind,
    /// Something is missing, or nobody knows where it comes from.
    Gap,
}

/// How one comparison came out.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// Which.
    pub check: Check,
    /// How.
    pub state: State,
    /// What was held against what,
    pub compared: String,
    /// and the same as numbers.
    pub figures: BTreeMap<&'static str, i64>,
}

/// Something that does not agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was compared.
    pub check: Check,
    /// What that means.
    pub state: State,
    /// Where, if it is about a topic,
    pub topic: Option<String>,
    /// a partition,
    pub partition: Option<i32>,
    /// the offsets from this
    pub from: Option<i64>,
    /// to this one.
    pub to: Option<i64>,
    /// What it is and what to do about it.
    pub said: String,
    /// Examples.
    pub examples: Vec<String>,
}

impl Report {
    pub(super) fn of(streams: Vec<StreamAudit>) -> Report {
        let gaps = streams.iter().flat_map(|stream| &stream.findings);
        let gaps = gaps.filter(|finding| finding.state == State::Gap).count();
        Report { complete: gaps == 0, gaps, streams }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Check::Offsets => "offsets",
            Check::Expired => "expired",
            Check::Rows => "rows",
            Check::Aggregates => "aggregates",
            Check::DeadLetters => "dead letters",
            Check::Copies => "copies",
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Ok => "ok",
            State::Note => "note",
            State::Accepted => "accepted",
            State::Behind => "behind",
            State::Gap => "GAP",
        })
    }
}

/// Where it is, as far as it is anywhere.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(topic) = &self.topic {
            write!(f, "topic {topic}, ")?;
        }
        if let Some(partition) = self.partition {
            write!(f, "partition {partition}, ")?;
        }
        match (self.from, self.to) {
            (Some(from), Some(to)) if from == to => write!(f, "offset {from}, ")?,
            (Some(from), Some(to)) => write!(f, "offsets {from} to {to}, ")?,
            _ => {}
        }
        f.write_str(&self.said)
    }
}

/// For a person: a table a stream, a line a finding, and what it comes to.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    for audit in &report.streams {
        let mut table = Table::new();
        table
            .load_style(UTF8_BORDERS_ONLY)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(WIDTH)
            .set_header([audit.stream.as_str(), "", "compared"]);
        for Checked { check, state, compared, .. } in &audit.checks {
            table.add_row([check.to_string(), state.to_string(), compared.clone()]);
        }
        text.push_str(&format!("{table}\n"));
    }
    for audit in &report.streams {
        for check in &audit.checks {
            findings(&mut text, audit, check.check);
        }
    }
    text.push_str(&verdict(report));
    text
}

fn findings(text: &mut String, audit: &StreamAudit, check: Check) {
    let all = || audit.findings.iter().filter(|finding| finding.check == check);
    for finding in all().take(MOST_FINDINGS) {
        text.push_str(&format!("{}: {}: {finding}\n", finding.state, audit.stream));
        for example in &finding.examples {
            text.push_str(&format!("  {example}\n"));
        }
    }
    let more = all().count().saturating_sub(MOST_FINDINGS);
    if more > 0 {
        let stream = &audit.stream;
        text.push_str(&format!("{stream}: {more} more of {check}; --json has them all\n"));
    }
}

fn verdict(report: &Report) -> String {
    let worst = report.streams.iter().flat_map(|audit| &audit.findings).map(|f| f.state).max();
    match worst {
        Some(State::Gap) => match report.gaps {
            1 => "there is a gap".to_owned(),
            gaps => format!("there are {gaps} gaps"),
        },
        Some(State::Behind) => "nothing is missing; not all of it is there yet".to_owned(),
        Some(State::Accepted) => "nothing is missing but what was accepted".to_owned(),
        _ => "nothing is missing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(state: State, findings: usize) -> StreamAudit {
        let check = Check::Offsets;
        let finding = Finding {
            check,
            state,
            topic: Some("t".into()),
            partition: Some(1),
            from: Some(3),
            to: Some(7),
            said: "were never read".into(),
            examples: vec!["such as 5".into()],
        };
        let checked =
            Checked { check, state, compared: "10 of 15".into(), figures: BTreeMap::new() };
        let findings = vec![finding; findings];
        StreamAudit { stream: "readings".into(), checks: vec![checked], findings }
    }

    #[test]
    fn a_gap_is_named_with_its_stream_topic_partition_and_offsets() {
        insta::assert_snapshot!(render(&Report::of(vec![audit(State::Gap, 1)])), @"
        ┌───────────────────────────┐
        │ readings         compared │
        ╞═══════════════════════════╡
        │ offsets    GAP   10 of 15 │
        └───────────────────────────┘
        GAP: readings: topic t, partition 1, offsets 3 to 7, were never read
          such as 5
        there is a gap
        ");
    }

    #[test]
    fn a_person_is_not_told_the_same_thing_a_thousand_times() {
        let text = render(&Report::of(vec![audit(State::Gap, 1_000)]));
        assert_eq!(text.matches("were never read").count(), MOST_FINDINGS);
        assert!(text.contains("980 more of offsets; --json has them all"), "{text}");
        assert!(text.ends_with("there are 1000 gaps"));
    }

    #[test]
    fn only_a_gap_is_incomplete() {
        for (state, complete) in [
            (State::Note, true),
            (State::Accepted, true),
            (State::Behind, true),
            (State::Gap, false),
        ] {
            assert_eq!(Report::of(vec![audit(state, 1)]).complete, complete, "{state}");
        }
    }
}
