//! The query that holds an aggregate against the rows bucket by bucket, and what it says.

use sqlx::Row as _;

use crate::{
    contract::{Aggregate, Column, ColumnType, Contract},
    sink::{aggregate_columns, recomputed},
    sql::{quoted, quoted_list},
};

/// How many buckets that differ are shown.
const MOST_SHOWN: i64 = 3;

/// How far a sum of floats may be off, as a share of what was added: its last digits depend on
/// the order.
const PRECISION: &str = "1e-9";

/// The columns of an aggregate that were added to a table that was there: all of a field whose first
/// number may be null, as `migrate` creates it only then; and the last value where it stands behind
/// the sum, before which `migrate` creates it. `columns` are the table's in their order, and whether
/// they must not be null.
pub(super) fn late(aggregate: &Aggregate, columns: &[(String, bool)]) -> Vec<String> {
    let place = |name: &str| columns.iter().position(|(column, _)| column == name);
    let not_null = |name: &str| columns.iter().any(|(column, set)| *set && column == name);
    let of_field = |of: &Column| {
        let name = |what: &str| format!("{}_{what}", of.name);
        let first = name(if of.nullable { "count" } else { "sum" });
        let late: &[&str] = match () {
            () if !not_null(&first) => &["count", "last", "last_at", "sum", "min", "max"],
            () if place(&name("last")) > place(&name("sum")) => &["last", "last_at"],
            () => &[],
        };
        late.iter().map(|what| name(what)).collect::<Vec<_>>()
    };
    let late = aggregate.of.iter().flat_map(of_field);
    late.filter(|column| place(column).is_some()).collect()
}

/// The query whose rows [`described`] reads: for the first buckets that differ the number of all
/// that do, whether they are kept and made, then the keys, and which columns differ with what is
/// kept and what the rows make.
pub(super) fn differing(contract: &Contract, aggregate: &Aggregate, late: &[String]) -> String {
    let columns = aggregate_columns(aggregate);
    let (keys, sums) = columns.split_at(columns.len().min(aggregate.by.len() + 1));
    let key = numbered("k", keys.len());
    let value = numbered("v", sums.len());
    let sides: Vec<String> = (0..sums.len())
        .map(|n| {
            format!(
                "max(v{n}) FILTER (WHERE kept) AS a{n}, max(v{n}) FILTER (WHERE NOT kept) AS b{n}"
            )
        })
        .collect();
    let differs: Vec<String> = (0..sums.len())
        .map(|n| if is_late(sums, n, late) { "false".to_owned() } else { differs(sums, n) })
        .collect();
    let texts = |side: &str, count: usize| {
        let texts: Vec<String> = (0..count).map(|n| format!("{side}{n}::text")).collect();
        format!("ARRAY[{}]::text[]", texts.join(", "))
    };
    format!(
        "WITH either ({key}, {value}, kept) AS (\
           SELECT {names}, true FROM {table} \
           UNION ALL SELECT made.*, false FROM ({recomputed}) AS made), \
         bucket AS (\
           SELECT {key}, {sides}, count(*) FILTER (WHERE kept) AS kept, \
           count(*) FILTER (WHERE NOT kept) AS made FROM either GROUP BY {key}), \
         judged AS (SELECT *, ARRAY[{differs}] AS differs FROM bucket) \
         SELECT count(*) OVER (), kept, made, differs, {keys}, {kept}, {remade} FROM judged \
         WHERE kept <> 1 OR made <> 1 OR true = ANY (differs) ORDER BY {key} LIMIT {MOST_SHOWN}",
        names = quoted_list(columns.iter().map(|column| column.name.as_str())),
        table = quoted(&aggregate.table),
        recomputed = recomputed(contract, aggregate),
        sides = sides.join(", "),
        differs = differs.join(", "),
        keys = texts("k", keys.len()),
        kept = texts("a", sums.len()),
        remade = texts("b", sums.len()),
    )
}

/// How many buckets differ, and the first of them in words.
pub(super) fn described(
    aggregate: &Aggregate,
    rows: &[sqlx::postgres::PgRow],
) -> sqlx::Result<(i64, Vec<String>)> {
    let columns = aggregate_columns(aggregate);
    let (keys, sums) = columns.split_at(columns.len().min(aggregate.by.len() + 1));
    let mut total = 0;
    let mut first = Vec::new();
    for row in rows {
        total = row.try_get(0)?;
        let (kept, made): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
        let differs: Vec<bool> = row.try_get(3)?;
        let key: Vec<Option<String>> = row.try_get(4)?;
        let sides: (Vec<Option<String>>, Vec<Option<String>>) = (row.try_get(5)?, row.try_get(6)?);
        let key: Vec<String> = keys.iter().zip(key).map(|(c, text)| pair(&c.name, text)).collect();
        let what = match (kept, made) {
            (0, _) => "is missing".to_owned(),
            (_, 0) => "is kept, and no row of the table falls into it".to_owned(),
            (1, _) => unequal(sums, &differs, sides),
            (kept, _) => format!("is kept {kept} times"),
        };
        first.push(format!("{}: {what}", key.join(", ")));
    }
    Ok((total, first))
}

