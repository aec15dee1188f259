//! Sluicegate: Avro events from Kafka, held against their contracts, landed in Postgres exactly
//! once.
//!
//! # Layout
//!
//! In the order in which an event flows:
//!
//! ```text
//! source -> encode -> topic -> [poll -> decode -> check -> label] -> sink -> commit -> outbox -> DLQ topic
//! ```
//!
//! What decides is pure and apart from what reads and writes: [`contract`], [`wire`], [`codec`],
//! [`check`], [`label`] and [`failure`] need no service; the others are thin around them.

pub mod contract;

pub mod registry;

pub mod register;

pub mod tables;

pub mod source;

pub mod produce;

pub mod broker;

pub mod consume;

pub mod wire;

pub mod codec;

pub mod check;

pub mod label;

pub mod batch;

pub mod failure;

pub mod retry;

pub mod sink;

pub mod outbox;

pub mod stats;

pub mod cli;

pub mod config;

pub mod secret;

pub mod sql;
