//! Records to a decided batch: header, writer's schema, event, rules, labels, row.

mod distinct;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use apache_avro::types::Value;
use futures::{StreamExt, TryStreamExt, stream};
use time::OffsetDateTime;
use uuid::Uuid;

use self::distinct::distinct;
use crate::{
    batch::{Batch, DeadLetter, Headers, Record, Row},
    check::check,
    codec::{self, Cell, Decoder, WriterSchema, event_to_json},
    contract::{Contract, Identity, Scope},
    failure::{Failure, Rejection, Stage},
    label::{Fact, label},
    registry::{Registry, RetryPolicy},
    sink::{EncodedRow, RowEncoder, instant_micros, storable_instant},
    source::identity,
    wire::{self, SchemaId},
};

/// How many schema ids are asked for at once. Foreign bytes may hold any number of them, and each
/// that is unknown takes its attempts' time.
const LOOK_UPS: usize = 128;

/// Decides what becomes of one stream's records.
pub(crate) struct Preparer {
    contract: Arc<Contract>,
    registry: Registry,
    unknown_schema: RetryPolicy,
    known: Mutex<HashMap<SchemaId, Arc<WriterSchema>>>,
}

/// A writer's schema, or why there is none and how often it was asked for.
type Lookup = Result<Arc<WriterSchema>, (Rejection, u32)>;

/// The writers' schemas of one batch.
pub(crate) type Lookups = HashMap<SchemaId, Lookup>;

/// What is known of a record that does not land.
#[derive(Default)]
struct Known {
    schema_id: Option<SchemaId>,
    event: Option<Vec<(String, Value)>>,
    attempts: u32,
}

impl Preparer {
    /// For one stream.
    pub(crate) fn new(
        contract: Arc<Contract>,
        registry: Registry,
        policy: RetryPolicy,
    ) -> Preparer {
        Preparer { contract, registry, unknown_schema: policy, known: Mutex::default() }
    }

    /// Finds the writer's schema of every record; only what a dependency or a person has to mend
    /// is a failure.
    pub(crate) async fn look_up(&self, records: &[Record]) -> Result<Lookups, Failure> {
        let split = |record: &Record| wire::split(record.value.as_deref()).ok().map(|(id, _)| id);
        let ids: BTreeSet<SchemaId> = records.iter().filter_map(split).collect();
        let lookups = ids.into_iter().map(async |id| Ok((id, self.writer_schema(id).await?)));
        stream::iter(lookups).buffer_unordered(LOOK_UPS).try_collect().await
    }

    async fn writer_schema(&self, id: SchemaId) -> Result<Lookup, Failure> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = known().get(&id) {
            return Ok(Ok(schema.clone()));
        }
        let policy = self.unknown_schema;
        match self.registry.writer_schema_with_retries(id, policy).await {
            Ok(registered) => {
                let schema = WriterSchema::new(&registered.parsed, &self.contract.schema);
                let schema = Arc::new(schema);
                known().insert(id, schema.clone());
                Ok(Ok(schema))
            }
            Err(failed) => match Failure::from(failed.error) {
                Failure::Record(rejection) => Ok(Err((rejection, failed.attempts.max(1)))),
                failure => Err(failure),
            },
        }
    }

    /// Decides every record. Pure but for the error that the contract's own schema is unusable.
    pub(crate) fn prepare(
        &self,
        records: Vec<Record>,
        lookups: &Lookups,
        now: OffsetDateTime,
    ) -> anyhow::Result<Batch> {
        let work = Work {
            contract: &self.contract,
            decoders: decoders(lookups, &self.contract),
            scope: Scope::new(&self.contract, now),
            encoder: RowEncoder::new(&self.contract)?,
        };
        let mut batch = Batch { records, ..Batch::default() };
        let mut rows = Vec::with_capacity(batch.records.len());
        let mut cells = Vec::new();
        for (index, record) in batch.records.iter().enumerate() {
            match work.row(record, &mut cells, &mut batch.bytes) {
                Ok(row) => rows.push(Row { record: index, ..row }),
                Err((rejection, known)) => {
                    batch.dead_letters.push(work.dead_letter(index, record, rejection, known));
                }
            }
        }
        batch.rows = distinct(rows, &batch.bytes, self.contract.on_conflict);
        Ok(batch)
    }

    /// The dead letter of a row that the table refused.
    pub(crate) fn refused(
        &self,
        batch: &Batch,
        lookups: &Lookups,
        index: usize,
        rejection: Rejection,
    ) -> DeadLetter {
        let record = batch.records.get(index).cloned().unwrap_or_default();
        let (contract, mut known) = (&self.contract, Known { attempts: 1, ..Known::default() });
        if let Ok((id, body)) = wire::split(record.value.as_deref()) {
            known.schema_id = Some(id);
            let decoders = decoders(lookups, contract);
            let decoder = decoders.get(&id).and_then(|decoder| decoder.as_ref().ok());
            known.event = decoder.and_then(|decoder| decoder.decode(body).ok());
        }
        dead_letter(contract, index, &record, rejection, known)
    }
}

/// Decoders of a batch by schema id.
type Decoders<'l> = HashMap<SchemaId, Result<Decoder<'l>, (Rejection, u32)>>;

