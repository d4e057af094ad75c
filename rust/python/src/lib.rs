//! `megatron_sft._native`: the data layer for Python.
//!
//! Each function converts its arguments, releases the GIL, calls the core crate and maps the error in `errors`.

mod convert;
mod errors;
mod packing;
mod reader;
mod shards;
mod tokenizer;
mod verify;

use pyo3::prelude::*;

/// Data layer of megatron-sft, written in Rust.
#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::packing::{pack_rows, plan_rows};
    #[pymodule_export]
    use crate::reader::ShardSet;
    #[pymodule_export]
    use crate::shards::{build_shards, preview_shards, show_sample};
    #[pymodule_export]
    use crate::tokenizer::ChatTokenizer;
    #[pymodule_export]
    use crate::verify::{answer_text, decide_math, last_boxed, verify_countdown, verify_math, MathVerifier};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::errors::register(module)
    }
}
