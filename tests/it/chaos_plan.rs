//! The plan of `make chaos` is decided by its seed, and leaves nothing out.

use std::{collections::BTreeSet, time::Duration};

use plan::{Fault, plan};

#[path = "../chaos/plan.rs"]
#[allow(dead_code, reason = "the chaos test itself needs more of it")]
mod plan;

#[test]
fn one_seed_makes_one_plan_and_another_seed_another() {
    assert_eq!(plan(7, 30), plan(7, 30));
    assert_ne!(plan(7, 5), plan(8, 5));
}

#[test]
fn the_short_plan_has_every_fault_once_and_a_long_one_again_and_again() {
    for seed in 0..50 {
        let short = plan(seed, 5);
        let faults: BTreeSet<Fault> = short.iter().map(|step| step.fault).collect();
        assert_eq!((short.len(), faults.len()), (Fault::ALL.len(), Fault::ALL.len()));
        assert!(short.last().unwrap().at < Duration::from_secs(170), "{short:?}");
        let long = plan(seed, 30);
        assert!(long.len() > 10 * Fault::ALL.len(), "{}", long.len());
        assert!(long.last().unwrap().at < Duration::from_secs(30 * 60) - Duration::from_secs(60));
    }
}

#[test]
fn a_member_is_frozen_for_longer_than_its_session_lasts() {
    let steps = plan(1, 60);
    let mut frozen = steps.iter().filter(|step| step.fault == Fault::MemberFrozen);
    assert!(frozen.all(|step| step.lasts > Duration::from_secs(7)));
}
