//! Events of schemas that are new, late or unknown, unsound ones in bursts, and huge ones.

use std::time::Instant;

use anyhow::{Context, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;

use super::{SHOWS, Scene, Schemas};
use crate::{
    events::{Kind, Record, Stream, Writer, positions},
    plan::Step,
    wait,
};

impl Scene {
    /// Registers a schema of positions with a field more.
    pub(super) fn evolve(&mut self) -> anyhow::Result<Writer> {
        let extra = self.schemas.extra + 1;
        let id = self.fixture.register("positions-value", &positions(extra), "AVRO");
        ensure!(id > self.schemas.last, "schema id {id} is not new");
        self.schemas = Schemas { last: id, extra };
        Ok(Writer { id, extra })
    }

    /// Some events right away, which it gives, and others with all that follows.
    pub(super) fn write_with(&mut self, writer: Writer) -> anyhow::Result<Vec<Record>> {
        let send = |_| self.sender.send_written_with(Stream::Positions, Kind::Sound, writer);
        let records = (0..50).map(send).collect::<anyhow::Result<_>>()?;
        self.sender.write_with(Stream::Positions, writer);
        Ok(records)
    }

    pub(super) fn use_new_schema(&mut self) -> anyhow::Result<String> {
        let writer = self.evolve()?;
        let records = self.write_with(writer)?;
        self.until_rows(&records, "")?;
        let (id, rows) = (writer.id, records.len());
        Ok(format!(
            "schema id {id}, one field more than the contract; {rows} of its events are rows"
        ))
    }

    pub(super) fn register_late(&mut self, step: &Step) -> anyhow::Result<String> {
        // a registry that was just restarted is slow to register its first schema; and its ids have
        // gaps, so that only the one before says which is the next
        let name = format!("Filler{}", step.seed);
        let filler = json!({"type": "record", "name": name, "fields": []});
        let last = self.fixture.register(&format!("{name}-value"), &filler, "AVRO");
        let writer = Writer { id: last + 1, extra: self.schemas.extra + 1 };
        let began = Instant::now();
        let send = |_| self.sender.send_written_with(Stream::Positions, Kind::LateSchema, writer);
        let records = (0..5).map(send).collect::<anyhow::Result<Vec<Record>>>()?;
        wait::pass(step.lasts)?;
        let registered = self.evolve()?;
        ensure!(registered == writer, "the registry gave {registered:?}, not {writer:?}");
        let late = began.elapsed().as_secs_f64();
        self.sender.write_with(Stream::Positions, writer);
        self.until_rows(&records, "")?;
        let (id, rows) = (writer.id, records.len());
        Ok(format!("id {id} registered {late:.1} s late; its {rows} events are rows"))
    }

    pub(super) fn unknown_schema(&mut self, step: &Step) -> anyhow::Result<String> {
        let id = 2_000_000_000 + u32::try_from(step.seed % 1_000_000)?;
        for stream in Stream::ALL {
            let writer = Writer { id, extra: 0 };
            self.sender.send_written_with(stream, Kind::UnknownSchema, writer)?;
        }
        let letters = format!("SELECT count(*) FROM dlq_events WHERE schema_id = {id}");
        wait::until("dead letters of an unknown schema", SHOWS, || {
            (self.fixture.number(&letters) == 2).then_some(())
        })?;
        let attempts = format!("SELECT max(attempts) FROM dlq_events WHERE schema_id = {id}");
        Ok(format!("dead letters after {} attempts", self.fixture.number(&attempts)))
    }

    pub(super) fn poison(&mut self, step: &Step) -> anyhow::Result<String> {
        let mut chance = StdRng::seed_from_u64(step.seed);
        let unsound = [
            Kind::BreaksRule,
            Kind::RefusedByTable,
            Kind::Empty,
            Kind::Tombstone,
            Kind::BadMagic,
            Kind::TruncatedBody,
            Kind::TrailingBytes,
            Kind::ImpossibleSchema,
        ];
        let (count, mut poisoned) = (600, Vec::new());
        for _ in 0..count {
            let stream = Stream::ALL[usize::from(chance.random_bool(0.5))];
            let poison = chance.random_bool(2.0 / 3.0);
            let kind = unsound[chance.random_range(0..unsound.len())];
            let record = self.sender.send(stream, if poison { kind } else { Kind::Sound })?;
            poisoned.extend(poison.then_some(record));
        }
        self.until_dead_letters(&poisoned, "")?;
        Ok(format!("{} unsound among {count} became dead letters", poisoned.len()))
    }

    pub(super) fn huge(&mut self) -> anyhow::Result<String> {
        let (mut sound, mut unsound) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            sound.push(self.sender.send(Stream::Positions, Kind::Huge)?);
            unsound.push(self.sender.send(Stream::Positions, Kind::HugeAndBreaksRule)?);
            sound.push(self.sender.send(Stream::Positions, Kind::Huge)?);
        }
        self.until_rows(&sound, "AND length(note) > 900000")?;
        self.until_dead_letters(&unsound, "AND length(payload) > 900000")?;
        let (rows, letters) = (sound.len(), unsound.len());
        Ok(format!("{rows} became rows, {letters} that break a rule dead letters, all whole"))
    }

    /// Waits until positions have landed, as rows that a condition holds of.
    fn until_rows(&self, records: &[Record], and: &str) -> anyhow::Result<()> {
        let ids: Vec<String> = records.iter().map(|record| format!("'{}'", record.id())).collect();
        let ids = ids.join(", ");
        let rows = format!("SELECT count(*) FROM positions WHERE event_id IN ({ids}) {and}");
        self.until_count("rows", &rows, records.len())
    }

    /// Waits until records are dead letters that a condition holds of.
    fn until_dead_letters(&self, records: &[Record], and: &str) -> anyhow::Result<()> {
        let places = wait::until("the broker to acknowledge some records", SHOWS, || {
            self.sender.account().places(records)
        })?;
        let place = |(stream, partition, offset): &(Stream, i32, i64)| {
            format!("('{}', {partition}, {offset})", stream.name())
        };
        let places: Vec<String> = places.iter().map(place).collect();
        let places = places.join(", ");
        let letters = format!(
            "SELECT count(*) FROM dlq_events WHERE (stream, partition, \"offset\") IN ({places}) {and}"
        );
        self.until_count("dead letters", &letters, records.len())
    }

    fn until_count(&self, what: &str, query: &str, count: usize) -> anyhow::Result<()> {
        let (count, mut seen) = (i64::try_from(count)?, 0);
        let waited = wait::until(&format!("{count} {what}"), SHOWS, || {
            seen = self.fixture.number(query);
            (seen == count).then_some(())
        });
        waited.with_context(|| format!("there are {seen}"))
    }
}
