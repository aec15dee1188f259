//! `make chaos`: the program on services of its own that are broken by a seeded plan, under load;
//! in the end everything that the broker acknowledged must be where it belongs, once.
//!
//! | module | what it is |
//! |---|---|
//! | [`args`] | the command line |
//! | [`plan`] | which fault, when, for how long |
//! | [`events`], [`load`] | what is sent, what must come of it, what was acknowledged |
//! | [`members`] | the consumers |
//! | [`faults`] | how each fault is done and how it shows |
//! | [`watch`], [`wait`] | how far the ledger is; conditions with deadlines |
//! | [`verdict`], [`report`] | what must be true in the end; tables and JSON |

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on has failed")]
#![allow(unreachable_pub, missing_docs, reason = "nobody depends on a test")]

mod args;
mod events;
mod faults;
mod load;
mod members;
mod plan;
mod report;
mod verdict;
mod wait;
mod watch;

#[path = "../it/avro.rs"]
#[allow(dead_code, reason = "the other tests need more of it")]
mod avro;
#[path = "../it/services.rs"]
#[allow(dead_code, reason = "the other tests need more of it")]
mod services;
#[path = "../it/support.rs"]
#[allow(dead_code, reason = "the other tests need more of it")]
mod support;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::Parser;

use crate::{
    args::Args,
    events::Stream,
    faults::{MEMBERS, Scene},
    load::{Load, Sender},
    members::Members,
    plan::plan,
    report::{Injected, Report},
    services::Services,
    support::Fixture,
    verdict::Verdict,
    watch::Watch,
};

/// How long everything may take to land once a fault is over.
const RECOVERS: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    let args = Args::parse();
    if args.leave_out() {
        return ExitCode::SUCCESS;
    }
    let seed = args.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    if args.plan {
        plan(seed, args.minutes).iter().for_each(|step| println!("{step:?}"));
        return ExitCode::SUCCESS;
    }
    wait::listen_for_interruption();
    let again = format!("make chaos MINUTES={} SEED={seed}", args.minutes);
    println!("chaos: {again}");
    match run(&args, seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}\nrepeat it with: {again}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, seed: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    wait::end_after(args.limit());
    let mut scene = set_up(seed)?;
    println!("services, tables and {MEMBERS} consumers are up after {:.0} s", seconds(began));
    let ended = caught(|| play(args, seed, &mut scene))
        .and_then(|report| caught(|| judge(report, &scene, began)))
        .and_then(|(report, problems)| {
            report.print();
            if let Some(file) = &args.json {
                std::fs::write(file, format!("{}\n", serde_json::to_string(&report)?))?;
            }
            ensure!(problems.is_empty(), "{}", problems.join("\n"));
            Ok(())
        });
    close(scene, ended.is_err() && !wait::interrupted());
    ended
}

/// What the tests' tools make of a service that does not answer is a panic; logs and data are to be
/// kept after one, too.
fn caught<T>(what: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        bail!("panicked: {}", text.unwrap_or("no message"))
    })
}

/// Services, topics, subjects, tables and members.
fn set_up(seed: u64) -> anyhow::Result<Scene> {
    let services = Services::up(&["kafka", "registry", "postgres"]);
    let mut fixture = Fixture::on(services.addresses());
    for stream in Stream::ALL {
        fixture = fixture.and_partitions(stream.name(), stream.contract(), stream.partitions());
        fixture.sql(stream.check());
    }
    let (writers, schemas) = faults::writers(&fixture)?;
    let sender = Arc::new(Sender::new(fixture.client(), &fixture.prefix, seed, writers)?);
    let watch = Watch::start(fixture.address("DATABASE_URL"), &fixture.prefix, sender.clone());
    let mut members = Members::default();
    (0..MEMBERS).for_each(|_| _ = members.join(&fixture));
    Ok(Scene { services, fixture, members, sender, watch, schemas, redelivered: 0 })
}

