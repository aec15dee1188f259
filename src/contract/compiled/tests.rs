//! What is compiled gives what the CEL library gives.

use std::path::Path;

use proptest::{collection::vec, prelude::*};
use time::OffsetDateTime;

use super::made_up::{any_event, anything, columns, params, result, truth};
use crate::{
    codec::{Cell, cells},
    contract::{
        Contract, Expression, Outcome,
        compile::Compiler,
        evaluate::{Library, execute},
        sample::samples,
    },
};

fn library() -> Library {
    Library::new(&params(), OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap())
}

/// What the compiled form gives for each event, none where there is none or it gives up, and what
/// the library gives, none where it fails. An error where no contract may have the expression.
fn both(source: &str, events: &[Vec<Cell<'_>>]) -> Result<Vec<[Option<String>; 2]>, Vec<String>> {
    let (library, columns) = (library(), columns());
    let names: Vec<_> = columns.iter().map(|column| column.name.clone()).collect();
    let expression = Expression::compile(source, &names, &params())?;
    let compiler = Compiler { columns: &columns, library: &library };
    let node = compiler.compile(expression.program.expression());
    let shown = |outcome: Option<Outcome<'_>>| outcome.map(|outcome| format!("{outcome:?}"));
    let one = |event: &Vec<Cell<'_>>| {
        let outcome = node.as_ref().and_then(|node| Outcome::of(node.evaluate(event)?));
        let seen = library.see(event, &columns, std::iter::once(&expression));
        [shown(outcome), shown(execute(&expression, &seen).ok().map(Outcome::from))]
    };
    Ok(events.iter().map(one).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_well_typed_expression_gives_what_the_library_gives_and_gives_up_where_it_fails(
        source in prop_oneof![truth(), result()],
        events in vec(any_event(), 8),
    ) {
        for (event, [compiled, expected]) in events.iter().zip(both(&source, &events).unwrap()) {
            prop_assert_eq!(compiled, expected, "{} of {:?}", source, event);
        }
    }

    #[test]
    fn any_expression_gives_what_the_library_gives_or_gives_up(
        source in anything(),
        events in vec(any_event(), 8),
    ) {
        for [compiled, expected] in both(&source, &events).unwrap_or_default() {
            prop_assert!(compiled.is_none() || compiled == expected, "{compiled:?}, not {expected:?}");
        }
    }
}

#[test]
fn what_only_the_library_can_tell_is_left_to_it() {
    let event = [vec![Cell::Null; columns().len()]];
    for source in [
        "message.d1 < 1.0",
        "message.l1 + 1 == 2",
        "size(message.t1) > 0",
        "params.limits[message.t1] == 1",
        "message.at1 > timestamp('9999-12-31T00:00:00Z') + duration('48h')",
        "[1].exists(x, x == message.i1)",
        "message.t1 == type(1)",
        "message",
    ] {
        assert_eq!(both(source, &event).unwrap()[0][0], None, "{source}");
    }
}

#[test]
fn every_expression_of_the_repositorys_contracts_is_compiled() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    for contract in Contract::read_all(&folder).unwrap() {
        let library = Library::new(&contract.params, OffsetDateTime::UNIX_EPOCH);
        let compiler = Compiler { columns: &contract.columns, library: &library };
        let checks = contract.rules.iter().map(|rule| &rule.check);
        for expression in checks.chain(contract.labels.iter().map(|label| &label.value)) {
            let place = format!("{}: {}", contract.stream, expression.source);
            let node = compiler.compile(expression.program.expression()).expect(&place);
            for event in samples(&contract.schema, contract.fields()) {
                let datum = node.evaluate(&cells(&event, &contract.columns));
                assert!(datum.and_then(Outcome::of).is_some(), "{place} gives up on {event:?}");
            }
        }
    }
}
