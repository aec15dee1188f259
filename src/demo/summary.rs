//! What came of it, and what to do next.

use std::{net::SocketAddr, time::Duration};

use super::{DemoOptions, figures::Snapshot, services::Services, view::dead_letters_and_alerts};
use crate::{
    audit::{self, Report},
    produce::Produced,
    screen::table,
};

/// What came of it.
pub(super) struct Summary<'s> {
    /// What was sent of each stream,
    pub(super) sent: &'s [(String, Produced)],
    /// and how long that took.
    pub(super) took: Duration,
    pub(super) figures: &'s Snapshot,
    pub(super) audit: &'s Report,
}

impl Summary<'_> {
    pub(super) fn render(&self) -> String {
        let mut sent: Vec<&(String, Produced)> = self.sent.iter().collect();
        sent.sort_by(|(one, _), (other, _)| one.cmp(other));
        let header = ["stream", "sent", "landed", "duplicates", "dead letters"];
        let mut table = table(header, 1..=4);
        for (stream, produced) in &sent {
            let figures = self.figures.streams.get(stream).copied().unwrap_or_default();
            table.add_row([
                stream.clone(),
                produced.delivered.to_string(),
                figures.landed.to_string(),
                figures.duplicates.to_string(),
                figures.dead_letters.to_string(),
            ]);
        }
        let delivered: u64 = sent.iter().map(|(_, produced)| produced.delivered).sum();
        format!(
            "{table}\n{}\n\n{delivered} events in {:.1} s; {}",
            dead_letters_and_alerts(self.figures),
            self.took.as_secs_f64(),
            self.verdict(),
        )
    }

    fn verdict(&self) -> String {
        if self.audit.complete {
            let checks: usize = self.audit.streams.iter().map(|stream| stream.checks.len()).sum();
            format!("the audit's {checks} checks agree: nothing is missing, nothing is there twice")
        } else {
            format!("the audit finds {} gaps:\n{}", self.audit.gaps, audit::render(self.audit))
        }
    }
}

/// Three commands to try next, and where the console is.
pub(super) fn next_steps(
    services: &Services,
    hold: bool,
    console: Option<SocketAddr>,
    stream: &str,
) -> anyhow::Result<String> {
    let program = program();
    let console = console.map(|address| format!("http://{address}/metrics")).unwrap_or_default();
    if !hold {
        return Ok(format!(
            "\nTry next:\n  {program} demo --hold\n    \
             the same, and all of it stays up to be looked at: dead letters, psql,\n    \
             and the console, which was {console}\n  \
             {program} demo --stream {stream} --rate 1000 --duration 1m\n    more of one system\n  \
             make up && make produce && make consume\n    the same on real services"
        ));
    }
    let settings = services.settings()?;
    let settings: String =
        settings.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
    Ok(format!(
        "\nAll of it stays up until Ctrl-C; the console is {console}. In another terminal:\n\n\
         {settings}\
         {program} dlq list\n\
         {program} produce {stream} --count 1000\n\
         psql \"$DATABASE_URL\" -c 'SELECT * FROM alerts'"
    ))
}

/// Where the database is that is kept, if it is, and how to start it again.
pub(super) fn kept(services: &Services, options: &DemoOptions) -> Option<String> {
    let postgres = &services.postgres;
    options.keep.then(|| {
        format!(
            "\nThe database is kept in {}; to start it again and look:\n\n{}\npsql '{}'",
            postgres.folder().display(),
            postgres.start_again(),
            postgres.url()
        )
    })
}

/// The program, as it was called.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "sluicegate".to_owned())
}
