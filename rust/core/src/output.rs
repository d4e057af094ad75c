//! The output folder: it is valid exactly when it holds a manifest.
//!
//! Files are written under a temporary name, synced, renamed, and the manifest comes last. A build that dies leaves only
//! files that the next one recognises and removes. A lock keeps two builds out of one folder; the system drops it with
//! its process.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use fs4::fs_std::FileExt;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::manifest::{FileRecord, Manifest};
use crate::rows::sha256_of_file;
use crate::tokenizer::hex;

/// Ids of all sequences.
pub const BIN: &str = "samples.bin";
/// Index of the sequences.
pub const IDX: &str = "samples.idx";
/// One line for each row that is not kept.
pub const REJECTS: &str = "rejects.jsonl";
/// Written last: makes the folder valid.
pub const MANIFEST: &str = "manifest.json";

const FILES: [&str; 4] = [MANIFEST, BIN, IDX, REJECTS];
const PARTIAL: &str = ".partial";

/// A locked output folder.
#[derive(Debug)]
pub struct OutputFolder {
    path: PathBuf,
    /// The open folder carries the lock.
    handle: File,
    created: bool,
}

impl OutputFolder {
    /// Creates the folder where needed and locks it.
    pub fn open(path: &Path) -> Result<Self> {
        let created = !path.exists();
        std::fs::create_dir_all(path).map_err(Error::io(path, "create the folder"))?;
        let handle = File::open(path).map_err(Error::io(path, "open the folder"))?;
        if !handle.try_lock_exclusive().map_err(Error::io(path, "lock the folder"))? {
            return Err(Error::output(path, "another build is writing here; wait for it or choose another --output"));
        }
        Ok(Self { path: path.to_path_buf(), handle, created })
    }

    /// The manifest when the folder already holds undamaged shards of this fingerprint, None when it is free to use.
    ///
    /// Fails when it holds others and `overwrite` is false.
    pub fn existing(&self, fingerprint: &str, overwrite: bool) -> Result<Option<String>> {
        let path = self.path.join(MANIFEST);
        if overwrite || !path.exists() {
            return Ok(None);
        }
        let refuse = |why: String| {
            Err(Error::output(&self.path, format!("{why}; replace them with --overwrite or choose another --output")))
        };
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
        let Ok(manifest) = serde_json::from_str::<Manifest>(&text) else {
            return refuse("holds shards whose manifest cannot be read".to_string());
        };
        if manifest.fingerprint != fingerprint {
            return refuse(format!(
                "holds shards of another fingerprint ({}, this build: {fingerprint}): inputs, tokenizer or options differ",
                manifest.fingerprint
            ));
        }
        for (name, record) in &manifest.files {
            let file = self.path.join(name);
            if !file.is_file() || sha256_of_file(&file)? != record.sha256 {
                return refuse(format!("holds shards with a damaged or missing {name}"));
            }
        }
        Ok(Some(text))
    }

    /// Removes what a former or a killed build left, the manifest first, so the folder is never valid by half.
    pub fn clear(&self) -> Result<()> {
        for name in FILES {
            for name in [name.to_string(), format!("{name}{PARTIAL}")] {
                let path = self.path.join(name);
                if path.exists() {
                    std::fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
                }
            }
        }
        self.sync()
    }

    /// Starts a file under its temporary name.
    pub fn create(&self, name: &'static str) -> Result<OutputFile> {
        let partial = self.path.join(format!("{name}{PARTIAL}"));
        let file = File::create(&partial).map_err(Error::io(&partial, "create"))?;
        let place = self.path.join(name);
        Ok(OutputFile {
            name,
            partial,
            place,
            file: BufWriter::with_capacity(1 << 20, file),
            hash: Sha256::new(),
            size: 0,
        })
    }

    /// Makes renames and removals durable.
    pub fn sync(&self) -> Result<()> {
        self.handle.sync_all().map_err(Error::io(&self.path, "sync the folder"))
    }

    /// After a failed build: removes temporary files, and the folder too where this build made it and nothing is left.
    pub fn abandon(self) {
        for name in FILES {
            // A failure here has a cause that was reported already; the next build removes the rest.
            let _ = std::fs::remove_file(self.path.join(format!("{name}{PARTIAL}")));
        }
        if self.created {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

/// A file under its temporary name, hashed while it is written.
#[derive(Debug)]
pub struct OutputFile {
    name: &'static str,
    partial: PathBuf,
    place: PathBuf,
    file: BufWriter<File>,
    hash: Sha256,
    size: u64,
}

impl OutputFile {
    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io(&self.partial, "write"))?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Syncs the file and gives it its name; returns name and record for the manifest.
    pub fn commit(mut self) -> Result<(String, FileRecord)> {
        self.file.flush().map_err(Error::io(&self.partial, "write"))?;
        self.file.get_ref().sync_all().map_err(Error::io(&self.partial, "sync"))?;
        std::fs::rename(&self.partial, &self.place).map_err(Error::io(&self.place, "rename to"))?;
        Ok((self.name.to_string(), FileRecord { size: self.size, sha256: hex(&self.hash.finalize()) }))
    }
}
