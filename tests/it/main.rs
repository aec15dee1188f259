//! The promises, kept against the real Kafka, schema registry and Postgres.
//!
//! Every test has topics, consumer groups and a database schema of its own, and drives the program
//! as a user does. The services' addresses come from the environment, as `make test` sets it.

mod cli;

mod contracts;

mod producing;

mod support;

mod tables;
