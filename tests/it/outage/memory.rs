//! `--max-outage`
