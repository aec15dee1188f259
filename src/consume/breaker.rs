//! The breaker of one stream: when nearly everything would become a dead letter, the contract or
//! the producer is wrong and not the events, and the stream pauses.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::wait::until;
use crate::{batch::DeadLetter, sink::Written};

/// So many records without a valid one before, and the stream pauses.
const NOTHING_VALID: i64 = 100;

/// When the breaker opens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerOptions {
    /// The largest share of dead letters,
    pub share: f64,
    /// in a window of so many records.
    pub window: u32,
    /// How long the stream pauses before the batch is tried again.
    pub probe: Duration,
}

/// One stream's, shared by its sink tasks.
#[derive(Debug)]
pub(super) struct Breaker {
    options: Option<BreakerOptions>,
    state: Mutex<State>,
    closed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Batches that landed last.
    recent: VecDeque<Count>,
    /// Whether anything valid has ever passed.
    any_valid: bool,
    /// The sink task whose batch is held back.
    opened_by: Option<usize>,
    /// How often it has opened or closed.
    breaks: u64,
}

/// Records of one batch, redelivered ones left out.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    records: i64,
    dead: i64,
}

impl Breaker {
    /// Closed; one without options never opens. For a stream of which something valid has passed
    /// before, or nothing yet.
    pub(super) fn new(options: Option<BreakerOptions>, any_valid: bool) -> Breaker {
        let state = Mutex::new(State { any_valid, ..State::default() });
        Breaker { options, state, closed: Notify::new() }
    }

    /// Whether a batch would be held back for what has become of so many of its rows alone.
    pub(super) fn is_enough(&self, landed: i64, refused: i64) -> bool {
        let Some(options) = self.options else { return false };
        let count = Count { records: landed.saturating_add(refused), dead: refused };
        self.lock().reason(count, &options).is_some()
    }

    /// Judges a batch before it is committed: none where it may be, else why not, and for how long
    /// the stream pauses.
    pub(super) fn judge(
        &self,
        task: usize,
        written: &Written,
        letters: &[&[DeadLetter]],
    ) -> Option<(String, Duration)> {
        let options = self.options?;
        let mut state = self.lock();
        let reason = state.reason(Count::of(written), &options)?;
        if state.opened_by.is_none() {
            state.opened_by = Some(task);
            state.breaks += 1;
        }
        Some((format!("{reason}{}", most_frequent(letters)), options.probe))
    }

    /// Counts a batch that landed. Says whether it is the one that had been held back.
    pub(super) fn landed(&self, task: usize, written: &Written) -> bool {
        let Some(options) = self.options else { return false };
        let mut state = self.lock();
        let count = Count::of(written);
        state.any_valid |= count.records > count.dead;
        if count.records > 0 {
            state.recent.push_back(count);
            state.trim(&options);
        }
        drop(state);
        self.close(task)
    }

    /// Lets the others go on, if it was this task that held them up.
    pub(super) fn close(&self, task: usize) -> bool {
        let mut state = self.lock();
        let was_open = state.opened_by == Some(task);
        if was_open {
            state.opened_by = None;
            state.breaks += 1;
            state.recent.clear();
            self.closed.notify_waiters();
        }
        was_open
    }

    /// How often it has opened or closed. A batch that was decided at another count is to be decided
    /// again.
    pub(super) fn breaks(&self) -> u64 {
        self.lock().breaks
    }

    /// Waits while another sink task's batch is held back.
    pub(super) async fn until_closed(&self, task: usize) {
        until(&self.closed, || self.lock().opened_by.is_none_or(|other| other == task)).await;
    }

    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn reason(&self, batch: Count, options: &BreakerOptions) -> Option<String> {
        let sum = self.recent.iter().fold(batch, |sum, count| sum.plus(*count));
        if batch.dead == 0 {
            return None;
        }
        let any_valid = self.any_valid || batch.records > batch.dead;
        if !any_valid && sum.dead >= NOTHING_VALID {
            return Some(format!("none of the first {} events is valid", sum.records));
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of records are far below 2^52")]
        let is_too_large = sum.dead as f64 > options.share * sum.records as f64;
        (sum.records >= i64::from(options.window) && is_too_large).then(|| {
            format!("{} of the last {} events would be dead letters", sum.dead, sum.records)
        })
    }

    /// Forgets what the window would hold without.
    fn trim(&mut self, options: &BreakerOptions) {
        let mut records: i64 = self.recent.iter().map(|count| count.records).sum();
        while let Some(oldest) = self.recent.front()
            && records - oldest.records >= i64::from(options.window)
        {
            records -= oldest.records;
            self.recent.pop_front();
        }
    }
}

impl Count {
    fn of(written: &Written) -> Count {
        let dead = written.dead_lettered;
        Count { records: written.inserted + written.duplicate + dead, dead }
    }

