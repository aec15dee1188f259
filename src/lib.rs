//! Sluicegate: Avro events from Kafka, held against their contracts, landed in Postgres exactly
//! once.
//!
//! # Layout
//!
//! ```text
//! source -> encode -> topic -> [poll -> decode -> check -> label] -> sink -> commit -> outbox -> DLQ topic
//! ```
//!
//! In the order in which an event flows:
//!
//! | module | what it is |
//! |---|---|
//! | [`contract`] | what a schema declares about its events |
//! | [`registry`], [`register`] | writers' schemas by id; contracts as subjects |
//! | [`tables`] | contracts as tables |
//! | [`source`] | where readings come from: simulated, files, HTTP |
//! | [`codec`], [`wire`] | event <-> Avro; the five-byte header |
//! | [`produce`] | readings onto their topic |
//! | [`broker`] | librdkafka's settings, and topics |
//! | [`consume`] | the pipeline: poll, fan out, commit, rebalance, shut down |
//! | `prepare` | records to a decided batch: decode, check, label |
//! | [`check`], [`label`] | the contract's rules and labels |
//! | [`batch`] | what moves through the pipeline together |
//! | [`sink`] | the one transaction: rows, aggregates, dead letters, ledger |
//! | [`outbox`] | dead letters onto their topic |
//! | [`analytics`] | every minute: metrics of closed buckets, and alerts over them |
//! | [`notify`] | alerts onto their topic and to a webhook |
//! | [`dlq`] | dead letters: looked at, explained, mended, replayed |
//! | [`backtest`] | what rules and labels would change about what is there |
//! | [`stats`] | what a person asks afterwards |
//! | [`aggregates`] | whether they are what the rows make |
//! | [`audit`] | whether nothing is missing |
//! | [`metrics`], [`http`] | what the pipeline does, as Prometheus reads it; where it is read |
//! | [`serve`] | analytics, alerts and their pages in one process |
//! | [`demo`], [`embedded`] | all of it in one process, and the services that it runs on |
//! | [`failure`], [`retry`] | record, dependency or contract; waiting for a dependency |
//! | [`cli`], [`config`], [`secret`], [`sql`], [`tls`], `panics`, `screen` | the edges |
//!
//! What decides is pure and apart from what reads and writes: [`contract`], [`wire`], [`codec`],
//! [`check`], [`label`] and [`failure`] need no service.
//!
//! Foreign bytes, files and configuration arrive nearly everywhere, so what could panic on them, or
//! lose a part of a number, is denied everywhere; a place that can't meet them says so in its
//! `expect` or `allow`.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss
    )
)]

pub mod contract;

pub mod registry;

pub mod register;

pub mod tables;

pub mod source;

pub mod codec;

pub mod wire;

pub mod produce;

pub mod broker;

pub mod consume;

mod prepare;

pub mod check;

pub mod label;

pub mod batch;

pub mod sink;

pub mod outbox;

pub mod analytics;

pub mod notify;

pub mod dlq;

pub mod backtest;

pub mod stats;

pub mod aggregates;

pub mod audit;

pub mod metrics;

pub mod http;

pub mod serve;

pub mod demo;

pub mod embedded;

pub mod failure;

pub mod retry;

pub mod cli;

pub mod config;

pub mod secret;

pub mod sql;

pub mod tls;

mod panics;

mod screen;
