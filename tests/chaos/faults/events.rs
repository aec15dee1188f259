//! Events of schemas that are new, late or unknown, unsound ones in bursts, and huge ones.

use std::time::Instant;

use anyhow::ensure;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{SHOWS, Scene, Schemas};
use crate::{
    events::{Kind, Stream, Writer, positions},
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

    /// Some events right away, and others with all that follows.
    pub(super) fn write_with(&mut self, writer: Writer) -> anyhow::Result<()> {
        for _ in 0..50 {
            self.sender.send_written_with(Stream::Positions, Kind::Sound, writer)?;
        }
        self.sender.write_with(Stream::Positions, writer);
        Ok(())
    }

    pub(super) fn register_late(&mut self, step: &Step) -> anyhow::Result<String> {
        let writer = Writer { id: self.schemas.last + 1, extra: self.schemas.extra + 1 };
        let began = Instant::now();
        for _ in 0..5 {
            self.sender.send_written_with(Stream::Positions, Kind::LateSchema, writer)?;
        }
        wait::pass(step.lasts)?;
        let registered = self.evolve()?;
        ensure!(registered == writer, "the registry gave {registered:?}, not {writer:?}");
        self.sender.write_with(Stream::Positions, writer);
        Ok(format!("id {} registered {:.1} s late", writer.id, began.elapsed().as_secs_f64()))
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
        let (count, mut poisoned) = (600, 0);
        for _ in 0..count {
            let stream = Stream::ALL[usize::from(chance.random_bool(0.5))];
            let poison = chance.random_bool(2.0 / 3.0);
            poisoned += usize::from(poison);
            let kind = unsound[chance.random_range(0..unsound.len())];
            self.sender.send(stream, if poison { kind } else { Kind::Sound })?;
        }
        Ok(format!("{poisoned} unsound among {count}"))
    }

    pub(super) fn huge(&mut self) -> anyhow::Result<String> {
        let kinds = [Kind::Huge, Kind::HugeAndBreaksRule, Kind::Huge];
        for kind in kinds.into_iter().cycle().take(9) {
            self.sender.send(Stream::Positions, kind)?;
        }
        Ok("6 sound, 3 that break a rule".into())
    }
}
