//! What a person does with dead letters: look, understand, mend, replay.
//!
//! The command line calls what is here, and so may a console.
//!
//! # Layout
//!
//! - [`Filter`]: which dead letters
//! - [`Letter`]: one of them, whole

mod filter;
mod letter;

pub use filter::{Filter, Status};
pub use letter::Letter;
