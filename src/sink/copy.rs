//! Rows to Postgres in the binary format of its COPY.

use sqlx::{PgConnection, postgres::PgCopyIn};

use super::row::put;
use crate::{failure::Failure, sql::quoted_list};

/// The signature, with no flags and no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

const TRAILER: [u8; 2] = (-1i16).to_be_bytes();

/// How much is sent at once, in bytes: Postgres reads one part while the next is put together.
const PART: usize = 128 << 10;

/// What rows are copied into.
#[derive(Debug, Clone)]
pub(super) struct CopyInto {
    statement: String,
    columns: i16,
}

impl CopyInto {
    /// Some columns of a table, whose name is quoted where it has to be.
    pub(super) fn new(table: &str, columns: &[&str]) -> CopyInto {
        let names = quoted_list(columns.iter().copied());
        CopyInto {
            statement: format!("COPY {table} ({names}) FROM STDIN (FORMAT binary)"),
            // a table of Postgres's has up to 1,600
            columns: i16::try_from(columns.len()).unwrap_or(i16::MAX),
        }
    }
}

/// A `COPY` under way.
pub(super) struct Copy<'c> {
    copy: PgCopyIn<&'c mut PgConnection>,
    columns: i16,
    part: Vec<u8>,
}

impl<'c> Copy<'c> {
    /// Begins one.
    pub(super) async fn begin(
        connection: &'c mut PgConnection,
        into: &CopyInto,
    ) -> Result<Copy<'c>, Failure> {
        let copy = connection.copy_in_raw(&into.statement).await?;
        let mut part = Vec::with_capacity(PART + (PART >> 2));
        part.extend_from_slice(HEADER);
        Ok(Copy { copy, columns: into.columns, part })
    }

    /// Adds a row: first numbers, then columns that have their lengths already.
    pub(super) async fn row(&mut self, numbers: &[i32], columns: &[u8]) -> Result<(), Failure> {
        self.part.extend_from_slice(&self.columns.to_be_bytes());
        numbers.iter().for_each(|number| put(&mut self.part, &number.to_be_bytes()));
        self.part.extend_from_slice(columns);
        if self.part.len() >= PART {
            self.copy.send(self.part.as_slice()).await?;
            self.part.clear();
        }
        Ok(())
    }

    /// Ends it, and gives the number of rows that were written.
    pub(super) async fn finish(mut self) -> Result<u64, Failure> {
        self.part.extend_from_slice(&TRAILER);
        self.copy.send(self.part).await?;
        Ok(self.copy.finish().await?)
    }
}
