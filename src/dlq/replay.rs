//! Dead letters once more, by today's schemas, rules and labels, straight into the table.
//!
//! Some at a time: each lands, or is refused again, in one transaction with what is noted of it, so that
//! a replay that is interrupted goes on where it ended. Who is taken by another replay at the moment is
//! left to it. What a dependency is away for ends the replay and says nothing about any letter.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{anyhow, bail};
use sqlx::{Connection, PgConnection, Postgres, QueryBuilder, postgres::PgConnectOptions};
use time::OffsetDateTime;

use super::{Filter, Letter, deeds};
use crate::{
    batch::{Batch, Record},
    contract::{Contract, Identity},
    failure::{Failure, Rejection},
    prepare::{Lookups, Preparer},
    registry::{Registry, RetryPolicy},
    sink::Sink,
    sql::{for_work, said},
};

/// How many letters one transaction takes.
const BATCH: i64 = 500;

/// How dead letters are replayed.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// Find out what would come of it, and leave everything as it is.
    pub dry_run: bool,
    /// Park a letter that was replayed in vain so often.
    pub most_replays: i32,
    /// How a schema id that the registry does not know is asked for again.
    pub unknown_schema: RetryPolicy,
    /// Who does it, for the history.
    pub who: String,
}

/// What came of a replay, or would.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Replayed {
    /// Letters that were looked at.
    pub letters: i64,
    /// Letters whose event is in the table now.
    pub landed: i64,
    /// Rows among them that are new; the events of the others had landed before.
    pub inserted: i64,
    /// Letters that can't be replayed here: an event without an id is its place in its topic, and theirs
    /// is not the contract's any more.
    pub left_alone: i64,
    /// Letters that are refused again, by stage and reason.
    pub refused: BTreeMap<String, i64>,
    /// Those of them that are parked now.
    pub parked: i64,
}

/// What came of an event that was mended by hand.
#[derive(Debug, Clone, PartialEq)]
pub enum Edited {
    /// It is in the table.
    Landed,
    /// One with its id had landed before, and `on_conflict` has decided between them.
    HadLanded,
    /// It is refused.
    Refused(Rejection),
}

/// Replays one stream's dead letters.
pub struct Replay {
    contract: Arc<Contract>,
    postgres: PgConnectOptions,
    preparer: Preparer,
    options: ReplayOptions,
}

/// A letter, and the record that is replayed in its name.
struct Candidate {
    letter: Letter,
    record: Record,
    /// Whether the record is another than the letter's own.
    is_edited: bool,
}

impl Replay {
    /// For one stream.
    pub fn new(
        contract: Contract,
        postgres: &PgConnectOptions,
        registry: Registry,
        options: ReplayOptions,
    ) -> Replay {
        let contract = Arc::new(contract);
        let preparer = Preparer::new(contract.clone(), registry, options.unknown_schema);
        Replay { contract, postgres: postgres.clone(), preparer, options }
    }

    /// Replays all that a filter names, the oldest first, and counts in `replayed` what has come of it so
    /// far, also where it fails. Without a status in the filter, those that are pending; what has been
    /// replayed stays so.
    pub async fn run(&self, filter: &Filter, replayed: &mut Replayed) -> anyhow::Result<()> {
        let filter = filter.to_be_replayed(&self.contract.stream);
        let mut reader =
            PgConnection::connect_with(&for_work(&self.postgres, "sluicegate dlq", "30s"))
                .await
                .map_err(|error| anyhow!("Postgres can't be reached: {}", said(&error)))?;
        let mut sink = Sink::connect(&self.postgres, &self.contract).await?;
        let mut after = 0;
        loop {
            let letters = self.candidates(&mut reader, &filter, after).await?;
            let Some(last) = letters.last() else { return Ok(()) };
            after = last.id;
            for candidates in by_topic(letters) {
                if self.is_of_another_topic(&candidates) {
                    replayed.left_alone += count(candidates.len());
                    continue;
                }
                self.replay(&mut sink, &filter, candidates, replayed).await?;
            }
        }
    }

