//! The output folder: it is valid exactly when it holds a manifest.
//!
//! Files are written under temporary names until the build is complete; then they are synced and renamed, and the
//! manifest comes last. A lock keeps two builds out of one folder; the system drops it with its process.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fs4::fs_std::FileExt;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::manifest::{FileRecord, Manifest};
use crate::rows::sha256_of_file;
use crate::tokenizer::hex;

/// One line for each row that is not kept.
pub const REJECTS: &str = "rejects.jsonl";
/// Written last: makes the folder valid.
pub const MANIFEST: &str = "manifest.json";
/// Ending of files that are not complete, or belong to a build that is not.
pub const PARTIAL: &str = ".partial";

const BUFFER: usize = 1 << 18;
/// Files are brought to the disk in steps of this size.
const SYNC_BYTES: u64 = 64 << 20;

/// A locked output folder.
#[derive(Debug)]
pub struct OutputFolder {
    path: PathBuf,
    /// The open folder carries the lock.
    handle: File,
    created: bool,
}

impl OutputFolder {
    /// Creates the folder where needed and locks it: for this build alone, or `shared` with builds of other parts.
    pub fn open(path: &Path, shared: bool) -> Result<Self> {
        let created = !path.exists();
        std::fs::create_dir_all(path).map_err(Error::io(path, "create the folder"))?;
        let handle = File::open(path).map_err(Error::io(path, "open the folder"))?;
        // Named in full: newer versions of Rust have a method of the same name.
        let locked = if shared { FileExt::try_lock_shared(&handle) } else { FileExt::try_lock_exclusive(&handle) };
        if !locked.map_err(Error::io(path, "lock the folder"))? {
            return Err(Error::output(path, "another build is writing here; wait for it or choose another --output"));
        }
        Ok(Self { path: path.to_path_buf(), handle, created })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest when the folder already holds undamaged shards of this fingerprint, None when it holds none.
    ///
    /// Fails when it holds others.
    pub fn existing(&self, fingerprint: &str, shard_tokens: u64) -> Result<Option<String>> {
        let path = self.path.join(MANIFEST);
        if !path.exists() {
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
        if manifest.configuration["shard_tokens"] != shard_tokens {
            return refuse("holds the same samples in shards of another size".to_string());
        }
        for (name, record) in &manifest.files {
            let file = self.path.join(name);
            if !file.is_file() || sha256_of_file(&file)? != record.sha256 {
                return refuse(format!("holds shards with a damaged or missing {name}"));
            }
        }
        Ok(Some(text))
    }

    /// Removes everything that builds leave, the manifest first, so that the folder is never valid by half.
    pub fn clear(&self) -> Result<()> {
        remove(&self.path.join(MANIFEST))?;
        for entry in std::fs::read_dir(&self.path).map_err(Error::io(&self.path, "list"))? {
            let entry = entry.map_err(Error::io(&self.path, "list"))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let ours = name.ends_with(PARTIAL) || name == REJECTS || name.ends_with(".journal") || is_shard(&name);
            if ours {
                remove(&entry.path())?;
            }
        }
        self.sync()
    }

    /// Starts a file under its temporary name.
    pub fn create(&self, name: &str) -> Result<OutputFile> {
        let path = self.partial(name);
        let file = File::create(&path).map_err(Error::io(&path, "create"))?;
        Ok(OutputFile {
            name: name.to_string(),
            path,
            file,
            buffer: Vec::new(),
            hash: Sha256::new(),
            size: 0,
            synced: 0,
        })
    }

    /// Goes on with a file of which `size` bytes count; more is cut off.
    ///
    /// Fails when the file is shorter.
    pub fn reopen(&self, name: &str, size: u64) -> Result<OutputFile> {
        let path = self.partial(name);
        let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(Error::io(&path, "open"))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut left = size;
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = file.read(&mut buffer[..most]).map_err(Error::io(&path, "read"))?;
            if count == 0 {
                let message =
                    format!("is shorter than the {size} bytes that were written; start over with --overwrite");
                return Err(Error::output(&path, message));
            }
            hash.update(&buffer[..count]);
            left -= count as u64;
        }
        file.set_len(size).map_err(Error::io(&path, "cut"))?;
        file.seek(SeekFrom::Start(size)).map_err(Error::io(&path, "read"))?;
        Ok(OutputFile { name: name.to_string(), path, file, buffer: Vec::new(), hash, size, synced: size })
    }

    /// Gives a complete file its name.
    pub fn publish(&self, name: &str) -> Result<()> {
        let place = self.path.join(name);
        std::fs::rename(self.partial(name), &place).map_err(Error::io(&place, "rename to"))
    }

    /// The temporary name of a file.
    pub fn partial(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}{PARTIAL}"))
    }

    /// Makes renames and removals durable.
    pub fn sync(&self) -> Result<()> {
        self.handle.sync_all().map_err(Error::io(&self.path, "sync the folder"))
    }

    /// After a build that keeps nothing: removes what it wrote, and the folder too where this build made it.
    pub fn abandon(self) {
        // A failure here has a cause that is reported already; the next build removes the rest.
        let _ = self.clear();
        if self.created {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

fn is_shard(name: &str) -> bool {
    name.strip_prefix("samples-").and_then(|rest| rest.split_once('.')).is_some_and(|(number, ending)| {
        number.bytes().all(|byte| byte.is_ascii_digit()) && (ending == "bin" || ending == "idx")
    })
}

/// Removes a file or folder, if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "remove")(error)),
        _ => Ok(()),
    }
}

/// Writes a file at once: under a temporary name, synced, renamed.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("new.partial");
    let mut file = File::create(&partial).map_err(Error::io(&partial, "create"))?;
    file.write_all(bytes).map_err(Error::io(&partial, "write"))?;
    file.sync_all().map_err(Error::io(&partial, "sync"))?;
    std::fs::rename(&partial, path).map_err(Error::io(path, "rename to"))
}

/// A complete file: its name, its record for the manifest, and the open file.
pub type Finished = (String, FileRecord, File);

/// A file under its temporary name, hashed while it is written.
#[derive(Debug)]
pub struct OutputFile {
    name: String,
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    hash: Sha256,
    size: u64,
    /// Bytes of the file when the system was last asked to bring it to the disk.
    synced: u64,
}

impl OutputFile {
    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.size += bytes.len() as u64;
        if bytes.len() >= BUFFER {
            self.flush()?;
            return self.put(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(Error::io(&self.path, "write"))?;
        if self.size - self.synced >= SYNC_BYTES {
            self.synced = self.size;
            self.sync_ahead();
        }
        Ok(())
    }

    /// Brings what is written to the disk while the build goes on, so that little is left to wait for at the end.
    fn sync_ahead(&self) {
        if let Ok(file) = self.file.try_clone() {
            // The file is synced once more when it is complete: a failure is reported then.
            std::thread::spawn(move || file.sync_data());
        }
    }

    /// Hands everything to the system; returns the bytes written so far.
    pub fn flush(&mut self) -> Result<u64> {
        let buffer = std::mem::take(&mut self.buffer);
        self.put(&buffer)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(self.size)
    }

    /// Ends the file, which is still to be synced.
    pub fn finish(mut self) -> Result<Finished> {
        self.flush()?;
        Ok((self.name, FileRecord { size: self.size, sha256: hex(&self.hash.finalize()) }, self.file))
    }
}
