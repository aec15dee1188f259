//! Rows to Postgres in the binary format of its COPY.

use sqlx::{PgConnection, postgres::PgCopyIn};

use crate::failure::Failure;

/// The signature, with no flags and no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

const TRAILER: [u8; 2] = (-1i16).to_be_bytes();

/// How much is sent at once, in bytes: Postgres reads one part while the next is put together.
const PART: usize = 128 << 10;

/// A `COPY ... FROM STDIN (FORMAT binary)` under way.
pub(super) struct Copy<'c> {
    copy: PgCopyIn<&'c mut PgConnection>,
    part: Vec<u8>,
}

impl<'c> Copy<'c> {
    /// Begins one.
    pub(super) async fn begin(
        connection: &'c mut PgConnection,
        statement: &str,
    ) -> Result<Copy<'c>, Failure> {
        let copy = connection.copy_in_raw(statement).await?;
        let mut part = Vec::with_capacity(PART + (PART >> 2));
        part.extend_from_slice(HEADER);
        Ok(Copy { copy, part })
    }

    /// Adds a row of so many columns: first numbers, then cells that have their lengths already.
    pub(super) async fn row(
        &mut self,
        columns: i16,
        numbers: &[i32],
        cells: &[u8],
    ) -> Result<(), Failure> {
        self.part.extend_from_slice(&columns.to_be_bytes());
        for number in numbers {
            self.part.extend_from_slice(&4i32.to_be_bytes());
            self.part.extend_from_slice(&number.to_be_bytes());
        }
        self.rows(cells).await
    }

    /// Adds rows that are in COPY's format already.
    pub(super) async fn rows(&mut self, rows: &[u8]) -> Result<(), Failure> {
        self.part.extend_from_slice(rows);
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
