//! What a person sees while it runs: a screen that is drawn anew on a terminal, a line now and then
//! elsewhere. On standard error, with log lines above it.

use std::{
    collections::{BTreeMap, VecDeque},
    io::Write as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::figures::{Snapshot, StreamFigures};
use crate::screen::table;

/// How often a line is said where there is no screen.
const SAY_EVERY: Duration = Duration::from_secs(2);

/// Over how many looks a rate is taken.
const LOOKS: usize = 8;

/// What is said once it was told to stop.
const STOPPING: &str =
    "\nstopping: what was sent still lands and is audited; once more to stop at once";

/// How many reasons of dead letters are shown.
const MOST_REASONS: usize = 6;

/// The screen.
pub struct View {
    bar: ProgressBar,
    /// Whether lines are said where the bar can't be seen.
    lines: bool,
    duration: Duration,
    address: Option<SocketAddr>,
    /// What had been seen of each stream at the last looks.
    looks: VecDeque<(Instant, BTreeMap<String, i64>)>,
    said: Option<Instant>,
}

impl View {
    /// Draws on a terminal as `bar`, for a run of about this duration; says `lines` where there is none.
    pub fn new(bar: ProgressBar, lines: bool, duration: Duration) -> View {
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        let (address, looks, said) = (None, VecDeque::new(), None);
        View { bar, lines, duration, address, looks, said }
    }

    /// Says what is being done, where there is nothing to count yet.
    pub(super) fn say(&mut self, what: &str) {
        if self.bar.is_hidden() {
            self.line(what);
        } else {
            self.bar.set_message(what.to_owned());
            self.bar.tick();
        }
    }

    /// Notes where the console is.
    pub(super) fn console(&mut self, address: SocketAddr) {
        self.address = Some(address);
    }

    /// Where the console is.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Shows what has come of it; and that it ends, if it was told to stop.
    pub(super) fn show(&mut self, now: &Snapshot, elapsed: Duration, stopping: bool) {
        let seen = now.streams.iter().map(|(stream, figures)| (stream.clone(), figures.seen));
        self.looks.push_back((Instant::now(), seen.collect()));
        if self.looks.len() > LOOKS {
            self.looks.pop_front();
        }
        let stopping = if stopping { STOPPING } else { "" };
        if !self.bar.is_hidden() {
            self.bar.set_message(self.screen(now, elapsed) + stopping);
            self.bar.tick();
        } else if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            self.line(&(self.sentence(now, elapsed) + stopping));
        }
    }

    /// On standard error, where somebody may have stopped listening.
    fn line(&self, line: &str) {
        if self.lines {
            _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// Takes the screen away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn sentence(&self, now: &Snapshot, elapsed: Duration) -> String {
        let sum = |of: fn(&StreamFigures) -> i64| -> i64 { now.streams.values().map(of).sum() };
        let rate: f64 = now.streams.keys().map(|stream| self.rate(stream)).sum();
        let opened: i64 = now.alerts.iter().map(|(_, opened, _)| opened).sum();
        format!(
            "{:.0} s: {rate:.0} events/s, {} landed, {} duplicates, {} dead letters, {opened} alerts",
            elapsed.as_secs_f64(),
            sum(|stream| stream.landed),
            sum(|stream| stream.duplicates),
            sum(|stream| stream.dead_letters),
        )
    }

    fn screen(&self, now: &Snapshot, elapsed: Duration) -> String {
        let elapsed = elapsed.min(self.duration).as_secs_f64();
        let console = self.address.map(|address| format!("  http://{address}/metrics"));
        let header = ["stream", "events/s", "landed", "duplicates", "dead letters"];
        let mut table = table(header, 1..=4);
        for (stream, figures) in &now.streams {
            table.add_row([
                stream.clone(),
                format!("{:.0}", self.rate(stream)),
                figures.landed.to_string(),
                figures.duplicates.to_string(),
                figures.dead_letters.to_string(),
            ]);
        }
        format!(
            "sluicegate demo  {elapsed:.1} s of {:.0} s{}\n{table}\n{}",
            self.duration.as_secs_f64(),
            console.unwrap_or_default(),
            dead_letters_and_alerts(now),
        )
    }

    /// Records of a stream that were accounted for in a second, lately.
    fn rate(&self, stream: &str) -> f64 {
        let (Some((since, before)), Some((until, now))) = (self.looks.front(), self.looks.back())
        else {
            return 0.0;
        };
        let of = |seen: &BTreeMap<String, i64>| seen.get(stream).copied().unwrap_or(0);
        let more = u32::try_from(of(now) - of(before)).unwrap_or(0);
        let seconds = until.duration_since(*since).as_secs_f64();
        if seconds > 0.0 { f64::from(more) / seconds } else { 0.0 }
    }
}

/// Dead letters by reason and alerts by name, a line each; nothing of what there is none of.
pub(super) fn dead_letters_and_alerts(now: &Snapshot) -> String {
    let mut lines = Vec::new();
    if !now.reasons.is_empty() {
        lines.push("dead letters by reason".to_owned());
    }
    let shown = now.reasons.iter().take(MOST_REASONS);
    lines.extend(shown.map(|(reason, count)| format!("  {count:>6}  {reason}")));
    if let Some(rest) = now.reasons.get(MOST_REASONS..).filter(|rest| !rest.is_empty()) {
        let count: i64 = rest.iter().map(|(_, count)| count).sum();
        lines.push(format!("  {count:>6}  {} other reasons", rest.len()));
    }
    if !now.alerts.is_empty() {
        lines.push("alerts opened, and resolved of them".to_owned());
    }
    let alerts = now.alerts.iter();
    lines.extend(
        alerts.map(|(name, opened, resolved)| format!("  {opened:>6} {resolved:>6}  {name}")),
    );
    lines.join("\n")
}
