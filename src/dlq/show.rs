//! All that is known of one dead letter.

use serde::Serialize;
use serde_json::Value as Json;
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;

use super::{
    Letter, Preview,
    hexdump::{LINE, hexdump},
    preview::shown,
    screen::{Screen, moment},
};
use crate::{contract::Contract, sink::headers_from_json, sql::unreadable};

/// How many lines of a payload a person is shown.
const PAYLOAD_LINES: usize = 16;

/// One dead letter and what was done about it, as it may be shown.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "as in `Letter`")]
pub struct Shown {
    pub id: i64,
    pub stream: String,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    #[serde(with = "time::serde::rfc3339::option")]
    pub record_time: Option<OffsetDateTime>,
    pub key: Option<Preview>,
    pub headers: Vec<(String, Option<Preview>)>,
    #[serde(serialize_with = "hex")]
    pub payload: Option<Vec<u8>>,
    pub schema_id: Option<i64>,
    pub event_id: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub event_time: Option<OffsetDateTime>,
    pub stage: String,
    pub reason: String,
    pub detail: String,
    pub decoded: Option<Json>,
    #[serde(with = "time::serde::rfc3339")]
    pub seen_at: OffsetDateTime,
    pub status: super::Status,
    pub attempts: i32,
    pub replays: i32,
    pub history: Vec<Deed>,
}

/// What somebody did about a dead letter.
#[derive(Debug, FromRow, Serialize)]
pub struct Deed {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Who.
    pub who: String,
    /// What.
    pub action: String,
    /// Why, or what came of it.
    pub note: String,
    /// How many bytes the edited event has, where it was edited.
    pub payload_bytes: Option<i32>,
}

impl Shown {
    /// A letter with its history.
    pub fn new(letter: Letter, contract: Option<&Contract>, history: Vec<Deed>) -> Shown {
        let header = |(name, value): (String, Option<Vec<u8>>)| {
            (name, value.map(|bytes| Preview::of(&bytes)))
        };
        let record_time = letter.record_time.and_then(|millis| {
            OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis).checked_mul(1_000_000)?)
                .ok()
        });
        Shown {
            id: letter.id,
            record_time,
            key: letter.key.map(|key| Preview::of_key(contract, &key)),
            headers: headers_from_json(&letter.headers).into_iter().map(header).collect(),
            decoded: letter.decoded.map(|event| shown(contract, event)),
            stream: letter.stream,
            topic: letter.topic,
            partition: letter.partition,
            offset: letter.offset,
            payload: letter.payload,
            schema_id: letter.schema_id,
            event_id: letter.event_id,
            event_time: letter.event_time,
            stage: letter.stage,
            reason: letter.reason,
            detail: letter.detail,
            seen_at: letter.seen_at,
            status: letter.status,
            attempts: letter.attempts,
            replays: letter.replays,
            history,
        }
    }
}

fn hex<S: serde::Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
    let digits =
        |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    bytes.as_ref().map(digits).serialize(to)
}

/// What was done about a letter, the oldest first.
pub async fn history(connection: &mut PgConnection, id: i64) -> anyhow::Result<Vec<Deed>> {
    let deeds = sqlx::query_as(
        "SELECT at, who, action, note, octet_length(payload) AS payload_bytes FROM dlq_history \
         WHERE letter_id = $1 ORDER BY id",
    );
    deeds.bind(id).fetch_all(connection).await.map_err(unreadable)
}

