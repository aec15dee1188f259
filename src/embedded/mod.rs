//! Services inside the process, or in children of it, that are gone with it: what `sluicegate demo`
//! runs on, and the tests that do not need the real ones.
//!
//! The pipeline knows nothing of them: it reaches them by their addresses, as it reaches any.

mod broker;
mod postgres;
mod registry;

pub use broker::EmbeddedBroker;
pub use postgres::PrivatePostgres;
pub use registry::EmbeddedRegistry;
