//! What must be true in the end, from the harness's own record of what was acknowledged: it does
//! not believe the ledger.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value as Json;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::{
    events::{Fate, Kind, Row, Stream},
    load::Acknowledged,
    support::Fixture,
};

/// How many rows are read at once.
const PAGE: usize = 20_000;

/// How many of each sort of problem are told.
const TOLD: usize = 5;

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Records that the broker has, by kind.
    pub sent: BTreeMap<Kind, i64>,
    pub landed: i64,
    pub duplicates: i64,
    /// Dead letters by stage and reason.
    pub dead_letters: BTreeMap<String, i64>,
    /// Copies on the dead-letter topics beyond one of each.
    pub copies: i64,
    /// Acknowledged records that are neither in a table nor a dead letter, or not in an aggregate.
    pub lost: i64,
    /// What is there that nobody sent, or more often than it was sent.
    pub double_counted: i64,
    /// Everything that is not as it must be, those two included.
    problems: BTreeMap<&'static str, Vec<String>>,
}

/// Where a record is.
type Place = (i32, i64);

/// An aggregate's count, sum, minimum and maximum.
type Bucket = (i64, f64, f64, f64);

/// What one stream must come to.
#[derive(Default)]
struct Expected {
    rows: HashMap<Uuid, Acknowledged>,
    letters: BTreeMap<Place, Acknowledged>,
    /// How many records each partition has.
    records: BTreeMap<i32, i64>,
}

impl Verdict {
    /// Holds everything against what was acknowledged.
    pub fn of(fixture: &Fixture, acknowledged: &[Acknowledged]) -> anyhow::Result<Verdict> {
        let mut verdict = Verdict::default();
        for sent in acknowledged {
            *verdict.sent.entry(sent.record.kind).or_default() += 1;
        }
        let runtime = tokio::runtime::Runtime::new()?;
        for stream in Stream::ALL {
            let of_stream = acknowledged.iter().filter(|sent| sent.record.stream == stream);
            let expected = Expected::new(stream, of_stream);
            runtime.block_on(async {
                let mut connection = connect(fixture).await?;
                verdict.rows(&mut connection, stream, &expected).await?;
                verdict.aggregate(&mut connection, stream, &expected).await?;
                verdict.letters(&mut connection, stream, &expected).await
            })?;
            verdict.dead_letter_topic(fixture, stream, &expected);
            verdict.ledger(fixture, stream, &expected);
        }
        Ok(verdict)
    }

    /// Every problem, with a few examples of each sort.
    pub fn problems(&self) -> Vec<String> {
        let tell = |(what, which): (&&str, &Vec<String>)| {
            let some: Vec<&str> = which.iter().take(TOLD).map(String::as_str).collect();
            let more = if which.len() > TOLD { ", ..." } else { "" };
            format!("{} x {what}: {}{more}", which.len(), some.join(", "))
        };
        self.problems.iter().map(tell).collect()
    }

    async fn rows(
        &mut self,
        connection: &mut PgConnection,
        stream: Stream,
        expected: &Expected,
    ) -> anyhow::Result<()> {
        type Found = (Uuid, String, String, String, f64, i64, bool, i64);
        let sql = format!(
            "SELECT * FROM ({}) AS row WHERE event_id > $1 ORDER BY event_id LIMIT {PAGE}",
            stream.rows()
        );
        let (mut last, mut found) = (Uuid::nil(), 0);
        // the very first id is the nil one
        let mut page = sql.replace("event_id > $1", "event_id >= $1");
        loop {
            let query = sqlx::query_as::<_, Found>(&page);
            let rows = query.bind(last).fetch_all(&mut *connection).await?;
            for (id, owner, zone, kpi, value, time, label, note) in &rows {
                let (owner, zone, kpi) = (owner.clone(), zone.clone(), kpi.clone());
                let row = Row {
                    owner,
                    zone,
                    kpi,
                    value: *value,
                    time: *time,
                    label: *label,
                    note: *note,
                };
                let Some(right) = expected.rows.get(id).map(|sent| sent.record.row()) else {
                    self.double_counted += 1;
                    self.problem("row that nobody sent", format!("{id} {row:?}"));
                    continue;
                };
                found += 1;
                if right != row {
                    self.problem("row with wrong values", format!("{row:?}, not {right:?}"));
                }
            }
            self.landed += i64::try_from(rows.len())?;
            let Some((id, ..)) = rows.last() else { break };
            last = *id;
            page = sql.clone();
        }
        let lost = i64::try_from(expected.rows.len())? - found;
        if lost != 0 {
            self.lost += lost;
            self.problem("sound events are not in the table", format!("{lost} of {stream:?}"));
        }
        Ok(())
    }