/// A letter for a terminal of that many columns.
pub fn render_shown(letter: &Shown, width: usize) -> String {
    let mut screen = Screen::new(width);
    head(letter, &mut screen);
    let time = |at: Option<OffsetDateTime>| at.map_or_else(|| "unknown".to_owned(), moment);
    screen.entry("written", &time(letter.record_time));
    screen.entry("happened", &time(letter.event_time));
    screen.entry("seen", &moment(letter.seen_at));
    let (tried, replayed) = (times(letter.attempts), times(letter.replays));
    screen.entry("tried", &format!("{tried}, replayed in vain {replayed}"));
    screen.entry("schema id", &letter.schema_id.map_or("none".to_owned(), |id| id.to_string()));
    screen.entry("event id", letter.event_id.as_deref().unwrap_or("unknown"));
    screen.entry("key", &letter.key.as_ref().map_or("none".to_owned(), Preview::to_string));
    for (name, value) in &letter.headers {
        let value = value.as_ref().map_or("null".to_owned(), Preview::to_string);
        screen.entry("header", &format!("{name}: {value}"));
    }
    payload(letter.payload.as_deref(), &mut screen);
    match &letter.decoded {
        None => screen.entry("event", "none: it could not be decoded"),
        Some(event) => screen.json("event", event),
    }
    match letter.history.as_slice() {
        [] => screen.entry("history", "none"),
        history => history.iter().for_each(|deed| deed.render(&mut screen)),
    }
    screen.text()
}

/// Which letter it is and why it is one.
pub(super) fn head(letter: &Shown, screen: &mut Screen) {
    let Shown { topic, partition, offset, .. } = letter;
    screen.entry("letter", &format!("{}, {}", letter.id, letter.status.name()));
    screen.entry("stream", &letter.stream);
    screen.entry("record", &format!("{topic}, partition {partition}, offset {offset}"));
    screen.entry("reason", &format!("{} ({})", letter.reason, letter.stage));
    screen.entry("detail", &letter.detail);
}

fn times(count: i32) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

fn payload(bytes: Option<&[u8]>, screen: &mut Screen) {
    let Some(bytes) = bytes else { return screen.entry("payload", "none: a tombstone") };
    screen.entry("payload", &format!("{} bytes", bytes.len()));
    screen.lines(&hexdump(bytes, 0..PAYLOAD_LINES, None));
    if bytes.len() > PAYLOAD_LINES * LINE {
        screen.lines("… --json has all of it\n");
    }
}

