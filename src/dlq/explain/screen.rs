//! An explanation for a person.

use super::{Body, Constraint, Explanation, Expression, Header, Today, Written};
use crate::{
    dlq::{
        hexdump::{around, hexdump},
        screen::Screen,
        show::head,
    },
    registry::Difference,
};

/// An explanation for a terminal of that many columns.
pub fn render_explanation(explanation: &Explanation, width: usize) -> String {
    let Explanation { letter, header, schema, body, expression, constraint, today } = explanation;
    let mut screen = Screen::new(width);
    head(letter, &mut screen);
    match header {
        Header::SchemaId(id) => screen.entry("header", &format!("magic byte 0, schema id {id}")),
        Header::Wrong(said) => {
            screen.entry("header", said);
            let payload = letter.payload.as_deref().unwrap_or_default();
            screen.lines(&hexdump(payload, 0..2, None));
        }
    }
    if let Some(schema) = schema {
        render_schema(schema, &mut screen);
    }
    if let Some(body) = body {
        render_body(body, letter.payload.as_deref().unwrap_or_default(), &mut screen);
    }
    match (&letter.decoded, body) {
        (Some(event), _) => screen.json("event", event),
        (None, Some(Body { event, stops_at: None, read_with_ours: false, .. })) => {
            screen.json("event, as it was written", event);
        }
        (None, Some(body)) => screen.json("event, as far as it goes", &body.event),
        (None, None) => {}
    }
    if let Some(expression) = expression {
        render_expression(expression, &mut screen);
    }
    if let Some(Constraint { name, definition }) = constraint {
        let definition = definition.as_deref().unwrap_or("the table has it no more");
        screen.entry("constraint", &format!("{name}: {definition}"));
    }
    render_today(today, letter.id, &mut screen);
    screen.text()
}

fn render_schema(schema: &Written, screen: &mut Screen) {
    if let Some(unknown) = &schema.unknown {
        return screen.entry("schema", unknown);
    }
    match &schema.subjects {
        None => screen.entry("schema", "the registry does not say of which subject"),
        Some(subjects) => {
            for subject in subjects {
                let text = format!("{}, version {}", subject.subject, subject.version);
                screen.entry("schema", &text);
            }
        }
    }
    if schema.is_ours {
        screen.entry("", "says the same as ours");
    }
    for difference in &schema.differences {
        screen.entry("", &worded(difference));
    }
    for problem in &schema.incompatibilities {
        screen.entry("unreadable", problem);
    }
}

fn worded(difference: &Difference) -> String {
    match difference {
        Difference::OnlyWriter { field, written } => {
            format!("only the writer's: {field} ({written})")
        }
        Difference::OnlyReader { field, read, default: Some(default) } => {
            format!("only ours: {field} ({read}), {default} where it is not written")
        }
        Difference::OnlyReader { field, read, default: None } => {
            format!("only ours: {field} ({read}), without a default")
        }
        Difference::OtherType { field, written, read } => {
            format!("of another type: {field}, written as {written}, read as {read}")
        }
    }
}

fn render_body(body: &Body, payload: &[u8], screen: &mut Screen) {
    if body.read_with_ours {
        screen.entry("bytes", "read with our schema in place of the writer's, which may mislead");
    }
    let Some(at) = body.stops_at else { return };
    let place = match body.path.as_str() {
        "" => "behind the event".to_owned(),
        path => format!("in {path}"),
    };
    screen.entry("stops", &format!("at byte {at}, {place}: {}", body.said));
    screen.lines(&hexdump(payload, around(at), Some(at)));
}

fn render_expression(expression: &Expression, screen: &mut Screen) {
    let Expression { name, source, params, values } = expression;
    let source = source.as_deref().unwrap_or("the contract has it no more");
    screen.entry("rule", &format!("{name}: {source}"));
    for (name, value) in values.iter().chain(params) {
        screen.entry("", &format!("{name} = {value}"));
    }
}