fn unequal(
    sums: &[Column],
    differs: &[bool],
    (kept, made): (Vec<Option<String>>, Vec<Option<String>>),
) -> String {
    let text = |text: Option<String>| text.unwrap_or_else(|| "null".to_owned());
    let sides = kept.into_iter().zip(made).zip(differs).zip(sums);
    sides
        .filter(|((_, differs), _)| **differs)
        .map(|(((kept, made), _), column)| {
            format!("{} is {}, the rows make {}", column.name, text(kept), text(made))
        })
        .collect::<Vec<_>>()
        .join("; ")
}

fn pair(name: &str, value: Option<String>) -> String {
    format!("{name} {}", value.unwrap_or_else(|| "null".to_owned()))
}

fn numbered(letter: &str, count: usize) -> String {
    (0..count).map(|n| format!("{letter}{n}")).collect::<Vec<_>>().join(", ")
}

fn is_late(sums: &[Column], n: usize, late: &[String]) -> bool {
    sums.get(n).is_some_and(|column| late.contains(&column.name))
}

/// Whether a column's kept value (`a`) is another than the one that was made (`b`). NaN is equal to
/// itself here, as everywhere in Postgres.
fn differs(sums: &[Column], n: usize) -> String {
    let distinct = format!("a{n} IS DISTINCT FROM b{n}");
    let bounds = sums.get(n).filter(|sum| sum.kind == ColumnType::Double).and_then(|sum| {
        let of = sum.name.strip_suffix("_sum")?;
        let place = |what: &str| {
            let name = format!("{of}_{what}");
            sums.iter().position(|sum| sum.name == name)
        };
        Some((place("min")?, place("max")?))
    });
    let Some((min, max)) = bounds else { return distinct };
    // numbers of both signs may leave next to nothing of what was added, so that is what counts;
    // as numeric nothing overflows
    format!(
        "CASE WHEN NOT {distinct} THEN false \
         WHEN abs(a{n}) < 'Infinity' AND abs(b{n}) < 'Infinity' \
         THEN abs(a{n}::numeric - b{n}::numeric) \
         > {PRECISION} * b0 * greatest(abs(b{min}::numeric), abs(b{max}::numeric)) \
         ELSE true END"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The late columns of a table with these columns, of which those with a `!` must not be null.
    fn late_of(columns: &str) -> String {
        let column = |name: &str, nullable| {
            let name = name.to_owned();
            Column { name, kind: ColumnType::Double, nullable }
        };
        let every = serde_json::from_str("\"1m\"").unwrap();
        let of = vec![column("a", false), column("b", true)];
        let aggregate =
            Aggregate { table: "agg".into(), every, by: Vec::new(), of, declared: true };
        let columns = columns
            .split(' ')
            .map(|column| (column.trim_end_matches('!').to_owned(), column.ends_with('!')));
        late(&aggregate, &columns.collect::<Vec<_>>()).join(" ")
    }

    #[test]
    fn columns_that_a_table_got_later_are_told_by_null_and_place() {
        let a = "a_last! a_last_at! a_sum! a_min! a_max!";
        let b = "b_count! b_last b_last_at b_sum b_min b_max";
        assert_eq!(late_of(&format!("minute! count! {a} {b}")), "");
        // in which order the fields are is all the same
        assert_eq!(late_of(&format!("minute! count! {b} {a}")), "");
        let b_later = b.replace('!', "");
        assert_eq!(late_of(&format!("minute! count! {a} {b_later}")), b_later);
        let before = "a_sum! a_min! a_max! b_count! b_sum b_min b_max";
        let last = "a_last a_last_at b_last b_last_at";
        assert_eq!(late_of(&format!("minute! count! {before} {last}")), last);
        let before = "a_sum! a_min! a_max!";
        let later = late_of(&format!("minute! count! {before} a_last a_last_at {b_later}"));
        assert_eq!(later, format!("a_last a_last_at {b_later}"));
    }
}
