//! The promises, kept against the real Kafka, schema registry and Postgres.
//!
//! Every test has topics, consumer groups and a database schema of its own, and drives the program
//! as a user does. The services' addresses come from the environment, as `make test` sets it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on has failed")]
#![allow(unreachable_pub, missing_docs, reason = "nobody depends on a test")]

mod access;
mod analytics;
mod audit;
mod audited_aggregates;
mod avro;
mod back_pressure;
mod bad_input;
mod breaker;
mod chaos_plan;
mod cli;
mod contract_failures;
mod contracts;
mod dashboards;
mod dead_letters;
mod decoded;
mod demo;
mod direct;
mod dlq_looking;
mod dlq_replay;
mod evolution;
mod fates;
mod gaps;
mod healing;
mod idempotence;
mod logs;
mod metrics;
mod other_languages;
mod outage;
mod pages;
mod private;
mod producing;
mod prometheus;
mod proxy;
mod rebalance;
mod refused_rows;
mod registry_suite;
mod restart;
mod rules_test;
mod scripted_registry;
mod secrets;
mod services;
mod shutdown;
mod support;
mod systems;
mod tables;
mod telemetry;
mod types;