    /// Replays another payload in a letter's place.
    pub async fn run_edited(&self, letter: Letter, payload: Vec<u8>) -> anyhow::Result<Edited> {
        let filter = Filter { ids: vec![letter.id], ..Filter::default() };
        let filter = filter.to_be_replayed(&self.contract.stream);
        let record = Record { value: Some(payload.into()), ..letter.record() };
        let candidate = Candidate { letter, record, is_edited: true };
        let mut sink = Sink::connect(&self.postgres, &self.contract).await?;
        let mut replayed = Replayed::default();
        let refused = self.replay(&mut sink, &filter, vec![candidate], &mut replayed).await?;
        if replayed.letters == 0 {
            bail!("somebody else is at it, or it is not waiting any more; look at it again");
        }
        Ok(match refused.into_values().next() {
            Some(rejection) => Edited::Refused(rejection),
            None if replayed.inserted == 0 => Edited::HadLanded,
            None => Edited::Landed,
        })
    }

    fn is_of_another_topic(&self, candidates: &[Candidate]) -> bool {
        let topic = &self.contract.topic.name;
        self.contract.identity == Identity::Coordinates
            && candidates.iter().any(|candidate| candidate.letter.topic != *topic)
    }

    async fn candidates(
        &self,
        connection: &mut PgConnection,
        filter: &Filter,
        after: i64,
    ) -> anyhow::Result<Vec<Letter>> {
        if filter.statuses.is_empty() {
            return Ok(Vec::new());
        }
        let letters = Letter::page(connection, filter, after, BATCH).await;
        letters.map_err(|error| anyhow!("dlq_events can't be read: {}", said(&error)))
    }

    /// Letters of one topic, in one transaction. Gives those that are refused, by their id.
    async fn replay(
        &self,
        sink: &mut Sink,
        filter: &Filter,
        candidates: Vec<Candidate>,
        replayed: &mut Replayed,
    ) -> anyhow::Result<BTreeMap<i64, Rejection>> {
        let records: Vec<Record> =
            candidates.iter().map(|candidate| candidate.record.clone()).collect();
        // before anything is locked: a registry may take its time
        let lookups = self.preparer.look_up(&records).await?;
        sink.begin(&self.contract).await?;
        let ids: Vec<i64> = candidates.iter().map(|candidate| candidate.letter.id).collect();
        let ours = lock(sink.connection(), filter, ids).await?;
        let candidates: Vec<Candidate> = candidates
            .into_iter()
            .filter(|candidate| ours.contains(&candidate.letter.id))
            .collect();
        let (refused, inserted) = self.land(sink, &candidates, &lookups).await?;
        let parked = self.settle(sink.connection(), &candidates, &refused).await?;
        if self.options.dry_run {
            sink.roll_back().await?;
        } else {
            sink.commit().await?;
        }
        replayed.letters += count(candidates.len());
        replayed.landed += count(candidates.len().saturating_sub(refused.len()));
        replayed.inserted += inserted;
        replayed.parked += parked;
        for rejection in refused.values() {
            *replayed.refused.entry(why(rejection)).or_default() += 1;
        }
        Ok(refused)
    }

    /// Lands what passes; gives those letters that are refused, and how many rows are new.
    async fn land(
        &self,
        sink: &mut Sink,
        candidates: &[Candidate],
        lookups: &Lookups,
    ) -> anyhow::Result<(BTreeMap<i64, Rejection>, i64)> {
        let Some(Candidate { letter: first, .. }) = candidates.first() else {
            return Ok((BTreeMap::new(), 0));
        };
        let topic = first.topic.clone();
        let records = candidates.iter().map(|candidate| candidate.record.clone()).collect();
        let batch: Batch = self.preparer.prepare(records, lookups, OffsetDateTime::now_utc())?;
        let landed = sink.land_dead_letters(&self.contract, &topic, &batch).await?;
        let letter = |record: usize| candidates.get(record).map(|candidate| candidate.letter.id);
        let decided = batch.dead_letters.iter().map(|dead| (dead.record, dead.rejection.clone()));
        let refused = decided.chain(landed.refused).filter_map(|(record, rejection)| {
            Some((letter(record)?, self.contract.shown_rejection(rejection)))
        });
        Ok((refused.collect(), landed.inserted))
    }

