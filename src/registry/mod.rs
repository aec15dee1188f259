//! The schema registry: which schema an event was written with, and what may be registered.
//!
//! Speaks the Confluent REST interface, which Apicurio, Karapace and Redpanda answer too.
//!
//! What matters here is that failures stay honest. "The registry does not know this id" is the
//! record's fault and ends in a dead letter, so it is said only when the registry itself says so
//! in its own words. Everything else that goes wrong (time-outs, proxies, restarts, replies cut
//! short) is [`Away`], nothing is remembered of it, and the next call asks again.
//!
//! # Layout
//!
//! 1. [`RegistryConfig`]: addresses, credentials, private certificate authority
//! 2. `client`: one HTTP call and the three ways it can fail
//! 3. `lookup`: schema id -> writer's schema, with `references` inlined and `memory` of answers
//! 4. `register`: schema text -> id, under a [`SubjectStrategy`] and a [`Compatibility`] level
//! 5. [`incompatibilities`]: the same judgement offline, and where exactly two schemas disagree
//! 6. [`differences()`]: how two schemas differ, whether or not they disagree

mod config;
pub use config::{RegistryAuth, RegistryConfig};

mod client;

mod error;
pub use error::{Away, FailedLookup, LookupError, RegisterError, RegistryError};

mod lookup;
pub use lookup::{RegisteredSchema, RetryPolicy};

mod memory;

mod references;
pub(crate) use references::parse;

mod register;
pub use register::{LatestSchema, Registration};

mod subject;
pub use subject::SubjectStrategy;

mod level;
pub use level::Compatibility;

mod compatibility;
pub(crate) use compatibility::definition;
pub use compatibility::{incompatibilities, unreadable};

mod differences;
pub use differences::{Difference, differences};

mod versions;
pub use versions::SubjectVersion;

mod types;
pub(crate) use types::{base, promotes, same_name};

#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, RwLock},
    time::Instant,
};

use schema_registry_converter::async_impl::schema_registry::SrSettings;

use self::{client::Client, lookup::UnderWay, memory::Memory};

/// A connection to the schema registry, its cache included; cloning shares both.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    /// The same addresses, credentials and certificates for schema_registry_converter.
    settings: SrSettings,
    memory: RwLock<Memory>,
    under_way: Mutex<UnderWay>,
    /// When the registry wants to be asked again.
    not_before: Mutex<Option<Instant>>,
}

impl Registry {
    /// Prepares the connection; nothing is sent yet.
    ///
    /// Fails on what no retry can mend: an address that is none, credentials that no header can
    /// carry, a certificate file that cannot be read.
    pub fn new(config: &RegistryConfig) -> anyhow::Result<Self> {
        let (client, settings) = config.connect()?;
        let (memory, under_way, not_before) = Default::default();
        let inner = Inner { client, settings, memory, under_way, not_before };
        Ok(Self { inner: Arc::new(inner) })
    }
}
