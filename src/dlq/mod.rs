//! What a person does with dead letters: look, understand, mend, replay.
//!
//! The command line calls what is here, and so may a console.
//!
//! # Layout
//!
//! - [`Filter`]: which dead letters
//! - [`Letter`]: one of them, whole
//! - [`list`]: many of them, in short
//! - [`Replay`]: once more, by today's schemas, rules and labels, into the table
//! - [`decoded`], [`encoded`]: an event that is mended by hand
//! - [`resend`]: onto the topic once more
//! - [`export`]: out of the database, byte for byte
//! - [`settle()`], [`purge`]: put aside, taken up again, forgotten
//! - `history`: what was done, and by whom

mod edit;
mod export;
mod filter;
mod history;
mod letter;
mod list;
mod replay;
mod resend;
mod screen;
mod settle;

pub use edit::{decoded, encoded};
pub use export::export;
pub use filter::{Filter, Status};
pub use letter::Letter;
pub use list::{Page, Summary, list, render_list};
pub use replay::{Replay, ReplayOptions, Replayed};
pub use resend::resend;
pub use screen::width;
pub use settle::{Action, purge, settle};
