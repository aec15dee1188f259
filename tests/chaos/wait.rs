//! Waiting: for conditions with a deadline, never longer than until somebody presses Ctrl-C or the
//! run's time is over.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use tokio::signal::unix::{SignalKind, signal};

/// How long others have the processor between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// After how long it is said what is waited for.
const SAY_AFTER: Duration = Duration::from_secs(15);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

static END: OnceLock<Instant> = OnceLock::new();

/// Nothing waits any longer than for so long from now on.
pub fn end_after(limit: Duration) {
    END.get_or_init(|| Instant::now() + limit);
}

/// From now on SIGINT and SIGTERM end what waits, so that all that was started is ended in order.
pub fn listen_for_interruption() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).unwrap();
            let mut terminate = signal(SignalKind::terminate()).unwrap();
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                INTERRUPTED.store(true, Ordering::Relaxed);
            }
        });
    });
}

/// Whether somebody wants it to end.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Fails once there is nothing to wait for any more.
pub fn go_on() -> anyhow::Result<()> {
    ensure!(!interrupted(), "interrupted");
    let is_over = END.get().is_some_and(|end| Instant::now() > *end);
    ensure!(!is_over, "the time for the whole run is over");
    Ok(())
}

/// Asks again and again until there is an answer.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let began = Instant::now();
    let mut said = false;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        go_on().with_context(|| format!("waiting for {what}"))?;
        if began.elapsed() > limit {
            bail!("waited {} s in vain for {what}", limit.as_secs());
        }
        if !said && began.elapsed() > SAY_AFTER {
            said = true;
            eprintln!("  waiting for {what}");
        }
        std::thread::park_timeout(PAUSE);
    }
}

/// Lets so much of the plan's time pass.
pub fn pass(time: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < time {
        go_on()?;
        std::thread::park_timeout(PAUSE);
    }
    Ok(())
}
