//! The journal of an unfinished build: what is on disk for good, and where to go on.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::account::Account;
use crate::error::{Error, Result};
use crate::manifest::{FileRecord, ShardRecord};
use crate::output::write_whole;

/// Name of the file; its presence marks an unfinished build.
pub(super) const JOURNAL: &str = "build.journal";

/// State behind the last complete shard. Everything on disk that it does not name is discarded on resuming.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Journal {
    /// Fingerprint of the build.
    pub(super) fingerprint: String,
    /// Size of shards, which the fingerprint leaves out.
    pub(super) shard_tokens: u64,
    pub(super) account: Account,
    /// Bytes of `rejects.jsonl` that belong to the accounted rows.
    pub(super) rejects_bytes: u64,
    /// Bytes of the memory of duplicates that belong to the accounted rows.
    pub(super) seen_bytes: u64,
    pub(super) shards: Vec<ShardRecord>,
    /// The shards' files, still under their temporary names.
    pub(super) files: BTreeMap<String, FileRecord>,
}

impl Journal {
    /// The journal of `folder`, or None when there is none.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(JOURNAL);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
        serde_json::from_str(&text).map(Some).map_err(|error| {
            Error::output(folder, format!("{JOURNAL} cannot be read ({error}); start over with --overwrite"))
        })
    }

    /// Replaces the journal of `folder`.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string(self).expect("a journal is valid JSON");
        write_whole(&folder.join(JOURNAL), text.as_bytes())
    }
}