fn decoders<'l>(lookups: &'l Lookups, contract: &'l Contract) -> Decoders<'l> {
    let decoder = |lookup: &'l Lookup| match lookup {
        Ok(schema) => schema.decoder(&contract.schema).map_err(|rejection| (rejection, 1)),
        Err(refusal) => Err(refusal.clone()),
    };
    lookups.iter().map(|(id, lookup)| (*id, decoder(lookup))).collect()
}

/// What the records of one batch are decided with.
struct Work<'b> {
    contract: &'b Contract,
    decoders: Decoders<'b>,
    scope: Scope,
    encoder: RowEncoder<'b>,
}

impl<'b> Work<'b> {
    /// Appends a record's row to `bytes`; `cells` is there to be filled again and again.
    fn row<'c>(
        &self,
        record: &'c Record,
        cells: &mut Vec<Cell<'c>>,
        bytes: &mut Vec<u8>,
    ) -> Result<Row, (Rejection, Known)>
    where
        'b: 'c,
    {
        let mut known = Known { attempts: 1, ..Known::default() };
        let decided = self.decide(record, &mut known, cells, bytes);
        decided.map_err(|rejection| (rejection, known))
    }

    fn decide<'c>(
        &self,
        record: &'c Record,
        known: &mut Known,
        cells: &mut Vec<Cell<'c>>,
        bytes: &mut Vec<u8>,
    ) -> Result<Row, Rejection>
    where
        'b: 'c,
    {
        let (id, body) = wire::split(record.value.as_deref())
            .map_err(|error| Rejection::new(Stage::Wire, error.reason(), error.to_string()))?;
        known.schema_id = Some(id);
        if record.headers == Headers::Unreadable {
            let detail = "a header's name is not UTF-8, as Kafka's protocol asks";
            return Err(Rejection::new(Stage::Wire, "unreadable_headers", detail));
        }
        let decoder = match self.decoders.get(&id) {
            Some(Ok(decoder)) => decoder,
            Some(Err((rejection, attempts))) => {
                known.attempts = *attempts;
                return Err(rejection.clone());
            }
            None => return Err(Rejection::new(Stage::Decode, "unknown_schema_id", id.to_string())),
        };
        if decoder.cells(body, cells) {
            let decided = self.decide_event(record, cells, bytes);
            if decided.is_err() {
                known.event = decoder.decode(body).ok();
            }
            return decided;
        }
        let event = decoder.decode(body)?;
        let decided =
            self.decide_event(record, &codec::cells(&event, &self.contract.columns), bytes);
        known.event = Some(event);
        decided
    }

    fn decide_event(
        &self,
        record: &Record,
        cells: &[Cell<'_>],
        bytes: &mut Vec<u8>,
    ) -> Result<Row, Rejection> {
        let coordinates = coordinates(self.contract, record);
        let decided = check(cells, self.contract, &self.scope)
            .and_then(|()| label(cells, self.contract, &self.scope));
        let labels = decided.map_err(|rejection| match rejection.is_evaluation_error() {
            // CEL trips over NaN and far-off instants; what is wrong with the event says more
            true => {
                let encoded = self.encoder.encode(cells, [], coordinates, &mut Vec::new());
                encoded.err().unwrap_or(rejection)
            }
            false => rejection,
        })?;
        let labels = labels.iter().map(Fact::cell);
        let EncodedRow { columns, id, time } =
            self.encoder.encode(cells, labels, coordinates, bytes)?;
        Ok(Row { record: 0, columns, id, time, spares: Vec::new() })
    }

    fn dead_letter(
        &self,
        index: usize,
        record: &Record,
        rejection: Rejection,
        known: Known,
    ) -> DeadLetter {
        dead_letter(self.contract, index, record, rejection, known)
    }
}

fn dead_letter(
    contract: &Contract,
    index: usize,
    record: &Record,
    rejection: Rejection,
    known: Known,
) -> DeadLetter {
    let event = known.event.as_deref();
    let field = |index: usize| event.and_then(|event| event.get(index)).map(|(_, value)| value);
    let event_id = match contract.identity {
        Identity::Field(index) => field(index).and_then(id_text),
        Identity::Coordinates => Some(coordinates(contract, record).to_string()),
    };
    let own_time = contract.time.and_then(field).and_then(instant_micros);
    let records_time = record.timestamp.and_then(|millis| millis.checked_mul(1_000));
    DeadLetter {
        record: index,
        rejection: contract.shown_rejection(rejection),
        schema_id: known.schema_id.map(|SchemaId(id)| id),
        event_id,
        decoded: event
            .map(|event| contract.shown(event_to_json(&contract.schema, event)).to_string()),
        event_time: own_time
            .and_then(storable_instant)
            .or_else(|| records_time.and_then(storable_instant)),
        attempts: known.attempts,
    }
}

fn id_text(value: &Value) -> Option<String> {
    match value {
        Value::Union(_, inner) => id_text(inner),
        Value::String(text) => Some(text.clone()),
        Value::Uuid(uuid) => Some(uuid.to_string()),
        Value::Int(number) => Some(number.to_string()),
        Value::Long(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The id of an event whose schema has none: its place in Kafka.
fn coordinates(contract: &Contract, record: &Record) -> Uuid {
    if contract.identity != Identity::Coordinates {
        return Uuid::nil();
    }
    let place = format!("{}\n{}\n{}", contract.topic.name, record.partition, record.offset);
    Uuid::new_v5(&identity::NAMESPACE, place.as_bytes())
}

#[cfg(test)]
mod tests;
