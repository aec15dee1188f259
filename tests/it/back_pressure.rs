//! A sink that can't keep up holds its partitions back, and no longer than that.

use crate::support::{Fixture, readings};

#[test]
fn a_partition_that_was_held_back_when_it_was_taken_away_is_read_when_it_comes_back() {
    let fixture = Fixture::with_partitions("readings", readings(), 2);
    let produce = ["produce", "readings", "--count", "200"];
    let consume = ["consume", "--sink-tasks", "1", "--batch-rows", "10"];
    let offsets = "SELECT coalesce(sum(next_offset - first_offset), 0) FROM ledger";
    fixture.run(&produce).success();
    let mut running = fixture.start(&consume);
    fixture.wait_until(offsets, |offsets| offsets == 200);
    let held = fixture.hold("SELECT FROM ledger FOR UPDATE");
    fixture.run(&produce).success();
    running.wait_for_log("paused=true");
    let _other = fixture.start(&consume);
    // each of the two gets one partition, and one of them had it before
    running.wait_for_log("partitions taken away");
    drop(held);
    fixture.wait_until(offsets, |offsets| offsets == 400);
}
