//! The two streams, what can be sent to them, and what must come of it. Pure: event `n` is always
//! the same, so that nothing but its number has to be remembered.

use serde_json::{Value as Json, json};
use sluicegate::wire::{SchemaId, frame};

use crate::{
    avro::{double, long, string},
    support,
};

/// A stream of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// The repository's own contract: the first event with an id stands, an aggregate by zone.
    Telemetry,
    /// A contract of the harness's own: the newest event with an id stands.
    Positions,
}

/// What is special about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Sound,
    /// The id of an event before, with another value.
    Again,
    Huge,
    BreaksRule,
    FromTheFuture,
    RefusedByTable,
    HugeAndBreaksRule,
    Tombstone,
    Empty,
    BadMagic,
    TruncatedHeader,
    TruncatedBody,
    TrailingBytes,
    /// An id that no registry can have.
    ImpossibleSchema,
    /// An id that the registry does not know.
    UnknownSchema,
    /// An id that the registry did not know when the record was sent.
    LateSchema,
}

/// What must become of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Lands,
    /// By stage and reason.
    DeadLetter(&'static str, &'static str),
}

/// One record: which event, which version of it, and what is special about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub stream: Stream,
    pub number: u64,
    pub version: u32,
    pub kind: Kind,
    /// When the load began, in milliseconds since 1970.
    pub epoch: i64,
}

/// The schema that a record is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer {
    pub id: u32,
    /// How many fields it has that the contract does not.
    pub extra: usize,
}

/// A row, as its table must have it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// `device_id` or `vehicle`.
    pub owner: String,
    /// `zone`; empty for a position.
    pub zone: String,
    /// `kpi`; empty for a position.
    pub kpi: String,
    /// `value` or `speed`.
    pub value: f64,
    /// In milliseconds since 1970.
    pub time: i64,
    /// `is_degraded` or `is_fast`.
    pub label: bool,
    /// The length of `note`; 0 for telemetry.
    pub note: i64,
}

const KPIS: [(&str, f64); 4] =
    [("temperature", 80.0), ("humidity", 70.0), ("pressure", 1050.0), ("vibration", 5.0)];

/// A length that the broker's limit of a million bytes just allows.
const HUGE: usize = 950_000;

/// What the table refuses; see [`Stream::check`].
const REFUSED: &str = "nowhere";

impl Stream {
    pub const ALL: [Stream; 2] = [Stream::Telemetry, Stream::Positions];

    pub fn name(self) -> &'static str {
        match self {
            Stream::Telemetry => "device_telemetry",
            Stream::Positions => "positions",
        }
    }

    pub fn partitions(self) -> i32 {
        match self {
            Stream::Telemetry => 3,
            Stream::Positions => 2,
        }
    }

    pub fn contract(self) -> Json {
        match self {
            Stream::Telemetry => support::contract(self.name()),
            Stream::Positions => positions(0),
        }
    }

    /// What a user may have added to the table.
    pub fn check(self) -> &'static str {
        match self {
            Stream::Telemetry => {
                "ALTER TABLE device_telemetry ADD CONSTRAINT somewhere CHECK (zone <> 'nowhere')"
            }
            Stream::Positions => {
                "ALTER TABLE positions ADD CONSTRAINT somewhere CHECK (vehicle <> 'nowhere')"
            }
        }
    }

    /// Where the stream's rows are, as [`Row`] has them, behind the id.
    pub fn rows(self) -> &'static str {
        match self {
            Stream::Telemetry => {
                "SELECT event_id, device_id, zone, kpi, value, \
                 (extract(epoch FROM ts) * 1000)::bigint, is_degraded, 0::bigint FROM device_telemetry"
            }
            Stream::Positions => {
                "SELECT event_id, vehicle, '', '', speed, \
                 (extract(epoch FROM ts) * 1000)::bigint, is_fast, length(note)::bigint FROM positions"
            }
        }
    }

    /// The stream's aggregate: minute, dimensions, count, sum, minimum and maximum.
    pub fn aggregate(self) -> &'static str {
        match self {
            Stream::Telemetry => {
                "SELECT (extract(epoch FROM minute) * 1000)::bigint, zone, kpi, count, value_sum, \
                 value_min, value_max FROM agg_device_telemetry_minute"
            }
            Stream::Positions => {
                "SELECT (extract(epoch FROM minute) * 1000)::bigint, vehicle, '', count, speed_sum, \
                 speed_min, speed_max FROM agg_positions_minute"
            }
        }
    }

    /// The dimensions of a row in the stream's aggregate.
    pub fn dimensions(self, row: &Row) -> (String, String) {
        match self {
            Stream::Telemetry => (row.zone.clone(), row.kpi.clone()),
            Stream::Positions => (row.owner.clone(), String::new()),
        }
    }
}