    fn plus(self, other: Count) -> Count {
        Count { records: self.records + other.records, dead: self.dead + other.dead }
    }
}

/// What most of the dead letters have in common.
fn most_frequent(letters: &[&[DeadLetter]]) -> String {
    let mut reasons = BTreeMap::new();
    for letter in letters.iter().copied().flatten() {
        *reasons.entry(&letter.rejection.reason).or_insert(0) += 1;
    }
    let most = reasons.into_iter().max_by_key(|(_, count)| *count);
    most.map(|(reason, _)| format!(", most of them for {reason}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: BreakerOptions =
        BreakerOptions { share: 0.8, window: 1_000, probe: Duration::from_secs(30) };

    fn written(inserted: i64, dead_lettered: i64) -> Written {
        Written { inserted, dead_lettered, ..Written::default() }
    }

    fn opens(breaker: &Breaker, inserted: i64, dead: i64) -> bool {
        breaker.judge(0, &written(inserted, dead), &[]).is_some()
    }

    #[test]
    fn it_opens_where_nothing_valid_has_passed_yet() {
        let breaker = Breaker::new(Some(OPTIONS), false);
        assert!(!opens(&breaker, 0, 99));
        breaker.landed(0, &written(0, 60));
        assert!(!opens(&breaker, 0, 39));
        assert!(opens(&breaker, 0, 40));
        assert!(!opens(&breaker, 1, 500));
        breaker.landed(0, &written(1, 0));
        assert!(!opens(&breaker, 0, 200));
    }

    #[test]
    fn it_opens_at_the_share_of_a_window_and_not_before_the_window_is_full() {
        let breaker = Breaker::new(Some(OPTIONS), false);
        assert!(!opens(&breaker, 10, 989));
        assert!(opens(&breaker, 10, 990));
        assert!(!opens(&breaker, 200, 800));
        assert!(opens(&breaker, 199, 801));
        for _ in 0..50 {
            breaker.landed(0, &written(100, 0));
        }
        // what is older than the window does not count
        assert!(opens(&breaker, 0, 4_100));
        assert!(!opens(&breaker, 0, 3_900));
    }

    #[test]
    fn a_stream_that_has_landed_before_is_judged_by_a_whole_window_only() {
        let breaker = Breaker::new(Some(OPTIONS), true);
        assert!(!opens(&breaker, 0, 999));
        assert!(opens(&breaker, 0, 1_000));
    }

    #[test]
    fn rows_that_the_table_refuses_are_enough_before_all_are_tried() {
        let new = Breaker::new(Some(OPTIONS), false);
        assert!(!new.is_enough(0, 99) && !new.is_enough(1, 500) && new.is_enough(0, 100));
        let known = Breaker::new(Some(OPTIONS), true);
        assert!(!known.is_enough(0, 999) && known.is_enough(150, 850));
        assert!(!known.is_enough(300, 1_100));
    }

    #[test]
    fn one_without_options_never_opens() {
        let breaker = Breaker::new(None, false);
        assert!(!opens(&breaker, 0, 1_000_000));
    }

    #[tokio::test]
    async fn the_other_sink_tasks_wait_until_the_batch_has_landed() {
        let breaker = Breaker::new(Some(OPTIONS), false);
        assert!(opens(&breaker, 0, 100));
        breaker.until_closed(0).await;
        let landed = async { breaker.landed(0, &written(100, 0)) };
        let ((), was_open) = tokio::join!(breaker.until_closed(1), landed);
        assert!(was_open);
        breaker.until_closed(1).await;
    }
}
