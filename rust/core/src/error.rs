//! What can end a build or keep a tokenizer from loading. A bad *row* is no error: see [`crate::sample::Reason`].

use std::io;
use std::path::{Path, PathBuf};

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// An error that ends the operation. Every message names the file or value and what to change.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused to read, write or rename a file.
    #[error("{path}: cannot {action}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb phrase: "read", "write".
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// An option, or a combination of options, that cannot work.
    #[error("{0}")]
    Config(String),
    /// A tokenizer folder that lacks a part or contradicts itself.
    #[error("{path}: {message}", path = path.display())]
    Tokenizer {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What is wrong and what to change.
        message: String,
    },
    /// An input file that cannot be read as rows at all.
    #[error("{path}: {message}", path = path.display())]
    Input {
        /// The input file.
        path: PathBuf,
        /// What is wrong and what to change.
        message: String,
    },
    /// The output folder cannot take the shards.
    #[error("{path}: {message}", path = path.display())]
    Output {
        /// The output folder.
        path: PathBuf,
        /// What is wrong and what to change.
        message: String,
    },
    /// A file of a shard folder that is damaged.
    #[error("{path}: {message}", path = path.display())]
    Shards {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what to change.
        message: String,
    },
    /// Numbers handed in that no valid shard folder gives, or that cannot be worked with.
    #[error("{0}")]
    Data(String),
    /// The chat template failed on these messages.
    #[error("the chat template failed: {0}")]
    Template(String),
    /// The tokenizer failed on this text.
    #[error("the tokenizer failed: {0}")]
    Encode(String),
    /// The caller's progress function asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

impl Error {
    /// An adapter for `map_err` on system calls that touch `path`.
    pub fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { path, action, source }
    }

    /// A problem with the tokenizer folder or a file in it.
    pub fn tokenizer(path: &Path, message: impl Into<String>) -> Error {
        Error::Tokenizer { path: path.to_path_buf(), message: message.into() }
    }

    /// A problem with an input file.
    pub fn input(path: &Path, message: impl Into<String>) -> Error {
        Error::Input { path: path.to_path_buf(), message: message.into() }
    }

    /// A problem with the output folder.
    pub fn output(path: &Path, message: impl Into<String>) -> Error {
        Error::Output { path: path.to_path_buf(), message: message.into() }
    }

    /// A problem with a file of a shard folder.
    pub fn shards(path: &Path, message: impl Into<String>) -> Error {
        Error::Shards { path: path.to_path_buf(), message: message.into() }
    }
}