impl Deed {
    fn render(&self, screen: &mut Screen) {
        let edited = self.payload_bytes.map(|bytes| format!(" ({bytes} bytes)"));
        let note = if self.note.is_empty() { "" } else { ": " };
        let (at, who, action) = (moment(self.at), &self.who, &self.action);
        let edited = edited.unwrap_or_default();
        screen.entry("history", &format!("{at} {action} by {who}{edited}{note}{}", self.note));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A letter with something everywhere.
    pub(in crate::dlq) fn letter() -> Letter {
        let at = OffsetDateTime::from_unix_timestamp(1_777_636_859).unwrap();
        Letter {
            id: 17,
            stream: "device_telemetry".into(),
            topic: "device.telemetry".into(),
            partition: 2,
            offset: 91,
            key: Some(b"d-17".to_vec()),
            payload: Some(b"\x00\x00\xffabc".repeat(50)),
            headers: json!([{"name": "trace", "text": "abc"}, {"name": "raw", "base64": "AP8K"}, {"name": "none"}]),
            record_time: Some(1_777_636_800_500),
            schema_id: Some(7),
            event_id: Some("e-1".into()),
            stage: "check".into(),
            reason: "rule:value_is_plausible".into(),
            detail: format!("does not hold: {}", "message.value > -1e6 && ".repeat(4)),
            decoded: Some(json!({"device": "d-17", "note": "long ".repeat(40), "value": 1e9})),
            event_time: Some(at),
            seen_at: at,
            attempts: 1,
            replays: 2,
            status: super::super::Status::Parked,
        }
    }

    #[test]
    fn a_letter_is_shown_whole_and_fits_a_terminal() {
        let deed = |action: &str, note: &str, payload_bytes| Deed {
            at: letter().seen_at,
            who: "ann".into(),
            action: action.into(),
            note: note.into(),
            payload_bytes,
        };
        let history = vec![deed("edited", "", Some(41)), deed("parked", "ask the vendor", None)];
        let screen = render_shown(&Shown::new(letter(), None, history), 80);
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
        insta::assert_snapshot!(screen, @r#"
        letter      17, parked
        stream      device_telemetry
        record      device.telemetry, partition 2, offset 91
        reason      rule:value_is_plausible (check)
        detail      does not hold: message.value > -1e6 && message.value > -1e6 &&
                    message.value > -1e6 && message.value > -1e6 &&
        written     2026-05-01 12:00:00
        happened    2026-05-01 12:00:59
        seen        2026-05-01 12:00:59
        tried       once, replayed in vain 2 times
        schema id   7
        event id    e-1
        key         "d-17"
        header      trace: "abc"
        header      raw: 0x00ff0a
        header      none: null
        payload     300 bytes
        00000000  00 00 ff 61 62 63 00 00  ff 61 62 63 00 00 ff 61  |...abc...abc...a|
        00000010  62 63 00 00 ff 61 62 63  00 00 ff 61 62 63 00 00  |bc...abc...abc..|
        00000020  ff 61 62 63 00 00 ff 61  62 63 00 00 ff 61 62 63  |.abc...abc...abc|
        00000030  00 00 ff 61 62 63 00 00  ff 61 62 63 00 00 ff 61  |...abc...abc...a|
        00000040  62 63 00 00 ff 61 62 63  00 00 ff 61 62 63 00 00  |bc...abc...abc..|
        00000050  ff 61 62 63 00 00 ff 61  62 63 00 00 ff 61 62 63  |.abc...abc...abc|
        00000060  00 00 ff 61 62 63 00 00  ff 61 62 63 00 00 ff 61  |...abc...abc...a|
        00000070  62 63 00 00 ff 61 62 63  00 00 ff 61 62 63 00 00  |bc...abc...abc..|
        00000080  ff 61 62 63 00 00 ff 61  62 63 00 00 ff 61 62 63  |.abc...abc...abc|
        00000090  00 00 ff 61 62 63 00 00  ff 61 62 63 00 00 ff 61  |...abc...abc...a|
        000000a0  62 63 00 00 ff 61 62 63  00 00 ff 61 62 63 00 00  |bc...abc...abc..|
        000000b0  ff 61 62 63 00 00 ff 61  62 63 00 00 ff 61 62 63  |.abc...abc...abc|
        000000c0  00 00 ff 61 62 63 00 00  ff 61 62 63 00 00 ff 61  |...abc...abc...a|
        000000d0  62 63 00 00 ff 61 62 63  00 00 ff 61 62 63 00 00  |bc...abc...abc..|
        000000e0  ff 61 62 63 00 00 ff 61  62 63 00 00 ff 61 62 63  |.abc...abc...abc|
        000000f0  00 00 ff 61 62 63 00 00  ff 61 62 63 00 00 ff 61  |...abc...abc...a|
        … --json has all of it
        event
        {
          "device": "d-17",
          "note": "long long long long long long long long long long long long long lon…
          "value": 1000000000.0
        }
        history     2026-05-01 12:00:59 edited by ann (41 bytes)
        history     2026-05-01 12:00:59 parked by ann: ask the vendor
        "#);
    }

    #[test]
    fn what_is_not_known_of_a_letter_is_said() {
        let letter = Letter {
            key: None,
            payload: None,
            headers: json!([]),
            record_time: None,
            schema_id: None,
            event_id: None,
            event_time: None,
            decoded: None,
            reason: "tombstone".into(),
            detail: "the record has no value".into(),
            ..letter()
        };
        let shown = Shown::new(letter, None, Vec::new());
        insta::assert_snapshot!(render_shown(&shown, 80), @"
        letter      17, parked
        stream      device_telemetry
        record      device.telemetry, partition 2, offset 91
        reason      tombstone (check)
        detail      the record has no value
        written     unknown
        happened    unknown
        seen        2026-05-01 12:00:59
        tried       once, replayed in vain 2 times
        schema id   none
        event id    unknown
        key         none
        payload     none: a tombstone
        event       none: it could not be decoded
        history     none
        ");
        assert_eq!(serde_json::to_value(&shown).unwrap()["payload"], Json::Null);
    }
}
