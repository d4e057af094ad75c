//! What takes processed blocks in the order of the input.

use std::collections::BTreeMap;

use serde::Serialize;

use super::process::Processed;
use crate::error::Result;

/// Takes processed blocks in order.
pub(super) trait Sink: Send {
    fn take(&mut self, block: Processed) -> Result<()>;

    /// How far the build is.
    fn status(&self) -> Status;
}

/// How far a build is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// What is being done.
    pub stage: &'static str,
    /// Bytes of input (as they lie on disk) done in this stage.
    pub bytes_done: u64,
    /// Bytes of input in all.
    pub bytes_total: u64,
    /// Rows read.
    pub rows: u64,
    /// Rows kept.
    pub kept: u64,
    /// Tokens kept.
    pub tokens: u64,
    /// Rejected rows by reason.
    pub rejected: BTreeMap<String, u64>,
}

/// Called a few times a second; returning false stops the build with [`crate::Error::Cancelled`].
pub type Progress<'a> = &'a mut dyn FnMut(&Status) -> bool;
