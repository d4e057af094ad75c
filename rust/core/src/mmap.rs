//! Files mapped into memory: with `encoder::prefetch` the only place with `unsafe` code.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// The content of a file, read-only, as it was long when it was opened. Processes that map the same file share its pages.
#[derive(Debug)]
pub(crate) struct MappedFile(Mmap);

impl MappedFile {
    /// Maps the whole file; an empty one gives an empty slice.
    #[allow(unsafe_code)]
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        // SAFETY: a mapping is sound as long as nobody changes or cuts the file while it lives. Shard files are never
        // changed in place: a build writes them under temporary names and renames them once they are complete, and a
        // build that replaces them puts new files in their place, while the mapping keeps the old ones. Whoever writes
        // into the files by hand while a program reads them breaks this; no reader of mapped files can exclude that.
        // The bytes are only ever read as plain integers, for which every value is valid.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path, "map"))?;
        Ok(Self(map))
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_and_its_absence() {
        let folder = tempfile::tempdir().unwrap();
        for content in [&b""[..], b"abc"] {
            std::fs::write(folder.path().join("file"), content).unwrap();
            assert_eq!(MappedFile::open(&folder.path().join("file")).unwrap().as_ref(), content);
        }
        let message = MappedFile::open(&folder.path().join("none")).unwrap_err().to_string();
        assert!(message.contains("none: cannot open"), "{message}");
    }
}