    async fn aggregate(
        &mut self,
        connection: &mut PgConnection,
        stream: Stream,
        expected: &Expected,
    ) -> anyhow::Result<()> {
        type Found = (i64, String, String, i64, f64, f64, f64);
        let mut right: HashMap<(i64, String, String), Bucket> = HashMap::new();
        for sent in expected.rows.values() {
            let row = sent.record.row();
            let (one, two) = stream.dimensions(&row);
            let bucket = right.entry((row.time.div_euclid(60_000) * 60_000, one, two)).or_insert((
                0,
                0.0,
                f64::INFINITY,
                f64::NEG_INFINITY,
            ));
            bucket.0 += 1;
            bucket.1 += row.value;
            bucket.2 = bucket.2.min(row.value);
            bucket.3 = bucket.3.max(row.value);
        }
        let query = sqlx::query_as::<_, Found>(stream.aggregate());
        for (minute, one, two, count, sum, min, max) in query.fetch_all(connection).await? {
            let key = (minute, one, two);
            let bucket = right.remove(&key).unwrap_or_default();
            if bucket != (count, sum, min, max) {
                let found = (count, sum, min, max);
                self.double_counted += (count - bucket.0).max(0);
                self.lost += (bucket.0 - count).max(0);
                self.problem("wrong aggregate", format!("{key:?}: {found:?}, not {bucket:?}"));
            }
        }
        for (key, bucket) in right {
            self.lost += bucket.0;
            self.problem("missing aggregate", format!("{key:?}: {bucket:?}"));
        }
        Ok(())
    }

    async fn letters(
        &mut self,
        connection: &mut PgConnection,
        stream: Stream,
        expected: &Expected,
    ) -> anyhow::Result<()> {
        type Found = (i32, i64, String, String, Option<Vec<u8>>, Option<Vec<u8>>, bool);
        let query = sqlx::query_as::<_, Found>(
            "SELECT partition, \"offset\", stage, reason, key, payload, \
             id NOT IN (SELECT id FROM dlq_outbox) FROM dlq_events WHERE stream = $1",
        );
        let found = query.bind(stream.name()).fetch_all(connection).await?;
        let mut missing = expected.letters.clone();
        for (partition, offset, stage, reason, key, payload, published) in found {
            *self.dead_letters.entry(format!("{stage} {reason}")).or_default() += 1;
            let place = format!("{stream:?} {partition}/{offset} {stage} {reason}");
            let Some(sent) = missing.remove(&(partition, offset)) else {
                self.double_counted += 1;
                self.problem("dead letter of a sound event", place);
                continue;
            };
            let fate = sent.record.fate();
            if !matches!(fate, Fate::DeadLetter(at, why) if at == stage && why == reason) {
                self.problem("wrong reason", format!("{place}, not {fate:?}"));
            }
            if key != Some(sent.record.key().into_bytes()) {
                self.problem("dead letter with another key than was sent", place.clone());
            }
            if payload != sent.record.value(sent.writer) {
                self.problem("dead letter with other bytes than were sent", place.clone());
            }
            if !published {
                self.problem("dead letter that is not published", place);
            }
        }
        for (place, sent) in missing {
            self.lost += 1;
            self.problem("unsound event without a dead letter", format!("{place:?} {sent:?}"));
        }
        Ok(())
    }

