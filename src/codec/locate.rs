//! Where in a body decoding stops, and the event as far as it goes.
//!
//! The walk is the one of `measure`; what that leaves to apache-avro, the bytes of a single value, is
//! asked of it value by value. So the first byte that is wrong is found, where the reason of a dead
//! letter may be a later one: a length, or the body's end.

use apache_avro::{Schema, reader::datum::GenericDatumReader, schema::ResolvedSchema};
use serde_json::{Map, Value as Json};

use super::{
    bounded,
    json::value_to_json,
    measure::TRUNCATED,
    undecodable,
    walk::{Company, Part, Stop, Walk},
};

/// What is said of a number without an end, which is all that the walk itself calls malformed.
const MALFORMED: &str = "a number has more bytes than any number";

/// What can be read of a body.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    /// The event as its writer's schema has it, as far as it goes.
    pub event: Json,
    /// Where decoding stops; none where the whole body is an event.
    pub stop: Option<Stopped>,
}

/// Where decoding stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The first byte of the value that can't be decoded.
    pub offset: usize,
    /// The field that it is of, as `a.b[2]`; nothing behind the event.
    pub path: String,
    /// What is wrong with it.
    pub said: String,
}

/// Goes through a body that was written with `schema`; nothing where that can't be gone through.
pub fn locate(schema: &Schema, body: &[u8]) -> Option<Located> {
    bounded(schema).ok()?;
    let resolved = ResolvedSchema::new(schema).ok()?;
    let witness =
        Witness { resolved: &resolved, parts: vec![(Step::Root, Json::Null)], said: None };
    let mut walk = Walk::new(resolved.get_names(), body, witness);
    let ended = walk.value(schema, None);
    let at = |left: usize| body.len().saturating_sub(left);
    let (rest, left) = (walk.rest.len(), walk.left);
    let mut witness = walk.company;
    let stop = match ended {
        Ok(()) if rest == 0 => None,
        Ok(()) => Some(Stopped {
            offset: at(rest),
            path: String::new(),
            said: format!("{rest} bytes are left over behind the event"),
        }),
        Err(stop) => {
            let said = match stop {
                Stop::Truncated => TRUNCATED.to_owned(),
                Stop::Length(said) => said,
                Stop::NoBranch(index) => format!("{index} is no branch of its union"),
                Stop::NoSymbol(index) => format!("{index} is no symbol of its enum"),
                Stop::Malformed => witness.said.take().unwrap_or_else(|| MALFORMED.to_owned()),
            };
            Some(Stopped { offset: at(left), path: witness.path(), said })
        }
    };
    Some(Located { event: witness.event(), stop })
}

/// Who keeps what the walk goes through.
struct Witness<'s> {
    resolved: &'s ResolvedSchema<'s>,
    /// From the whole down to where the walk is, each with what is known of it.
    parts: Vec<(Step, Json)>,
    said: Option<String>,
}

enum Step {
    Root,
    Field(String),
    Item(usize),
    Entry(String),
}

impl Company for Witness<'_> {
    fn open(&mut self, schema: &Schema) {
        if let Some((_, value)) = self.parts.last_mut() {
            *value = match schema {
                Schema::Array(_) => Json::Array(Vec::new()),
                _ => Json::Object(Map::new()),
            };
        }
    }

    fn enter(&mut self, part: Part<'_>) {
        let items = match self.parts.last() {
            Some((_, Json::Array(items))) => items.len(),
            _ => 0,
        };
        let step = match part {
            Part::Field(name) => Step::Field(name.to_owned()),
            Part::Item => Step::Item(items),
            Part::Entry(key) => Step::Entry(String::from_utf8_lossy(key).into_owned()),
        };
        self.parts.push((step, Json::Null));
    }

    fn leave(&mut self) {
        let Some((step, value)) = self.parts.pop() else { return };
        match (self.parts.last_mut(), step) {
            (Some((_, Json::Array(items))), _) => items.push(value),
            (Some((_, Json::Object(members))), Step::Field(name) | Step::Entry(name)) => {
                _ = members.insert(name, value);
            }
            _ => {}
        }
    }

    fn leaf(&mut self, schema: &Schema, bytes: &[u8]) -> Result<(), Stop> {
        let mut rest = bytes;
        let reader = GenericDatumReader::builder(schema).build();
        match reader.and_then(|reader| reader.read_value(&mut rest)) {
            Ok(value) => {
                let json = value_to_json(self.resolved, schema, &value);
                if let Some((_, value)) = self.parts.last_mut() {
                    *value = json;
                }
                Ok(())
            }
            Err(error) => {
                self.said = Some(undecodable(error).detail);
                Err(Stop::Malformed)
            }
        }
    }
}

