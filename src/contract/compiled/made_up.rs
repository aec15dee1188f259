//! Made-up expressions and events, for what is compiled to be tried on.

use apache_avro::{Decimal, types::Value};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{
    codec::{Cell, Instant},
    contract::{Column, ColumnType},
};

/// The types of the fields, by the letter that their names begin with; there are two of each.
const KINDS: [(&str, ColumnType); 11] = [
    ("b", ColumnType::Boolean),
    ("i", ColumnType::Integer),
    ("l", ColumnType::Bigint),
    ("f", ColumnType::Real),
    ("d", ColumnType::Double),
    ("t", ColumnType::Text),
    ("at", ColumnType::TimestampTz),
    ("day", ColumnType::Date),
    ("raw", ColumnType::Bytea),
    ("id", ColumnType::Uuid),
    ("sum", ColumnType::Numeric(Some((20, 4)))),
];

pub(super) fn columns() -> Vec<Column> {
    let column = |(name, kind): &(&str, ColumnType), number| Column {
        name: format!("{name}{number}"),
        kind: kind.clone(),
        nullable: true,
    };
    KINDS.iter().flat_map(|kind| [column(kind, 1), column(kind, 2)]).collect()
}

pub(super) fn params() -> Json {
    json!({
        "limits": {"a": 1, "b": 2.5, "": -3, "c": 1e300},
        "names": ["a", "b"], "numbers": [1, 2.5, -1], "zones": {"a": {"b": 7}},
        "name": "a", "least": i64::MIN, "most": 9_007_199_254_740_993_i64, "half": 0.5,
        "on": true, "none": null,
    })
}

/// A CEL expression's text.
pub(super) type Source = BoxedStrategy<String>;

/// Any number's field, literal or parameter.
fn number() -> Source {
    let literal = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        (-3..3_i64).prop_map(|number| number.to_string()),
        prop::num::f64::NORMAL.prop_map(|number| format!("{number:?}")),
        select(vec!["-0.0", "0.0", "2.5", "-1e6", "9007199254740992.0", "9223372036854775807"])
            .prop_map(str::to_owned),
    ];
    let fields = ["i1", "i2", "l1", "l2", "f1", "f2", "d1", "d2"];
    let params = ["params.least", "params.most", "params.half", "-params.half", "params.limits.b"];
    let keys = prop_oneof![5 => field(&["t1", "t2"]), 1 => Just("params.name".to_owned())];
    let limits = keys.prop_map(|key| format!("params.limits[{key}]"));
    prop_oneof![4 => field(&fields), 2 => literal, 1 => select(params.to_vec()).prop_map(str::to_owned), 1 => limits]
        .boxed()
}

fn text() -> Source {
    let others = ["''", "'a'", "'b'", "'c'", "'é'", "params.name", "params.names[1]"];
    prop_oneof![3 => field(&["t1", "t2"]), 1 => select(others.to_vec()).prop_map(str::to_owned)]
        .boxed()
}

fn instant() -> Source {
    let others = [
        "now",
        "now + duration('5m')",
        "now - duration('2h')",
        "duration('-1ns') + now",
        "timestamp('1970-01-01T00:00:00Z')",
        "timestamp('2016-12-31T23:59:59.999999999Z')",
    ];
    prop_oneof![
        3 => field(&["at1", "at2", "day1", "day2"]),
        1 => select(others.to_vec()).prop_map(str::to_owned),
    ]
    .boxed()
}

fn field(names: &[&str]) -> Source {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    (select(names), any::<bool>())
        .prop_map(|(name, dotted)| match dotted {
            true => format!("message.{name}"),
            false => format!("message['{name}']"),
        })
        .boxed()
}

/// Expressions that give a boolean, if no null or NaN is in their way.
pub(super) fn truth() -> Source {
    let order = select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let equality = select(vec!["==", "!="]);
    let pair = |kind: fn() -> Source| {
        (kind(), order.clone(), kind()).prop_map(|(left, is, right)| format!("{left} {is} {right}"))
    };
    let boolean = || field(&["b1", "b2"]);
    let any_field: Vec<String> = columns().into_iter().map(|column| column.name).collect();
    let any_field: Vec<&str> =
        any_field.iter().map(String::as_str).filter(|it| !it.starts_with("sum")).collect();
    let leaf = prop_oneof![
        6 => pair(number),
        2 => pair(text),
        3 => pair(instant),
        1 => (boolean(), order.clone(), boolean()).prop_map(|(a, is, b)| format!("{a} {is} {b}")),
        1 => boolean(),
        1 => select(vec!["true", "false", "params.on", "has(message.d1)", "has(params.name)", "1 < 2"])
            .prop_map(str::to_owned),
        2 => (field(&any_field), equality).prop_map(|(field, is)| format!("{field} {is} null")),
        1 => (number(), vec(-3..3_i64, 0..4)).prop_map(|(item, list)| format!("{item} in {list:?}")),
        1 => number().prop_map(|item| format!("{item} in params.numbers")),
        1 => text().prop_map(|item| format!("{item} in ['a', params.name, '']")),
        1 => field(&["t1"]).prop_map(|item| format!("{item} == null || {item} in params.limits")),
    ];
    leaf.prop_recursive(5, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|part| format!("!({part})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("({a}) ? ({b}) : ({c})")),
        ]
    })
    .boxed()
}