    /// Every letter is on the topic; it may be there more than once.
    fn dead_letter_topic(&mut self, fixture: &Fixture, stream: Stream, expected: &Expected) {
        let topic = format!("{}.{}.dlq", fixture.prefix, stream.name());
        let mut copies: BTreeMap<Place, i64> = BTreeMap::new();
        for copy in fixture.read_topic(&topic) {
            let number = |name| copy.header(name).and_then(|number| number.parse().ok());
            let place = (
                number("__connect.errors.partition").unwrap_or(-1),
                copy.header("__connect.errors.offset").and_then(|n| n.parse().ok()).unwrap_or(-1),
            );
            *copies.entry(place).or_default() += 1;
            let sent = expected.letters.get(&place);
            let right = sent
                .map(|sent| (Some(sent.record.key().into_bytes()), sent.record.value(sent.writer)));
            if right.is_none_or(|right| right != (copy.key, copy.value)) {
                let what = "copy of no dead letter, or with another's key or bytes";
                self.problem(what, format!("{place:?}"));
            }
        }
        for place in expected.letters.keys() {
            match copies.get(place) {
                None => self.problem("dead letter that is not on its topic", format!("{place:?}")),
                Some(count) => self.copies += count - 1,
            }
        }
    }

    /// The ledger adds up to what was sent, and reaches to the watermarks, as do the commits.
    fn ledger(&mut self, fixture: &Fixture, stream: Stream, expected: &Expected) {
        let topic = format!("{}.{}", fixture.prefix, stream.name());
        let name = stream.name();
        let sum = |column: &str| {
            fixture.number(&format!("SELECT sum({column}) FROM ledger WHERE stream = '{name}'"))
        };
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let records: i64 = expected.records.values().sum();
        let (rows, letters) = (number(expected.rows.len()), number(expected.letters.len()));
        let columns = ["inserted", "duplicate", "dead_lettered", "skipped", "expired"];
        let right = [rows, records - rows - letters, letters, 0, 0];
        let found = columns.map(sum);
        self.duplicates += found[1];
        if found != right {
            self.problem(
                "ledger that does not add up",
                format!("{columns:?} {found:?}, not {right:?}"),
            );
        }
        let ends = fixture.watermarks(&topic);
        let acknowledged: Vec<(i64, i64)> = (0..stream.partitions())
            .map(|partition| (0, expected.records.get(&partition).copied().unwrap_or(0)))
            .collect();
        if ends != acknowledged {
            let what = "topic with other records than were acknowledged";
            self.problem(what, format!("{topic}: {ends:?}, not {acknowledged:?}"));
        }
        let offsets = fixture.rows(&format!(
            "SELECT first_offset, next_offset FROM ledger WHERE stream = '{name}' ORDER BY partition"
        ));
        let offset = |row: &Json, name: &str| row[name].as_i64().unwrap_or(-1);
        let seen: Vec<(i64, i64)> = offsets
            .iter()
            .map(|row| (offset(row, "first_offset"), offset(row, "next_offset")))
            .collect();
        if seen != ends {
            self.problem("ledger that is not at the watermarks", format!("{seen:?}, not {ends:?}"));
        }
        let committed = fixture.committed(name);
        if committed != ends.iter().map(|(_, end)| Some(*end)).collect::<Vec<_>>() {
            self.problem("offsets that are not committed", format!("{committed:?}, not {ends:?}"));
        }
    }

    fn problem(&mut self, what: &'static str, which: String) {
        self.problems.entry(what).or_default().push(which);
    }
}

impl Expected {
    fn new<'a>(stream: Stream, sent: impl Iterator<Item = &'a Acknowledged>) -> Expected {
        let mut expected = Expected::default();
        for sent in sent {
            *expected.records.entry(sent.partition).or_default() += 1;
            if matches!(sent.record.fate(), Fate::DeadLetter(..)) {
                expected.letters.insert((sent.partition, sent.offset), *sent);
                continue;
            }
            let kept = expected.rows.entry(sent.record.id()).or_insert(*sent);
            let newer = sent.record.row().time.cmp(&kept.record.row().time);
            // where the newest stands, and of equally new ones the first
            let newer = if stream == Stream::Positions { newer } else { std::cmp::Ordering::Equal };
            if newer.then(kept.offset.cmp(&sent.offset)).is_gt() {
                *kept = *sent;
            }
        }
        expected
    }
}

async fn connect(fixture: &Fixture) -> sqlx::Result<PgConnection> {
    let mut connection = PgConnection::connect(fixture.address("DATABASE_URL")).await?;
    let sql = format!("SET search_path TO \"{}\"", fixture.prefix);
    sqlx::raw_sql(&sql).execute(&mut connection).await?;
    Ok(connection)
}
