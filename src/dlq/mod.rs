//! What a person does with dead letters: look, understand, mend, replay.
//!
//! The command line calls what is here, and so may a console.
//!
//! # Layout
//!
//! - [`Filter`]: which dead letters
//! - [`Letter`]: one of them, whole
//! - [`list()`], [`stats()`]: many of them, in short
//! - [`Shown`]: one of them for a person, its history included
//! - [`explain()`]: why it is one, and whether it would be one today
//! - [`shown`], [`Preview`]: what may be seen of an event
//! - `screen`, `hexdump`: how a terminal shows it
//! - [`Replay`]: once more, by today's schemas, rules and labels, into the table
//! - [`decoded`], [`encoded`]: an event that is mended by hand
//! - [`resend()`]: onto the topic once more
//! - [`export()`]: out of the database, byte for byte
//! - [`settle()`], [`purge`]: put aside, taken up again, forgotten
//! - `deeds`: what was done, written down

mod deeds;
mod edit;
mod explain;
mod export;
mod filter;
mod hexdump;
mod letter;
mod list;
mod preview;
mod replay;
mod resend;
mod screen;
mod settle;
mod show;
mod stats;

pub use edit::{decoded, encoded};
pub use explain::{
    Body, Constraint, Explanation, Expression, Header, Today, Written, explain, render_explanation,
};
pub use export::export;
pub use filter::{Filter, Status};
pub use letter::Letter;
pub use list::{Page, Summary, list, render_list};
pub use preview::{Preview, shown};
pub use replay::{Edited, Replay, ReplayOptions, Replayed};
pub use resend::{Resent, resend};
pub use screen::width;
pub(crate) use screen::{cut, minute};
pub use settle::{Action, purge, settle};
pub use show::{Deed, Shown, history, render_shown};
pub use stats::{By, Count, render_stats, stats};