    /// Notes what became of letters; gives how many are parked.
    async fn settle(
        &self,
        connection: &mut PgConnection,
        candidates: &[Candidate],
        refused: &BTreeMap<i64, Rejection>,
    ) -> Result<i64, Failure> {
        let who = &self.options.who;
        for Candidate { letter, record, .. } in candidates.iter().filter(|edited| edited.is_edited)
        {
            let payload = record.value.as_deref().unwrap_or_default();
            deeds::note_edited(connection, letter.id, who, payload).await?;
        }
        let landed: Vec<i64> = candidates
            .iter()
            .map(|candidate| candidate.letter.id)
            .filter(|id| !refused.contains_key(id))
            .collect();
        sqlx::query("UPDATE dlq_events SET status = 'replayed' WHERE id = ANY ($1)")
            .bind(&landed)
            .execute(&mut *connection)
            .await?;
        let none = vec![String::new(); landed.len()];
        deeds::note(connection, &landed, "replayed", who, &none).await?;
        let (ids, whys): (Vec<i64>, Vec<String>) = refused
            .iter()
            .map(|(id, rejection)| (*id, format!("{}: {}", why(rejection), rejection.detail)))
            .unzip();
        deeds::note(connection, &ids, "refused", who, &whys).await?;
        sqlx::query("UPDATE dlq_events SET replays = replays + 1 WHERE id = ANY ($1)")
            .bind(&ids)
            .execute(&mut *connection)
            .await?;
        let parked: Vec<i64> = sqlx::query_scalar(
            "UPDATE dlq_events SET status = 'parked' WHERE id = ANY ($1) AND status = 'pending' \
             AND replays >= $2 RETURNING id",
        )
        .bind(&ids)
        .bind(self.options.most_replays)
        .fetch_all(&mut *connection)
        .await?;
        let note = format!("replayed {} times in vain", self.options.most_replays);
        deeds::note(connection, &parked, "parked", who, &vec![note; parked.len()]).await?;
        Ok(i64::try_from(parked.len()).unwrap_or(i64::MAX))
    }
}

/// Locks those of some letters that nobody else is at and that the filter still means.
async fn lock(
    connection: &mut PgConnection,
    filter: &Filter,
    ids: Vec<i64>,
) -> Result<BTreeSet<i64>, Failure> {
    let mut query: QueryBuilder<'_, Postgres> =
        QueryBuilder::new("SELECT letter.id FROM dlq_events AS letter WHERE ");
    Filter { ids, ..filter.clone() }.push(&mut query);
    query.push(" AND letter.purged_at IS NULL ORDER BY letter.id FOR UPDATE SKIP LOCKED");
    let ours: Vec<i64> = query.build_query_scalar().fetch_all(connection).await?;
    Ok(ours.into_iter().collect())
}

/// Letters with their records, those of one topic together.
fn by_topic(letters: Vec<Letter>) -> Vec<Vec<Candidate>> {
    let mut topics: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
    for letter in letters {
        let record = letter.record();
        let of_topic = topics.entry(letter.topic.clone()).or_default();
        of_topic.push(Candidate { letter, record, is_edited: false });
    }
    topics.into_values().collect()
}

fn why(rejection: &Rejection) -> String {
    format!("{} {}", rejection.stage.name(), rejection.reason)
}

fn count(letters: usize) -> i64 {
    i64::try_from(letters).unwrap_or(i64::MAX)
}
