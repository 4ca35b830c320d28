//! Numbers and hashes between Rust and columns.

use bruri_domain::{Body, Chain, Epoch, LogKind, Sha256};

use crate::StoreError;

/// Names a row in errors.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) table: &'static str,
    pub(crate) key: &'a dyn std::fmt::Display,
}

impl Row<'_> {
    pub(crate) fn corrupt(self, column: &'static str) -> StoreError {
        StoreError::Corrupt { table: self.table, column, row: self.key.to_string() }
    }

    pub(crate) fn number(self, column: &'static str, value: i64) -> Result<u64, StoreError> {
        u64::try_from(value).map_err(|_| self.corrupt(column))
    }

    pub(crate) fn sha256(self, column: &'static str, value: &[u8]) -> Result<Sha256, StoreError> {
        Sha256::from_slice(value).ok_or_else(|| self.corrupt(column))
    }

    pub(crate) fn chain(self, column: &'static str, value: &[u8]) -> Result<Chain, StoreError> {
        self.sha256(column, value).map(Chain)
    }

    /// A body that is named and there.
    pub(crate) fn body(
        self,
        sha256: Option<&[u8]>,
        bytes: Option<i32>,
    ) -> Result<Option<Body>, StoreError> {
        let Some((sha256, bytes)) = sha256.zip(bytes) else { return Ok(None) };
        let sha256 = self.sha256("body", sha256)?;
        Ok(Some(Body { sha256, bytes: self.number("bytes", bytes.into())? }))
    }

    pub(crate) fn kind(self, value: i16) -> Result<LogKind, StoreError> {
        match value {
            1 => Ok(LogKind::Control),
            2 => Ok(LogKind::Files),
            _ => Err(self.corrupt("kind")),
        }
    }
}

/// A sequence or time as a column: both stay far below the largest signed number.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// All 64 bits of an epoch as a signed column.
pub(crate) fn epoch_column(epoch: Epoch) -> i64 {
    epoch.0.cast_signed()
}

/// The epoch of a column.
pub(crate) fn epoch(column: i64) -> Epoch {
    Epoch(column.cast_unsigned())
}

pub(crate) fn kind_column(kind: LogKind) -> i16 {
    match kind {
        LogKind::Control => 1,
        LogKind::Files => 2,
    }
}