impl Witness<'_> {
    fn path(&self) -> String {
        let mut path = String::new();
        for (step, _) in &self.parts {
            match step {
                Step::Root => {}
                Step::Field(name) if path.is_empty() => path.push_str(name),
                Step::Field(name) => path.extend([".", name]),
                Step::Item(index) => path.push_str(&format!("[{index}]")),
                Step::Entry(key) => path.push_str(&format!("[{key:?}]")),
            }
        }
        path
    }

    /// The whole, with the parts that the walk was in.
    fn event(mut self) -> Json {
        while self.parts.len() > 1 {
            match self.parts.last() {
                // nothing of it is known
                Some((_, Json::Null)) => _ = self.parts.pop(),
                _ => self.leave(),
            }
        }
        self.parts.pop().map_or(Json::Null, |(_, event)| event)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::codec::WriterSchema;

    fn schema() -> Schema {
        let place = json!({"type": "record", "name": "Place", "fields": [
            {"name": "zone", "type": "string"},
            {"name": "level", "type": ["null", "int"]},
        ]});
        let fields = json!([
            {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
            {"name": "places", "type": {"type": "array", "items": place}},
            {"name": "tags", "type": {"type": "map", "values": "boolean"}},
            {"name": "home", "type": "Place"},
            {"name": "way", "type": {"type": "enum", "name": "Way", "symbols": ["up", "down"]}},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "value", "type": "double"},
        ]);
        Schema::parse(&json!({"type": "record", "name": "R", "fields": fields})).unwrap()
    }

    /// The parts of a body, one a value or a count.
    fn parts() -> Vec<Vec<u8>> {
        let text = |text: &str| [&[text.len() as u8 * 2], text.as_bytes()].concat();
        vec![
            text(ID),
            vec![4],
            text("a"),
            vec![0],
            text("b"),
            vec![2, 8],
            vec![0],
            vec![2],
            text("hot"),
            vec![1],
            vec![0],
            text("c"),
            vec![2, 8],
            vec![2],
            vec![0],
            1.5_f64.to_le_bytes().to_vec(),
        ]
    }

    const ID: &str = "00000000-0000-0000-0000-000000000007";

    fn body(parts: &[Vec<u8>]) -> Vec<u8> {
        parts.concat()
    }

    #[test]
    fn a_whole_event_is_read_to_its_end() {
        let located = locate(&schema(), &body(&parts())).unwrap();
        assert_eq!(located.stop, None);
        insta::assert_snapshot!(located.event, @r#"{"at":"1970-01-01T00:00:00Z","home":{"level":4,"zone":"c"},"id":"00000000-0000-0000-0000-000000000007","places":[{"level":null,"zone":"a"},{"level":4,"zone":"b"}],"tags":{"hot":true},"value":1.5,"way":"down"}"#);
    }

    #[test]
    fn what_can_not_be_decoded_is_found_by_its_byte_and_its_field() {
        let spoiled = |part: usize, bytes: &[u8]| {
            let mut parts = parts();
            parts[part] = bytes.to_vec();
            body(&parts)
        };
        let ends_at = |part: usize| body(&parts()[..part]);
        let whole = body(&parts());
        let cases = [
            ("no text", spoiled(2, &[4, 0xff, 0xfe])),
            ("no branch", spoiled(5, &[6])),
            ("no boolean", spoiled(9, &[7])),
            ("no length", spoiled(11, &[1])),
            ("long int", spoiled(12, &[2, 0xff, 0xff, 0xff, 0xff, 0x7f])),
            ("no symbol", spoiled(13, &[8])),
            ("no count", spoiled(6, &[0xff; 11])),
            ("no uuid", [&[4], &b"xx"[..]].concat()),
            ("no bytes", Vec::new()),
            ("ends in an array", ends_at(4)),
            ("ends behind it", ends_at(7)),
            ("ends in the last value", whole[..whole.len() - 1].to_vec()),
            ("goes on", [&whole[..], b"more"].concat()),
        ];
        let line = |(name, body): &(&str, Vec<u8>)| {
            let Stopped { offset, path, said } = locate(&schema(), body).unwrap().stop.unwrap();
            format!("{name:<22} {offset:>3} {path:<15} {said}")
        };
        let lines = cases.iter().map(line).collect::<Vec<_>>().join("\n");
        insta::assert_snapshot!(lines, @r#"
        no text                 38 places[0].zone  a string is not UTF-8
        no branch               43 places[1].level 3 is no branch of its union
        no boolean              51 tags["hot"]     Invalid u8 for bool: 7
        no length               53 home.zone       -1 is no length
        long int                56 home.level      a number has more bits than its type
        no symbol               57 way             4 is no symbol of its enum
        no count                45 places          a number has more bytes than any number
        no uuid                  0 id              a string is no uuid: invalid character: found `x` at 0
        no bytes                 0 id              the body ends before the event does
        ends in an array        41 places[1].zone  the body ends before the event does
        ends behind it          46 tags            the body ends before the event does
        ends in the last value  59 value           the body ends before the event does
        goes on                 67                 4 bytes are left over behind the event
        "#);
    }

    #[test]
    fn the_event_goes_as_far_as_its_bytes() {
        let event = |part: usize| locate(&schema(), &body(&parts()[..part])).unwrap().event;
        let events = [0, 1, 3, 5, 9, 12, 15].map(|part| event(part).to_string()).join("\n");
        insta::assert_snapshot!(events, @r#"
        {}
        {"id":"00000000-0000-0000-0000-000000000007","places":[]}
        {"id":"00000000-0000-0000-0000-000000000007","places":[{"zone":"a"}]}
        {"id":"00000000-0000-0000-0000-000000000007","places":[{"level":null,"zone":"a"},{"zone":"b"}]}
        {"id":"00000000-0000-0000-0000-000000000007","places":[{"level":null,"zone":"a"},{"level":4,"zone":"b"}],"tags":{}}
        {"home":{"zone":"c"},"id":"00000000-0000-0000-0000-000000000007","places":[{"level":null,"zone":"a"},{"level":4,"zone":"b"}],"tags":{"hot":true}}
        {"at":"1970-01-01T00:00:00Z","home":{"level":4,"zone":"c"},"id":"00000000-0000-0000-0000-000000000007","places":[{"level":null,"zone":"a"},{"level":4,"zone":"b"}],"tags":{"hot":true},"way":"down"}
        "#);
    }

    #[test]
    fn a_type_that_contains_itself_is_not_gone_through() {
        let endless = json!({"type": "record", "name": "R", "fields": [
            {"name": "next", "type": ["null", "R"]},
        ]});
        assert_eq!(locate(&Schema::parse(&endless).unwrap(), &[2; 100]), None);
    }

    proptest! {
        #[test]
        fn it_stops_where_and_only_where_decoding_does(
            part in 0_usize..16,
            bytes in proptest::collection::vec(any::<u8>(), 0..8),
        ) {
            let mut parts = parts();
            parts[part] = bytes;
            let body = body(&parts);
            let schema = schema();
            let writer = WriterSchema::new(&schema, &schema);
            let decoded = writer.decoder(&schema).unwrap().decode(&body);
            let located = locate(&schema, &body).unwrap();
            prop_assert_eq!(decoded.is_err(), located.stop.is_some(), "{:?} {:?}", decoded, located);
            if let Ok(event) = decoded {
                let event = crate::codec::event_to_json(&schema, &event);
                prop_assert_eq!(event.to_string(), located.event.to_string());
            }
        }
    }
}
