//! What a stream's polling thread and its sink tasks tell each other.
//!
//! Everything is under one lock that is held for a few instructions, so that what a rebalance
//! sees is one consistent state.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::wait::until;

/// The state between the polling thread and the sink tasks.
#[derive(Debug, Default)]
pub(super) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
    /// Told when a batch in hand may no longer be ours.
    given_up: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Grows whenever partitions are given, taken away or opened anew. A record of an older epoch
    /// belongs to somebody else by now, or is read again.
    epoch: u64,
    /// Partitions are being taken away: nothing new is begun.
    closing: bool,
    /// The partitions that are ours; none while the group has not assigned any.
    assigned: Option<BTreeSet<i32>>,
    /// From where each of them is read.
    begins: BTreeMap<i32, i64>,
    /// The partitions have to be opened anew.
    reopen: bool,
    /// Offsets whose events are in the database and that are not committed to Kafka.
    landed: BTreeMap<i32, i64>,
    /// What each sink task has not landed.
    tasks: Vec<Load>,
    /// Sink tasks that are writing a batch.
    writing: usize,
    /// Why the stream must stop.
    stopped: Option<String>,
}

/// What a sink task has been handed and has not finished.
#[derive(Debug, Default, Clone, Copy)]
struct Load {
    records: usize,
    bytes: usize,
}

impl State {
    /// Whether a batch may be begun, or waited with.
    fn goes_on(&self, epoch: u64) -> bool {
        self.epoch == epoch && !self.closing && self.stopped.is_none()
    }

    /// Whatever is under way belongs to the past.
    fn next_epoch(&mut self) {
        self.epoch += 1;
        self.closing = false;
        self.reopen = false;
        self.begins.clear();
    }
}

impl Progress {
    /// For so many sink tasks.
    pub(super) fn new(tasks: usize) -> Progress {
        let state = State { tasks: vec![Load::default(); tasks], ..State::default() };
        Progress { state: Mutex::new(state), changed: Condvar::new(), given_up: Notify::new() }
    }

    /// The epoch that records polled now belong to.
    pub(super) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// Counts records that a task is handed, and gives the epoch they belong to.
    pub(super) fn handed(&self, task: usize, records: usize, bytes: usize) -> u64 {
        let mut state = self.lock();
        if let Some(load) = state.tasks.get_mut(task) {
            load.records += records;
            load.bytes += bytes;
        }
        state.epoch
    }

    /// Whether a task has as much as it should hold.
    pub(super) fn is_full(&self, task: usize, records: usize, bytes: usize) -> bool {
        let state = self.lock();
        state.tasks.get(task).is_some_and(|load| load.records >= records || load.bytes >= bytes)
    }

    /// Whether a task has room for another batch again.
    pub(super) fn has_room(&self, task: usize, records: usize, bytes: usize) -> bool {
        !self.is_full(task, records / 2, bytes / 2)
    }

    /// Waits until something changes, or the time is over.
    pub(super) fn wait(&self, time: Duration) {
        let state = self.lock();
        drop(self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner));
    }

    /// Begins writing a batch, unless its partitions have been taken away or the stream stops.
    /// It ends when the guard is dropped, whatever came of it.
    pub(super) fn begin(&self, epoch: u64) -> Option<Writing<'_>> {
        let mut state = self.lock();
        if !state.goes_on(epoch) {
            return None;
        }
        state.writing += 1;
        Some(Writing(self))
    }

    /// Whether batches of an epoch are still ours to write.
    pub(super) fn goes_on(&self, epoch: u64) -> bool {
        self.lock().goes_on(epoch)
    }

    /// Waits until a batch's partitions are no longer ours, or the stream stops.
    pub(super) async fn until_given_up(&self, epoch: u64) {
        until(&self.given_up, || !self.lock().goes_on(epoch)).await;
    }

    /// From where each partition is read in this epoch.
    pub(super) fn begins(&self) -> BTreeMap<i32, i64> {
        self.lock().begins.clone()
    }

    /// Takes records off a task's load: they landed, or belong to somebody else.
    pub(super) fn finished(&self, task: usize, records: usize, bytes: usize) {
        if let Some(load) = self.lock().tasks.get_mut(task) {
            load.records = load.records.saturating_sub(records);
            load.bytes = load.bytes.saturating_sub(bytes);
        }
        self.changed.notify_all();
    }

    /// Notes offsets to commit; those of partitions that are no longer ours are left to the new
    /// owner, who will find the events in the database.
    pub(super) fn landed(&self, epoch: u64, next_offsets: &BTreeMap<i32, i64>) {
        let mut state = self.lock();
        if state.epoch == epoch {
            state.landed.extend(next_offsets);
        }
        self.changed.notify_all();
    }

    /// Takes the offsets to commit.
    pub(super) fn take_landed(&self) -> BTreeMap<i32, i64> {
        std::mem::take(&mut self.lock().landed)
    }

    /// Whether no record is under way.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.landed.is_empty() && state.tasks.iter().all(|load| load.records == 0)
    }

    /// Notes what the group gave us.
    pub(super) fn assign(&self, partitions: BTreeSet<i32>) {
        let mut state = self.lock();
        state.next_epoch();
        state.assigned = Some(partitions);
    }

    /// Notes from where the partitions are read. What is polled from now on counts.
    pub(super) fn opened(&self, begins: BTreeMap<i32, i64>) {
        let mut state = self.lock();
        state.next_epoch();
        state.begins = begins;
    }

    /// Asks for the partitions to be opened anew.
    pub(super) fn reopen(&self) {
        self.lock().reopen = true;
        self.changed.notify_all();
    }

    /// Whether somebody has asked for that.
    pub(super) fn must_reopen(&self) -> bool {
        self.lock().reopen
    }

    /// The partitions that are ours; none while the group has not assigned any.
    pub(super) fn assigned(&self) -> Option<BTreeSet<i32>> {
        self.lock().assigned.clone()
    }

    /// Partitions are being taken away: no batch of theirs is begun from now on. Waits for those
    /// that are being written, but not for ever: a batch that is written nevertheless changes
    /// nothing the second time.
    pub(super) fn revoke(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        state.closing = true;
        self.given_up.notify_waiters();
        while state.writing > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!("partitions were taken away while a batch was being written");
                break;
            }
            state =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.next_epoch();
        state.assigned = None;
    }

    /// Stops the stream for a reason that only a person can mend.
    pub(super) fn stop(&self, reason: String) {
        self.lock().stopped.get_or_insert(reason);
        self.given_up.notify_waiters();
        self.changed.notify_all();
    }

    /// Why the stream must stop, if it must.
    pub(super) fn stopped(&self) -> Option<String> {
        self.lock().stopped.clone()
    }

    /// No code panics while it holds the lock, so what is behind it is whole in any case.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch that is being written.