/// The contract of positions, with so many fields more than the stream's own.
pub fn positions(extra: usize) -> Json {
    let mut fields = vec![
        json!({"name": "event_id", "type": {"type": "string", "logicalType": "uuid"}}),
        json!({"name": "vehicle", "type": "string"}),
        json!({"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}}),
        json!({"name": "speed", "type": "double"}),
        json!({"name": "note", "type": "string", "default": ""}),
    ];
    let more =
        |n| json!({"name": format!("extra_{n}"), "type": ["null", "string"], "default": null});
    fields.extend((0..extra).map(more));
    json!({
        "type": "record", "name": "Position", "namespace": "chaos",
        "sluicegate": {
            "key": "vehicle", "time": "ts", "on_conflict": "latest",
            "rules": [
                {"name": "speed_is_possible", "check": "message.speed >= 0.0"},
                {"name": "not_from_the_future", "check": "message.ts <= now + duration('5m')"},
            ],
            "labels": [{"name": "is_fast", "type": "boolean", "value": "message.speed > 50.0"}],
            "aggregates": [{"every": "1m", "by": ["vehicle"], "of": ["speed"]}],
        },
        "fields": fields,
    })
}

impl Kind {
    /// What a person calls it.
    pub fn words(self) -> &'static str {
        match self {
            Kind::Sound => "sound",
            Kind::Again => "sent again, changed",
            Kind::Huge => "huge",
            Kind::BreaksRule => "breaks a rule",
            Kind::FromTheFuture => "from the future",
            Kind::RefusedByTable => "refused by a CHECK",
            Kind::HugeAndBreaksRule => "huge, breaks a rule",
            Kind::Tombstone => "tombstone",
            Kind::Empty => "empty value",
            Kind::BadMagic => "bad magic byte",
            Kind::TruncatedHeader => "truncated header",
            Kind::TruncatedBody => "truncated body",
            Kind::TrailingBytes => "trailing bytes",
            Kind::ImpossibleSchema => "impossible schema id",
            Kind::UnknownSchema => "unknown schema id",
            Kind::LateSchema => "schema registered late",
        }
    }
}

impl Record {
    /// What must become of it.
    pub fn fate(&self) -> Fate {
        match self.kind {
            Kind::Sound | Kind::Again | Kind::Huge | Kind::LateSchema => Fate::Lands,
            Kind::BreaksRule | Kind::HugeAndBreaksRule => match self.stream {
                Stream::Telemetry => Fate::DeadLetter("check", "rule:value_is_plausible"),
                Stream::Positions => Fate::DeadLetter("check", "rule:speed_is_possible"),
            },
            Kind::FromTheFuture => Fate::DeadLetter("check", "rule:not_from_the_future"),
            Kind::RefusedByTable => Fate::DeadLetter("land", "check_violation"),
            Kind::Tombstone => Fate::DeadLetter("wire", "tombstone"),
            Kind::Empty => Fate::DeadLetter("wire", "empty_value"),
            Kind::BadMagic => Fate::DeadLetter("wire", "bad_magic_byte"),
            Kind::TruncatedHeader => Fate::DeadLetter("wire", "truncated_header"),
            Kind::TruncatedBody => Fate::DeadLetter("decode", "truncated_body"),
            Kind::TrailingBytes => Fate::DeadLetter("decode", "trailing_bytes"),
            Kind::ImpossibleSchema | Kind::UnknownSchema => {
                Fate::DeadLetter("decode", "unknown_schema_id")
            }
        }
    }

    /// The event's id.
    pub fn id(&self) -> uuid::Uuid {
        uuid::Uuid::from_u64_pair(self.stream as u64, self.number)
    }

    /// The key: one owner's events keep their order.
    pub fn key(&self) -> String {
        format!("{}-{}", self.stream.name(), self.number % 40)
    }

    /// The row that it makes, if it lands.
    pub fn row(&self) -> Row {
        let (n, version) = (self.number, f64::from(self.version));
        let pick = |count: u64| usize::try_from(n / 7 % count).unwrap_or(0);
        let (kpi, limit) = KPIS[pick(4)];
        let time = self.epoch - 86_400_000 + i64::try_from(n).unwrap_or(0) * 40;
        match self.stream {
            Stream::Telemetry => {
                // a whole number of quarters, so that sums are exact in any order
                let value = limit - 10.0 + (n % 80) as f64 / 4.0 + version;
                let zone = format!("zone-{}", pick(5));
                let (owner, kpi) = (self.key(), kpi.to_owned());
                Row { owner, zone, kpi, value, time, label: value > limit, note: 0 }
            }
            Stream::Positions => {
                let value = (n % 400) as f64 / 4.0 + version;
                let time = time + i64::from(self.version) * 30_000;
                let note = if self.kind == Kind::Huge { HUGE as i64 } else { 0 };
                let (zone, kpi) = (String::new(), String::new());
                Row { owner: self.key(), zone, kpi, value, time, label: value > 50.0, note }
            }
        }
    }

    /// The bytes that are sent; none for a tombstone.
    pub fn value(&self, writer: Writer) -> Option<Vec<u8>> {
        let body = self.body(writer.extra);
        let whole = frame(SchemaId(writer.id), &body);
        match self.kind {
            Kind::Tombstone => None,
            Kind::Empty => Some(Vec::new()),
            Kind::BadMagic => Some([b"{", &whole[1..]].concat()),
            Kind::TruncatedHeader => Some(whole[..3].to_vec()),
            Kind::TruncatedBody => Some(whole[..whole.len() - 3].to_vec()),
            Kind::TrailingBytes => Some([&whole, &b"more"[..]].concat()),
            Kind::ImpossibleSchema => Some(frame(SchemaId(u32::MAX), &body)),
            _ => Some(whole),
        }
    }

    fn body(&self, extra: usize) -> Vec<u8> {
        let mut row = self.row();
        match self.kind {
            Kind::BreaksRule | Kind::HugeAndBreaksRule if self.stream == Stream::Telemetry => {
                row.value = 2e6;
            }
            Kind::BreaksRule | Kind::HugeAndBreaksRule => row.value = -1.0,
            Kind::FromTheFuture => row.time = self.epoch + 864_000_000,
            Kind::RefusedByTable if self.stream == Stream::Telemetry => row.zone = REFUSED.into(),
            Kind::RefusedByTable => row.owner = REFUSED.into(),
            _ => {}
        }
        let id = string(self.id().to_string());
        match self.stream {
            Stream::Telemetry => {
                let kpi = KPIS.iter().position(|(kpi, _)| *kpi == row.kpi).unwrap_or(0);
                let kpi = long(i64::try_from(kpi).unwrap_or(0));
                let (owner, zone) = (string(row.owner), string(row.zone));
                [id, owner, zone, long(row.time), kpi, double(row.value)].concat()
            }
            Stream::Positions => {
                let huge = matches!(self.kind, Kind::Huge | Kind::HugeAndBreaksRule);
                let note = string(if huge { "x".repeat(HUGE) } else { String::new() });
                let more = [long(1), string("more")].concat().repeat(extra);
                [id, string(row.owner), long(row.time), double(row.value), note, more].concat()
            }
        }
    }
}
