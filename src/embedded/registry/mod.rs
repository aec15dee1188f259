//! A schema registry inside the process, with Confluent's REST interface: for `sluicegate demo` and
//! for tests. What is registered is gone when it stops.
//!
//! # Layout
//!
//! 1. [`EmbeddedRegistry`]: where it listens
//! 2. `routes`: paths and bodies
//! 3. `store`: subjects, versions and ids, without HTTP
//! 4. `verdict`: whether versions are compatible
//! 5. `refusal`: what it says no with

mod refusal;
mod routes;
mod store;
mod verdict;

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::http::{self, Serving};

/// A registry that answers until it is dropped.
#[derive(Debug)]
pub struct EmbeddedRegistry {
    serving: Serving,
    _stop: DropGuard,
}

impl EmbeddedRegistry {
    /// Starts one on a port of this machine's that is free; nobody else's machine can reach it.
    pub async fn start() -> anyhow::Result<EmbeddedRegistry> {
        let stop = CancellationToken::new();
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let serving = http::listen(&[anywhere], routes::routes(), stop.clone())
            .await
            .context("the embedded schema registry can't start")?;
        Ok(EmbeddedRegistry { serving, _stop: stop.drop_guard() })
    }

    /// Where it is, as SCHEMA_REGISTRY_URL has it.
    pub fn url(&self) -> String {
        format!("http://{}", self.serving.address())
    }
}
