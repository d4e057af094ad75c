//! The class `ShardSet`.

use std::path::PathBuf;

use megatron_sft_core::reader::ShardSet as Core;
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::errors::to_python;

type Sample<'py> = (Bound<'py, PyArray1<i32>>, Bound<'py, PyArray1<u8>>);
type Row<'py> = (
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<f32>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i32>>,
    i32,
    i32,
);

/// Shards of one folder, mapped into memory, as one list of samples.
#[pyclass(frozen, module = "megatron_sft._native")]
pub(crate) struct ShardSet {
    core: Core,
}

#[pymethods]
impl ShardSet {
    #[new]
    fn new(py: Python<'_>, folder: PathBuf, prefixes: Vec<String>) -> PyResult<Self> {
        let core = py.detach(|| Core::open(&folder, &prefixes)).map_err(|error| to_python(py, &error))?;
        Ok(Self { core })
    }

    #[getter]
    fn num_samples(&self) -> u64 {
        self.core.num_samples()
    }

    fn counts(&self) -> Vec<(u64, u64, u64)> {
        self.core.counts().map(|shard| (shard.num_samples, shard.tokens, shard.trained_tokens)).collect()
    }

    fn lengths<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        py.detach(|| self.core.lengths()).into_pyarray(py)
    }

    fn trained_lengths<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        py.detach(|| self.core.trained_lengths()).into_pyarray(py)
    }

    fn sample<'py>(&self, py: Python<'py>, index: u64) -> PyResult<Sample<'py>> {
        let (tokens, trained) = py.detach(|| self.core.sample(index)).map_err(|error| to_python(py, &error))?;
        Ok((tokens.into_pyarray(py), trained.into_pyarray(py)))
    }

    fn fill_row<'py>(
        &self,
        py: Python<'py>,
        indices: PyReadonlyArray1<'py, i64>,
        row_length: Option<u64>,
        token_weights: PyReadonlyArray1<'py, f32>,
    ) -> PyResult<Row<'py>> {
        let (indices, weights) = (indices.as_slice()?, token_weights.as_slice()?);
        let row =
            py.detach(|| self.core.fill_row(indices, row_length, weights)).map_err(|error| to_python(py, &error))?;
        Ok((
            row.tokens.into_pyarray(py),
            row.labels.into_pyarray(py),
            row.loss_weights.into_pyarray(py),
            row.position_ids.into_pyarray(py),
            row.cu_seqlens.into_pyarray(py),
            row.max_seqlen,
            row.num_real_tokens,
        ))
    }
}
