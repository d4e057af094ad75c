//! Which files are read, under which names, and what they contain.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::tokenizer::hex;

/// How the rows of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON Lines.
    Jsonl,
    /// JSON Lines, compressed with gzip.
    JsonlGz,
    /// JSON Lines, compressed with Zstandard.
    JsonlZst,
    /// Apache Parquet.
    Parquet,
}

/// One input file.
#[derive(Debug, Clone)]
pub struct Input {
    /// Where the file is.
    pub path: PathBuf,
    /// Its path below the folder that holds all inputs: the same on every machine.
    pub name: String,
    /// How its rows are written.
    pub format: Format,
    /// Size in bytes.
    pub size: u64,
    modified: Option<SystemTime>,
}

impl Input {
    /// Fails when the file was changed since the build began: its hash would not describe what was read.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        let metadata = std::fs::metadata(&self.path).map_err(Error::io(&self.path, "look at"))?;
        if metadata.len() != self.size || metadata.modified().ok() != self.modified {
            return Err(Error::input(
                &self.path,
                "was changed while it was being read; build again when it is at rest",
            ));
        }
        Ok(())
    }
}

/// Names the files.
///
/// Fails for a file that is missing, named twice, or of an unknown ending.
pub fn resolve(paths: &[PathBuf]) -> Result<Vec<Input>> {
    let (mut seen, mut absolute) = (Vec::new(), Vec::new());
    for path in paths {
        let file = path.canonicalize().map_err(Error::io(path, "open"))?;
        if seen.contains(&file) {
            return Err(Error::input(path, "is named twice; its rows would be trained twice as often"));
        }
        absolute.push(absolute_path(path).map_err(Error::io(path, "open"))?);
        seen.push(file);
    }
    let root = common_parent(&absolute);
    paths.iter().zip(&absolute).map(|(path, absolute)| inspect(path, absolute, &root)).collect()
}

/// A link keeps its own name: what it points to may be called differently on another machine.
fn absolute_path(path: &Path) -> std::io::Result<PathBuf> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(parent.canonicalize()?.join(path.file_name().unwrap_or_default()))
}

fn inspect(path: &Path, absolute: &Path, root: &Path) -> Result<Input> {
    let metadata = std::fs::metadata(path).map_err(Error::io(path, "look at"))?;
    if metadata.is_dir() {
        return Err(Error::input(
            path,
            "is a folder; name the files in it, for example with a pattern such as 'dir/*.jsonl'",
        ));
    }
    let format = format_of(path)?;
    let name = absolute.strip_prefix(root).unwrap_or(absolute).to_string_lossy().into_owned();
    Ok(Input { path: path.to_path_buf(), name, format, size: metadata.len(), modified: modified(&metadata) })
}

fn modified(metadata: &Metadata) -> Option<SystemTime> {
    metadata.modified().ok()
}

fn format_of(path: &Path) -> Result<Format> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if ends(&[".jsonl", ".ndjson"]) {
        Ok(Format::Jsonl)
    } else if ends(&[".jsonl.gz", ".ndjson.gz"]) {
        Ok(Format::JsonlGz)
    } else if ends(&[".jsonl.zst", ".ndjson.zst"]) {
        Ok(Format::JsonlZst)
    } else if ends(&[".parquet"]) {
        Ok(Format::Parquet)
    } else {
        Err(Error::input(path, "has an unknown ending; rows are read from .jsonl, .jsonl.gz, .jsonl.zst and .parquet"))
    }
}

/// The deepest folder that holds all files.
fn common_parent(files: &[PathBuf]) -> PathBuf {
    let mut parents = files.iter().filter_map(|file| file.parent());
    let mut root = parents.next().unwrap_or(Path::new("/")).to_path_buf();
    for parent in parents {
        while !parent.starts_with(&root) && root.pop() {}
    }
    root
}

/// sha256 of a file's content, in hex.
pub(crate) fn sha256_of_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).map_err(Error::io(path, "read"))?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_to_the_common_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        let (one, two) = (folder.path().join("a.jsonl"), folder.path().join("b/a.jsonl"));
        std::fs::write(&one, "x").unwrap();
        std::fs::write(&two, "y").unwrap();
        let inputs = resolve(&[two.clone(), one.clone()]).unwrap();
        assert_eq!(inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>(), ["b/a.jsonl", "a.jsonl"]);
        assert_eq!(resolve(std::slice::from_ref(&two)).unwrap()[0].name, "a.jsonl");
        assert!(resolve(&[one.clone(), one]).unwrap_err().to_string().contains("named twice"));
    }

    #[test]
    fn unknown_endings_and_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        std::fs::write(&path, "").unwrap();
        assert!(resolve(&[path]).unwrap_err().to_string().contains("unknown ending"));
        assert!(resolve(&[folder.path().to_path_buf()]).unwrap_err().to_string().contains("is a folder"));
        assert!(resolve(&[folder.path().join("none.jsonl")]).unwrap_err().to_string().contains("none.jsonl"));
    }
}