pub(super) struct Writing<'p>(&'p Progress);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.lock().writing -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_partitions_taken_away_is_neither_begun_nor_committed() {
        let progress = Progress::new(1);
        let epoch = progress.handed(0, 1, 10);
        progress.revoke(Duration::ZERO);
        assert!(progress.begin(epoch).is_none());
        progress.landed(epoch, &BTreeMap::from([(0, 5)]));
        assert!(progress.take_landed().is_empty());
    }

    #[test]
    fn nothing_is_begun_once_the_stream_stops() {
        let progress = Progress::new(1);
        progress.stop("a column is missing".into());
        assert!(progress.begin(progress.epoch()).is_none());
    }

    #[test]
    fn what_was_polled_before_partitions_are_opened_anew_does_not_count() {
        let progress = Progress::new(1);
        progress.assign(BTreeSet::from([0]));
        let epoch = progress.handed(0, 1, 10);
        progress.reopen();
        assert!(progress.must_reopen() && progress.begin(epoch).is_some());
        progress.opened(BTreeMap::from([(0, 3)]));
        assert!(!progress.must_reopen() && progress.begin(epoch).is_none());
        progress.landed(epoch, &BTreeMap::from([(0, 5)]));
        assert!(progress.take_landed().is_empty());
        assert_eq!(progress.begins(), BTreeMap::from([(0, 3)]));
    }

    #[tokio::test]
    async fn a_batch_that_waits_is_told_when_it_is_no_longer_ours() {
        let progress = Progress::new(1);
        progress.assign(BTreeSet::from([0]));
        let epoch = progress.epoch();
        let waits = progress.until_given_up(epoch);
        let takes_away = async { progress.revoke(Duration::ZERO) };
        tokio::join!(waits, takes_away);
        progress.until_given_up(epoch).await;
    }

    #[test]
    fn what_landed_before_a_revocation_is_still_there_to_commit() {
        let progress = Progress::new(1);
        progress.landed(progress.epoch(), &BTreeMap::from([(3, 7)]));
        progress.revoke(Duration::ZERO);
        assert_eq!(progress.take_landed(), BTreeMap::from([(3, 7)]));
    }

    #[test]
    fn a_task_is_full_by_records_or_by_bytes_and_has_room_at_half() {
        let progress = Progress::new(2);
        progress.handed(1, 1, 100);
        assert!(progress.is_full(1, 1, 1_000) && progress.is_full(1, 10, 100));
        assert!(!progress.is_full(1, 2, 101) && !progress.is_full(0, 1, 1));
        progress.handed(1, 1, 100);
        assert!(!progress.has_room(1, 4, 10_000));
        progress.finished(1, 1, 100);
        assert!(progress.has_room(1, 4, 10_000));
    }

    #[test]
    fn a_revocation_waits_for_the_batch_that_is_being_written() {
        let progress = Progress::new(1);
        let epoch = progress.epoch();
        let writing = progress.begin(epoch);
        assert!(writing.is_some());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                progress.landed(epoch, &BTreeMap::from([(0, 1)]));
                drop(writing);
            });
            progress.revoke(Duration::from_secs(60));
        });
        assert_eq!(progress.take_landed(), BTreeMap::from([(0, 1)]));
    }
}
