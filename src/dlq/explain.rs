//! Why a dead letter is one, from its first byte on, and whether it would be one today.
//!
//! What the registry would say is left out where it is away; everything else is there without it.

mod refusal;
mod screen;

use std::{slice, sync::Arc};

use serde::Serialize;
use serde_json::Value as Json;
use sqlx::PgConnection;
use time::OffsetDateTime;

use self::refusal::{constraint, expression};
use super::{Deed, Letter, Shown, Status, preview::shown};
use crate::{
    batch::Record,
    codec::{self, Located, WriterSchema},
    contract::Contract,
    failure::Rejection,
    prepare::Preparer,
    registry::{
        Difference, LookupError, RegisteredSchema, Registry, RetryPolicy, SubjectVersion,
        differences, incompatibilities,
    },
    wire::{self, HEADER_LENGTH, SchemaId},
};

pub use refusal::{Constraint, Expression};
pub use screen::render_explanation;

/// Why a dead letter is one.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The letter itself.
    pub letter: Shown,
    /// The five-byte header, or what is wrong with it.
    pub header: Header,
    /// What the event was written with.
    pub schema: Option<Written>,
    /// How far the bytes can be read, where they are no event.
    pub body: Option<Body>,
    /// The rule or label that refused it, and what that saw.
    pub expression: Option<Expression>,
    /// The constraint that refused it.
    pub constraint: Option<Constraint>,
    /// Whether it would pass today.
    pub today: Today,
}

/// The five-byte header.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Header {
    /// The id that it holds.
    SchemaId(u32),
    /// What is wrong with it.
    Wrong(String),
}

/// What an event was written with.
#[derive(Debug, Serialize)]
pub struct Written {
    /// Why the schema can't be had, if so; then nothing more is known.
    pub unknown: Option<String>,
    /// The subjects that have it; none where the registry does not say.
    pub subjects: Option<Vec<SubjectVersion>>,
    /// Whether it is the same as ours.
    pub is_ours: bool,
    /// How it differs from ours.
    pub differences: Vec<Difference>,
    /// Where some or all of what is written with it can't be read with ours.
    pub incompatibilities: Vec<String>,
}

/// How far bytes can be read that are no event.
#[derive(Debug, Serialize)]
pub struct Body {
    /// Whether our schema had to do, because the writer's can't be had.
    pub read_with_ours: bool,
    /// The event as far as it goes.
    pub event: Json,
    /// The byte where decoding stops, counted from the value's first one.
    pub stops_at: Option<usize>,
    /// The field that it is of.
    pub path: String,
    /// What is wrong there.
    pub said: String,
}

/// Whether a dead letter would pass today.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Today {
    /// It has landed.
    Landed,
    /// Decode, rules and labels let it pass; the rest is the table's to say.
    Passes,
    /// It would be refused.
    Refused {
        /// Where.
        stage: &'static str,
        /// Why, as a code,
        reason: String,
        /// and in words.
        detail: String,
    },
    /// That can't be found out now.
    Unknown(String),
}

