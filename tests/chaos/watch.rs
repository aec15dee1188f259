//! How far the ledger is, looked at from outside all the time, also while Postgres is away.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use crate::{events::Stream, load::Sender};

/// How long Postgres may take to answer before it counts as away.
pub const ANSWER: Duration = Duration::from_secs(1);

/// How long there is between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Looks at the ledger until it is dropped.
pub struct Watch {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    /// How many offsets the ledger accounts for, by stream.
    landed: [AtomicI64; Stream::ALL.len()],
    answers: AtomicBool,
    longest_stall: Mutex<Duration>,
    stop: AtomicBool,
}

impl Watch {
    /// Looks at the ledger of a schema, which accounts for what a sender sends.
    pub fn start(url: &str, schema: &str, sender: Arc<Sender>) -> Watch {
        let seen = Arc::new(Seen::default());
        let (url, shared) = (url.to_owned(), seen.clone());
        let query = format!(
            "SELECT stream, sum(next_offset - first_offset)::bigint FROM \"{schema}\".ledger GROUP BY 1"
        );
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(shared.look(&url, &query, &sender));
        });
        Watch { seen, thread: Some(thread) }
    }

    /// How many offsets the ledger accounts for, by stream, as it was seen last.
    pub fn landed(&self) -> [i64; Stream::ALL.len()] {
        self.seen.landed.each_ref().map(|landed| landed.load(Ordering::Relaxed))
    }

    /// Whether Postgres answered when it was asked last.
    pub fn answers(&self) -> bool {
        self.seen.answers.load(Ordering::Relaxed)
    }

    /// The longest time in which nothing landed though something was on the topics.
    pub fn longest_stall(&self) -> Duration {
        *self.seen.longest_stall.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    async fn look(&self, url: &str, query: &str, sender: &Sender) {
        let mut connection = None;
        let mut moved = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            let asked = async {
                let mut open = match connection.take() {
                    Some(open) => open,
                    None => PgConnection::connect(url).await?,
                };
                let landed: Vec<(String, i64)> = sqlx::query_as(query).fetch_all(&mut open).await?;
                Ok::<_, sqlx::Error>((open, landed))
            };
            let delivered = sender.account().delivered();
            let answer = timeout(ANSWER, asked).await;
            if let Ok(Ok((open, landed))) = answer {
                connection = Some(open);
                self.answers.store(true, Ordering::Relaxed);
                if self.note(&landed)
                    || landed.iter().map(|(_, landed)| landed).sum::<i64>() >= delivered
                {
                    moved = Instant::now();
                }
            } else {
                self.answers.store(false, Ordering::Relaxed);
            }
            self.stalled(moved.elapsed());
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn stalled(&self, time: Duration) {
        let mut longest = self.longest_stall.lock().unwrap_or_else(PoisonError::into_inner);
        *longest = time.max(*longest);
    }

    /// Says whether anything has landed since the last look.
    fn note(&self, landed: &[(String, i64)]) -> bool {
        let news = landed.iter().map(|(name, landed)| {
            let stream = Stream::ALL.into_iter().find(|stream| stream.name() == name);
            stream.is_some_and(|stream| {
                self.landed[stream as usize].swap(*landed, Ordering::Relaxed) != *landed
            })
        });
        news.fold(false, |any, new| any | new)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        _ = self.thread.take().map(JoinHandle::join);
    }
}
