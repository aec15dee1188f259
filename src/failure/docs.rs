//! The tables of `docs/failures.md`, which are the code's own.

use super::{Kind, REASONS, kafka, postgres, registry};

const FAILURES: &str = include_str!("../../docs/failures.md");

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Record => "record",
            Kind::Dependency => "dependency",
            Kind::Contract => "contract",
        }
    }
}

/// A table in Markdown.
fn table(heads: &[&str], rows: Vec<Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let rule = vec!["---".to_owned(); heads.len()];
    [line(&heads), line(&rule)].into_iter().chain(rows.iter().map(|row| line(row))).collect()
}

fn reasons() -> String {
    let row = |(stage, code, means): &(super::Stage, &str, &str)| {
        let name = if code.ends_with(':') { "…" } else { "" };
        vec![stage.to_string(), format!("`{code}{name}`"), (*means).to_owned()]
    };
    table(&["stage", "reason", "what it means"], REASONS.iter().map(row).collect())
}

fn sqlstates() -> String {
    let row = |code: String, entry: &postgres::Sqlstate| {
        let (kind, means, remedy) = (entry.kind.name(), entry.means, entry.remedy);
        vec![code, kind.to_owned(), means.to_owned(), remedy.to_owned()]
    };
    let listed = postgres::SQLSTATES.iter().map(|entry| {
        let rest = if entry.code.len() == 2 { "xxx" } else { "" };
        row(format!("`{}{rest}`", entry.code), entry)
    });
    let placed = postgres::ROUTINES
        .iter()
        .map(|it| row(format!("`{}` from `{}`", it.entry.code, it.name), &it.entry));
    table(
        &["SQLSTATE", "kind", "what it means", "what a person does"],
        listed.chain(placed).collect(),
    )
}

fn kafka_codes() -> String {
    let row = |group: &kafka::Group| {
        let codes = group.codes.iter().map(|code| format!("{code:?}"));
        let codes = codes.collect::<Vec<_>>().join(", ");
        let (kind, means, remedy) = (group.kind.name(), group.means, group.remedy);
        vec![kind.to_owned(), means.to_owned(), remedy.to_owned(), codes]
    };
    let heads = ["kind", "what it means", "what a person does", "librdkafka's codes"];
    table(&heads, kafka::GROUPS.iter().map(row).collect())
}

fn answers() -> String {
    let row =
        |answer: &registry::Answer| vec![answer.kind.name().to_owned(), answer.means.to_owned()];
    table(&["kind", "answer"], registry::ANSWERS.iter().map(row).collect())
}

#[test]
fn the_documented_tables_are_the_codes_own() {
    let tables = [reasons(), sqlstates(), kafka_codes(), answers()];
    let missing: Vec<String> =
        tables.into_iter().filter(|table| !FAILURES.contains(table)).collect();
    assert!(missing.is_empty(), "docs/failures.md lacks:\n\n{}", missing.join("\n"));
}