/// Expressions as labels have them.
pub(super) fn result() -> Source {
    let leaf = || prop_oneof![number(), text(), Just("null".to_owned())];
    let chosen = (truth(), leaf(), leaf()).prop_map(|(a, b, c)| format!("{a} ? {b} : {c}"));
    prop_oneof![
        leaf(),
        chosen.clone(),
        (truth(), leaf(), chosen).prop_map(|(a, b, c)| format!("{a} ? {b} : {c}"))
    ]
    .boxed()
}

/// Expressions whose types need not fit, of more than what is compiled.
pub(super) fn anything() -> Source {
    let any_field: Vec<String> = columns().into_iter().map(|column| column.name).collect();
    let any_field: Vec<&str> = any_field.iter().map(String::as_str).collect();
    let others = [
        "null",
        "1u",
        "b'a'",
        "[]",
        "['a', null, 1]",
        "{'a': 1}",
        "{1: 'a'}",
        "type(1)",
        "int",
        "params",
        "params.limits",
        "params.zones",
        "params.zones.a.b",
        "params.none",
        "duration('1h')",
        "message",
        "0.0 / 0.0",
        "1 / 0",
        "optional.of(1)",
    ];
    let alike = (select(KINDS.map(|(name, _)| name).to_vec()), select(vec!["==", "!=", "<="]))
        .prop_map(|(name, is)| format!("message.{name}1 {is} message.{name}2"));
    let leaf = prop_oneof![
        field(&any_field),
        alike,
        number(),
        text(),
        instant(),
        truth(),
        select(others.to_vec()).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        let operators = vec![
            "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in", "+", "-", "*", "/", "%",
        ];
        prop_oneof![
            6 => (inner.clone(), select(operators), inner.clone())
                .prop_map(|(a, is, b)| format!("({a}) {is} ({b})")),
            1 => inner.clone().prop_map(|part| format!("!({part})")),
            1 => inner.clone().prop_map(|part| format!("-({part})")),
            1 => inner.clone().prop_map(|part| format!("size({part})")),
            1 => inner.clone().prop_map(|part| format!("has(params.limits.a) && has(({part}).a)")),
            1 => inner.clone().prop_map(|part| format!("({part}).a")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}].exists(x, x == {b})")),
            1 => (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("({a}) ? ({b}) : ({c})")),
        ]
    })
    .boxed()
}

/// An event's cells in the order of the columns, the far ends more often than by chance.
pub(super) fn any_event() -> BoxedStrategy<Vec<Cell<'static>>> {
    let cells: Vec<_> = columns()
        .into_iter()
        .map(|column| option::weighted(0.85, any_cell(&column.kind)))
        .collect();
    cells
        .prop_map(|cells| cells.into_iter().map(|cell| cell.unwrap_or(Cell::Null)).collect())
        .boxed()
}

fn any_cell(kind: &ColumnType) -> BoxedStrategy<Cell<'static>> {
    let int = || prop_oneof![any::<i32>(), Just(i32::MIN), Just(i32::MAX), -3..3];
    // beyond 2^53 two longs may be one double
    let long = || {
        prop_oneof![
            any::<i64>(),
            select(vec![i64::MIN, i64::MAX, 9_007_199_254_740_993]),
            -3..3_i64
        ]
    };
    let near = 1_767_225_600_000 - 4_000_000..1_767_225_600_000 + 4_000_000_i64;
    match kind {
        ColumnType::Boolean => any::<bool>().prop_map(Cell::Boolean).boxed(),
        ColumnType::Integer => int().prop_map(Cell::Int).boxed(),
        ColumnType::Bigint => long().prop_map(Cell::Long).boxed(),
        ColumnType::Real => {
            prop_oneof![prop::num::f32::ANY, Just(2.5_f32)].prop_map(Cell::Float).boxed()
        }
        ColumnType::Double => {
            let some = vec![f64::NAN, f64::INFINITY, -0.0, 0.0, 2.5, 9_007_199_254_740_992.0];
            prop_oneof![prop::num::f64::ANY, select(some), (-3..3_i32).prop_map(f64::from)]
                .prop_map(Cell::Double)
                .boxed()
        }
        ColumnType::Text => select(vec!["", "a", "b", "c", "d", "é"]).prop_map(Cell::Text).boxed(),
        ColumnType::TimestampTz => prop_oneof![
            long().prop_map(Instant::Millis),
            near.prop_map(Instant::Millis),
            long().prop_map(Instant::Micros),
            long().prop_map(Instant::Nanos),
        ]
        .prop_map(Cell::Instant)
        .boxed(),
        ColumnType::Date => int().prop_map(Cell::Date).boxed(),
        ColumnType::Bytea => Just(Cell::Bytes(b"a")).boxed(),
        ColumnType::Uuid => Just(Cell::Uuid(Uuid::nil())).boxed(),
        _ => {
            let decimal: &'static Value = Box::leak(Box::new(Value::Decimal(Decimal::from([7]))));
            Just(Cell::Other(decimal)).boxed()
        }
    }
}
