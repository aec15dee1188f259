//! The promises, kept against the real Kafka, schema registry and Postgres.
//!
//! Every test has topics, consumer groups and a database schema of its own, and drives the program
//! as a user does. The services' addresses come from the environment, as `make test` sets it.

mod avro;
mod bad_input;
mod contract_failures;
mod dead_letters;
mod other_languages;
mod refused_rows;
mod support;