fn render_today(today: &Today, id: i64, screen: &mut Screen) {
    match today {
        Today::Landed => screen.entry("today", "it has landed"),
        Today::Passes => {
            screen.entry("today", "decode, rules and labels let it pass; only the table can tell");
            screen.entry("", "whether it takes it, and this tries:");
            screen.entry("", &format!("sluicegate dlq replay --id {id} --dry-run"));
        }
        Today::Refused { stage, reason, detail } => {
            screen.entry("today", &format!("it would be refused: {reason} ({stage})"));
            screen.entry("", detail);
        }
        Today::Unknown(why) => {
            screen.entry("today", "it is not known whether it would pass:");
            screen.entry("", why);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        dlq::{Letter, Shown, show::tests::letter},
        registry::SubjectVersion,
    };

    /// An explanation of a letter with nothing but the letter in it.
    fn plain(letter: Letter) -> Explanation {
        Explanation {
            letter: Shown::new(letter, None, Vec::new()),
            header: Header::SchemaId(7),
            schema: None,
            body: None,
            expression: None,
            constraint: None,
            today: Today::Landed,
        }
    }

    fn rendered(explanation: &Explanation) -> String {
        let screen = render_explanation(explanation, 80);
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
        screen
    }

    #[test]
    fn a_rule_is_shown_with_what_it_saw() {
        let values = vec![("message.note".to_owned(), json!("long ".repeat(30)))];
        let refused = Today::Refused {
            stage: "check",
            reason: "rule:value_is_plausible".into(),
            detail: "does not hold".into(),
        };
        let explanation = Explanation {
            expression: Some(Expression {
                name: "value_is_plausible".into(),
                source: Some("message.note != params.note".into()),
                params: vec![("params.note".into(), json!({"a": [1, 2.5, null]}))],
                values,
            }),
            today: refused,
            ..plain(letter())
        };
        insta::assert_snapshot!(rendered(&explanation), @r#"
        letter      17, parked
        stream      device_telemetry
        record      device.telemetry, partition 2, offset 91
        reason      rule:value_is_plausible (check)
        detail      does not hold: message.value > -1e6 && message.value > -1e6 &&
                    message.value > -1e6 && message.value > -1e6 &&
        header      magic byte 0, schema id 7
        event
        {
          "device": "d-17",
          "note": "long long long long long long long long long long long long long lon…
          "value": 1000000000.0
        }
        rule        value_is_plausible: message.note != params.note
                    message.note = "long long long long long long long long long long
                    long long long long long long long long long long long long long
                    long long long long long long long "
                    params.note = {"a":[1,2.5,null]}
        today       it would be refused: rule:value_is_plausible (check)
                    does not hold
        "#);
    }

    #[test]
    fn schemas_are_shown_by_how_they_differ() {
        let field = |name: &str| name.to_owned();
        let default = Some(json!(0));
        let differences = vec![
            Difference::OnlyWriter { field: field("firmware"), written: "string".into() },
            Difference::OnlyReader { field: field("zone"), read: "string".into(), default: None },
            Difference::OnlyReader { field: field("level"), read: "int".into(), default },
            Difference::OtherType {
                field: field("place.value"),
                written: "float".into(),
                read: "null or double".into(),
            },
        ];
        let subject = |name: &str, version| SubjectVersion { subject: name.into(), version };
        let explanation = Explanation {
            schema: Some(Written {
                unknown: None,
                subjects: Some(vec![subject("a-value", 1), subject(&"b".repeat(90), 12)]),
                is_ours: false,
                differences,
                incompatibilities: vec!["\"zone\": not written, and without a default".into()],
            }),
            constraint: Some(Constraint { name: "is_possible".into(), definition: None }),
            today: Today::Passes,
            ..plain(Letter { decoded: None, ..letter() })
        };
        insta::assert_snapshot!(rendered(&explanation), @r#"
        letter      17, parked
        stream      device_telemetry
        record      device.telemetry, partition 2, offset 91
        reason      rule:value_is_plausible (check)
        detail      does not hold: message.value > -1e6 && message.value > -1e6 &&
                    message.value > -1e6 && message.value > -1e6 &&
        header      magic byte 0, schema id 7
        schema      a-value, version 1
        schema      bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
                    bbbbbbbbbbbbbbbbbbbbbb, version 12
                    only the writer's: firmware (string)
                    only ours: zone (string), without a default
                    only ours: level (int), 0 where it is not written
                    of another type: place.value, written as float, read as null or
                    double
        unreadable  "zone": not written, and without a default
        constraint  is_possible: the table has it no more
        today       decode, rules and labels let it pass; only the table can tell
                    whether it takes it, and this tries:
                    sluicegate dlq replay --id 17 --dry-run
        "#);
    }

    #[test]
    fn a_registry_that_does_not_say_of_which_subject_a_schema_is_leaves_that_open() {
        let schema = Written {
            unknown: None,
            subjects: None,
            is_ours: true,
            differences: Vec::new(),
            incompatibilities: Vec::new(),
        };
        let screen = rendered(&Explanation { schema: Some(schema), ..plain(letter()) });
        let told =
            "the registry does not say of which subject\n            says the same as ours\n";
        assert!(screen.contains(told), "{screen}");
    }

    #[test]
    fn bytes_are_shown_around_the_one_where_they_stop() {
        let explanation = Explanation {
            schema: Some(Written {
                unknown: Some("the schema registry is away: no route".into()),
                subjects: None,
                is_ours: false,
                differences: Vec::new(),
                incompatibilities: Vec::new(),
            }),
            body: Some(Body {
                read_with_ours: true,
                event: json!({"device": "d-17"}),
                stops_at: Some(100),
                path: "places[2].zone".into(),
                said: "a string is not UTF-8".into(),
            }),
            today: Today::Unknown("the registry can't be asked".into()),
            ..plain(Letter { decoded: None, ..letter() })
        };
        insta::assert_snapshot!(rendered(&explanation), @r#"
        letter      17, parked
        stream      device_telemetry
        record      device.telemetry, partition 2, offset 91
        reason      rule:value_is_plausible (check)
        detail      does not hold: message.value > -1e6 && message.value > -1e6 &&
                    message.value > -1e6 && message.value > -1e6 &&
        header      magic byte 0, schema id 7
        schema      the schema registry is away: no route
        bytes       read with our schema in place of the writer's, which may mislead
        stops       at byte 100, in places[2].zone: a string is not UTF-8
        00000040  62 63 00 00 ff 61 62 63  00 00 ff 61 62 63 00 00  |bc...abc...abc..|
        00000050  ff 61 62 63 00 00 ff 61  62 63 00 00 ff 61 62 63  |.abc...abc...abc|
        00000060  00 00 ff 61 62 63 00 00  ff 61 62 63 00 00 ff 61  |...abc...abc...a|
                              ^^
        00000070  62 63 00 00 ff 61 62 63  00 00 ff 61 62 63 00 00  |bc...abc...abc..|
        event, as far as it goes
        {
          "device": "d-17"
        }
        today       it is not known whether it would pass:
                    the registry can't be asked
        "#);
    }

    #[test]
    fn a_value_without_a_header_is_shown_by_its_first_bytes() {
        let payload = Some(b"{\"device\": 17}".to_vec());
        let explanation = Explanation {
            header: Header::Wrong("the value begins with byte 0x7b".into()),
            ..plain(Letter { payload, decoded: None, ..letter() })
        };
        insta::assert_snapshot!(rendered(&explanation), @r#"
        letter      17, parked
        stream      device_telemetry
        record      device.telemetry, partition 2, offset 91
        reason      rule:value_is_plausible (check)
        detail      does not hold: message.value > -1e6 && message.value > -1e6 &&
                    message.value > -1e6 && message.value > -1e6 &&
        header      the value begins with byte 0x7b
        00000000  7b 22 64 65 76 69 63 65  22 3a 20 31 37 7d        |{"device": 17}|
        today       it has landed
        "#);
    }
}