/// Explains a letter. Without a contract, what depends on it is left out.
pub async fn explain(
    connection: &mut PgConnection,
    registry: &Registry,
    contract: Option<Contract>,
    letter: Letter,
    history: Vec<Deed>,
) -> anyhow::Result<Explanation> {
    let split = wire::split(letter.payload.as_deref());
    let id = split.as_ref().ok().map(|(id, _)| *id);
    let registered = match id {
        Some(id) => Some(registry.writer_schema(id).await),
        None => None,
    };
    let subjects = match (id, &registered) {
        (Some(id), Some(Ok(_))) => registry.subjects_of(id).await.ok().flatten(),
        _ => None,
    };
    let constraint = match &contract {
        Some(contract) => constraint(connection, contract, &letter).await?,
        None => None,
    };
    let known = contract.as_ref();
    let header = match &split {
        Ok((SchemaId(id), _)) => Header::SchemaId(*id),
        Err(error) => Header::Wrong(error.to_string()),
    };
    let schema = registered.as_ref().map(|schema| written(known, schema.as_deref(), subjects));
    let body = match (known, &registered, &split) {
        (Some(contract), Some(schema), Ok((_, body))) => {
            body_of(contract, schema.as_deref().ok(), body)
        }
        _ => None,
    };
    let expression = known.and_then(|contract| expression(contract, &letter));
    let (record, status) = (letter.record(), letter.status);
    let letter = Shown::new(letter, known, history);
    let today = match (status, contract, registered) {
        (Status::Replayed, ..) => Today::Landed,
        (_, None, _) => Today::Unknown(format!("there is no contract of {}", letter.stream)),
        (_, _, Some(Err(LookupError::Away(_) | LookupError::Refused(_)))) => {
            Today::Unknown("the registry can't be asked for the writer's schema".into())
        }
        (_, Some(contract), _) => {
            let preparer = Preparer::new(Arc::new(contract), registry.clone(), RetryPolicy::ONCE);
            today(&preparer, record).await?
        }
    };
    Ok(Explanation { letter, header, schema, body, expression, constraint, today })
}

/// What is known of the writer's schema, held against ours.
fn written(
    contract: Option<&Contract>,
    schema: Result<&RegisteredSchema, &LookupError>,
    subjects: Option<Vec<SubjectVersion>>,
) -> Written {
    let unknown = schema.err().map(ToString::to_string);
    let compared = contract.zip(schema.ok());
    Written {
        unknown,
        subjects,
        is_ours: compared.is_some_and(|(contract, writer)| {
            WriterSchema::new(&writer.parsed, &contract.schema).is_ours()
        }),
        differences: compared.map_or_else(Vec::new, |(contract, writer)| {
            differences(&contract.schema, &writer.parsed)
        }),
        incompatibilities: compared.map_or_else(Vec::new, |(contract, writer)| {
            incompatibilities(&contract.schema, &writer.parsed)
        }),
    }
}

/// How far a body goes; none where it is an event.
fn body_of(contract: &Contract, schema: Option<&RegisteredSchema>, body: &[u8]) -> Option<Body> {
    let ours = &contract.schema;
    let writer = schema.map(|schema| WriterSchema::new(&schema.parsed, ours));
    let is_event = writer.as_ref().is_some_and(|writer| {
        let decoder = writer.decoder(ours).ok();
        decoder.is_some_and(|decoder| decoder.decode(body).is_ok())
    });
    if is_event {
        return None;
    }
    // where it is readable, what decoding itself reads with
    let readable = writer.as_ref().and_then(WriterSchema::readable);
    let used = readable.or(schema.map(|schema| &schema.parsed)).unwrap_or(ours);
    let Located { event, stop } = codec::locate(used, body)?;
    let stops_at = stop.as_ref().map(|stop| stop.offset.saturating_add(HEADER_LENGTH));
    let (path, said) = stop.map_or_else(Default::default, |stop| (stop.path, stop.said));
    let event = shown(Some(contract), event);
    Some(Body { read_with_ours: schema.is_none(), event, stops_at, path, said })
}

/// What would become of a record now.
async fn today(preparer: &Preparer, record: Record) -> anyhow::Result<Today> {
    let lookups = match preparer.look_up(slice::from_ref(&record)).await {
        Ok(lookups) => lookups,
        Err(failure) => return Ok(Today::Unknown(failure.to_string())),
    };
    let batch = preparer.prepare(vec![record], &lookups, OffsetDateTime::now_utc())?;
    Ok(match batch.dead_letters.into_iter().next() {
        None => Today::Passes,
        Some(letter) => {
            let Rejection { stage, reason, detail, .. } = letter.rejection;
            Today::Refused { stage: stage.name(), reason: reason.into_owned(), detail }
        }
    })
}