/// The plan, under load, and then all that is left to land.
fn play(args: &Args, seed: u64, scene: &mut Scene) -> anyhow::Result<Report> {
    let load = Load::start(scene.sender.clone(), args.rate);
    let began = Instant::now();
    recover(scene).context("before any fault")?;
    let mut faults = Vec::new();
    let mut steps = plan(seed, args.minutes);
    steps.retain(|step| args.only.is_empty() || args.only.contains(&step.fault));
    if let (false, Some(first)) = (args.only.is_empty(), steps.first().map(|step| step.at)) {
        steps.iter_mut().for_each(|step| step.at = step.at.saturating_sub(first));
    }
    let time = Duration::from_secs(args.minutes * 60);
    for (number, step) in steps.iter().enumerate() {
        // a long plan ends with its time; the short one is always played whole
        if number >= plan::Fault::ALL.len() && began.elapsed() > time {
            break;
        }
        wait::pass(step.at.saturating_sub(began.elapsed()))?;
        let (at, begins) = (began.elapsed(), Instant::now());
        let showed = scene.inject(step).with_context(|| format!("{:?}", step.fault))?;
        let mut injected = Injected::new(step, at, begins.elapsed(), showed);
        let ends = Instant::now();
        recover(scene).with_context(|| format!("after {:?}", step.fault))?;
        injected.recovered = seconds(ends);
        injected.print();
        faults.push(injected);
    }
    load.stop()?;
    scene.sender.finish()?;
    recover(scene).context("at the end")?;
    scene.members.terminate_all()?;
    Ok(Report {
        seed,
        minutes: args.minutes,
        took: 0.0,
        faults,
        sent: BTreeMap::new(),
        landed: 0,
        duplicates: 0,
        dead_letters: BTreeMap::new(),
        repeated_copies: 0,
        redelivered: scene.redelivered,
        rebalances: scene.members.assignments,
        longest_stall: scene.watch.longest_stall().as_secs_f64(),
        lost: 0,
        double_counted: 0,
        peak_memory: scene.members.peak_memory,
        audit: -1,
    })
}

/// Waits until as much has landed as was sent by now.
fn recover(scene: &mut Scene) -> anyhow::Result<()> {
    let sent = scene.sender.account().sent();
    let what = format!("{sent:?} records to be accounted for");
    let landed = wait::until(&what, RECOVERS, || {
        let ended = scene.members.check();
        let all = scene.watch.landed().iter().zip(&sent).all(|(landed, sent)| landed >= sent);
        (ended.is_err() || all).then_some(ended)
    });
    landed.with_context(|| format!("{:?} are", scene.watch.landed()))?
}

/// Holds everything against what was acknowledged, and asks the program to do the same.
fn judge(
    mut report: Report,
    scene: &Scene,
    began: Instant,
) -> anyhow::Result<(Report, Vec<String>)> {
    let account = scene.sender.account();
    let verdict = Verdict::of(&scene.fixture, &account.acknowledged())?;
    let mut problems = verdict.problems();
    if account.failed() > 0 {
        problems.push(format!("{} records were not acknowledged", account.failed()));
    }
    let audit = scene.fixture.run(&["audit", "--drained"]);
    if audit.code != 0 {
        problems.push(format!("sluicegate audit: {}{}", audit.stdout, audit.stderr));
    }
    report.audit = audit.code;
    report.took = seconds(began);
    Ok((report.judged(&verdict), problems))
}

/// Ends the members and the services, and keeps logs and data where something is to be found out.
fn close(scene: Scene, keep: bool) {
    let Scene { services, fixture, members, sender, watch, .. } = scene;
    drop((members, watch, sender));
    let logs = fixture.schemas.path().to_owned();
    // what it would tidy up goes with the services, or is kept
    std::mem::forget(fixture);
    if keep {
        let (data, logs) = (services.keep(), logs.display());
        eprintln!("kept for you to look at, and to delete: {} and {logs}", data.display());
    } else {
        drop(services);
        _ = std::fs::remove_dir_all(logs);
    }
}

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}
