//! What would change, for a terminal.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::report::{Example, LabelChanges, Refusals, Report};
use crate::dlq::{cut, minute};

/// A report in lines of at most so many characters.
pub fn render(report: &Report, width: usize) -> String {
    let mut lines = vec![heading(report)];
    let unreadable: u64 = report.unreadable_rows.values().sum();
    if unreadable > 0 {
        lines.push(format!("rows that can't be turned back into events: {unreadable}"));
        lines.extend(report.unreadable_rows.iter().map(|(field, count)| entry(*count, field)));
    }
    rows(report, &mut lines);
    labels(report, &mut lines);
    letters("dead letters that would pass", &report.passing_letters, &mut lines);
    let untried = "dead letters that would pass, if the table takes them";
    if !report.untried_letters.is_empty() {
        letters(untried, &report.untried_letters, &mut lines);
    }
    letters("dead letters that would still fail", &report.failing_letters, &mut lines);
    lines.iter().map(|line| format!("{}\n", cut(line, width))).collect()
}

fn heading(report: &Report) -> String {
    let until = report.until.map(|until| format!(" until {}", minute(until))).unwrap_or_default();
    let all = if report.rows_have_time { "" } else { " of all times" };
    format!(
        "{} since {}{until} UTC: {} rows{all}, {} dead letters",
        report.stream,
        minute(report.since),
        report.rows,
        report.letters
    )
}

fn rows(report: &Report, lines: &mut Vec<String>) {
    let all: u64 = report.refused_rows.values().map(|refusals| refusals.count).sum();
    lines.push(format!("rows that would be refused: {all}"));
    for (reason, Refusals { count, examples }) in &report.refused_rows {
        lines.push(entry(*count, reason));
        lines.extend(examples.iter().map(example));
    }
}

fn labels(report: &Report, lines: &mut Vec<String>) {
    let all: u64 = report.labels.values().map(|changes| changes.count).sum();
    lines.push(format!("labels that would change: {all}"));
    for (label, LabelChanges { changes, others, .. }) in &report.labels {
        for change in changes {
            lines.push(entry(change.count, &format!("{label}: {} -> {}", change.from, change.to)));
            lines.extend(change.examples.iter().map(example));
        }
        if *others > 0 {
            lines.push(entry(*others, &format!("{label}: otherwise")));
        }
    }
}

fn letters(what: &str, counts: &BTreeMap<String, u64>, lines: &mut Vec<String>) {
    lines.push(format!("{what}: {}", counts.values().sum::<u64>()));
    lines.extend(counts.iter().map(|(reason, count)| entry(*count, reason)));
}

fn entry(count: u64, what: &str) -> String {
    format!("  {count:>8}  {what}")
}

fn example(example: &Example) -> String {
    let fields = example.reads.as_object().into_iter().flatten();
    let fields = fields.map(|(name, value)| match value {
        Json::String(text) => format!(" {name}={text}"),
        other => format!(" {name}={other}"),
    });
    format!("            {}{}", example.id, fields.collect::<String>())
}

#[cfg(test)]
mod tests {
    use apache_avro::types::Value;
    use serde_json::json;
    use time::macros::datetime;

    use super::{
        super::{Options, report::Report},
        render,
    };
    use crate::{
        contract::{Contract, Scope},
        label::Fact,
    };

    fn contract(private: &[&str]) -> Contract {
        let schema = json!({
            "type": "record", "name": "Reading",
            "sluicegate": {
                "private": private,
                "rules": [
                    {"name": "small", "check": "message.value < 10.0"},
                    {"name": "known", "check": "{'d1': true}[message.device]"},
                ],
                "labels": [{"name": "size", "type": "double", "value": "message.value * 2.0"}],
            },
            "fields": [
                {"name": "event_id", "type": "string"},
                {"name": "device", "type": "string"},
                {"name": "value", "type": ["null", "double"]},
            ],
        });
        let schema = schema
            .to_string()
            .replace("message.value <", "message.value == null || message.value <");
        let schema =
            schema.replace("message.value *", "message.value == null ? 0.0 : message.value *");
        Contract::parse("readings.avsc".as_ref(), schema).unwrap()
    }

    fn report(
        contract: &Contract,
        values: impl Iterator<Item = (&'static str, f64, Fact<'static>)>,
    ) -> Report {
        let options = Options { since: datetime!(2026-05-01 12:00 UTC), until: None, examples: 2 };
        let mut report = Report::new(contract, &options);
        let scope = Scope::new(contract, datetime!(2026-05-02 12:00 UTC));
        for (number, (device, value, stored)) in values.enumerate() {
            let id = format!("event-{number}");
            let event = [
                ("event_id".to_owned(), Value::String(id.clone())),
                ("device".to_owned(), Value::String(device.into())),
                ("value".to_owned(), Value::Union(1, Box::new(Value::Double(value)))),
            ];
            report.row(contract, &scope, id, &event, &[stored]);
        }
        report
    }

    #[test]
    fn every_change_is_counted_and_some_are_shown() {
        let contract = contract(&[]);
        let long = "d2-with-a-name-that-is-so-long-that-no-line-of-a-terminal-has-room-for-it";
        let mut report = report(
            &contract,
            [
                ("d1", 1.0, Fact::Double(2.0)),
                ("d1", 2.0, Fact::Double(3.0)),
                ("d1", 2.0, Fact::Null),
                ("d1", 12.0, Fact::Null),
                ("d1", 13.0, Fact::Null),
                ("d1", 14.0, Fact::Null),
                (long, 5.0, Fact::Double(10.0)),
            ]
            .into_iter(),
        );
        report.unreadable_row("nested".into());
        insta::assert_snapshot!(render(&report, 80), @r#"
        readings since 2026-05-01 12:00 UTC: 8 rows of all times, 0 dead letters
        rows that can't be turned back into events: 1
                 1  nested
        rows that would be refused: 4
                 3  rule:small
                    event-3 value=12.0
                    event-4 value=13.0
                 1  rule_error:known
                    event-6 device=d2-with-a-name-that-is-so-long-that-no-line-of-a-ter…
        labels that would change: 2
                 1  size: 3.0 -> 4.0
                    event-1 value=2.0
                 1  size: null -> 4.0
                    event-2 value=2.0
        dead letters that would pass: 0
        dead letters that would still fail: 0
        "#);
    }

    #[test]
    fn a_label_with_ever_other_values_takes_only_so_much_room() {
        let contract = contract(&[]);
        let values = (0..1_000).map(|n| ("d1", f64::from(n) / 1_000.0, Fact::Double(-1.0)));
        let report = report(&contract, values);
        let changes = &report.labels["size"];
        assert_eq!((changes.count, changes.changes.len(), changes.others), (1_000, 20, 980));
    }

    #[test]
    fn a_private_value_is_in_no_example_and_in_no_label_made_of_it() {
        let contract = contract(&["value", "device"]);
        let values = [
            ("hunter2", 5.125, Fact::Null),
            ("d1", 6.125, Fact::Double(7.125)),
            ("d1", 76.125, Fact::Null),
        ];
        let report = report(&contract, values.into_iter());
        let text = render(&report, 80) + &serde_json::to_string(&report).unwrap();
        assert!(text.contains("***"), "{text}");
        for secret in ["hunter2", ".125", ".25"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
