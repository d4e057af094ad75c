//! Data layer of megatron-sft: rows of reasoning traces become verified, tokenized shards.
//!
//! The path of a row: [`rows`] reads it from JSON Lines or Parquet, [`sample`] renders its prompt with the chat
//! template, tokenizes prompt and response and verifies the answer, [`indexed`] writes the ids in Megatron-Core's
//! `IndexedDataset` layout, and [`build`] runs the stages on several threads and finishes with the [`manifest`].
//!
//! The way back: [`reader`] maps shards into memory and lays samples out as rows, which [`packing`] chooses.
//!
//! This crate knows no Python; the bindings are a crate of their own.
#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod answer;
pub mod build;
pub mod config;
mod conversation;
pub mod duplicates;
pub mod encoder;
pub mod error;
pub mod filters;
pub mod indexed;
mod join;
pub mod manifest;
mod mmap;
pub mod output;
pub mod packing;
pub mod reader;
pub mod reason;
pub mod rows;
pub mod sample;
pub mod template;
pub mod tokenizer;
pub mod verifiers;
pub mod verify;

pub use error::{Error, Result};
