//! The functions `pack_rows` and `plan_rows`.

use megatron_sft_core::packing::{self, PackedRows, RowCost};
use megatron_sft_core::Result;
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::errors::to_python;

/// `order`, `row_starts` and the length of the longest row.
type Plan<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>, i64);
type Arrays<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

/// Lengths of samples as either type that numpy arrays of them have; they must be contiguous.
#[derive(FromPyObject)]
pub(crate) enum Lengths<'py> {
    Int32(PyReadonlyArray1<'py, i32>),
    Int64(PyReadonlyArray1<'py, i64>),
}

/// Packs a whole set of samples; returns `order` and `row_starts`.
#[pyfunction]
#[pyo3(signature = (lengths, seq_length, seed = None))]
pub(crate) fn pack_rows<'py>(
    py: Python<'py>,
    lengths: Lengths<'py>,
    seq_length: i64,
    seed: Option<u64>,
) -> PyResult<Arrays<'py>> {
    let packed = match &lengths {
        Lengths::Int32(array) => {
            let lengths = array.as_slice()?;
            py.detach(|| packing::pack_rows(lengths, seq_length, seed))
        }
        Lengths::Int64(array) => {
            let lengths = array.as_slice()?;
            py.detach(|| packing::pack_rows(lengths, seq_length, seed))
        }
    };
    arrays(py, packed)
}

/// Packs one global batch and deals its rows to ranks; returns `order` and `row_starts`, rank after rank, and the
/// length of the longest row, rounded up.
#[pyfunction]
pub(crate) fn plan_rows<'py>(
    py: Python<'py>,
    lengths: Lengths<'py>,
    seq_length: i64,
    multiple: i64,
    dp_size: usize,
    linear_cost: u32,
) -> PyResult<Plan<'py>> {
    let cost = RowCost { linear: linear_cost };
    let plan = match &lengths {
        Lengths::Int32(array) => {
            let lengths = array.as_slice()?;
            py.detach(|| packing::plan_rows(lengths, seq_length, multiple, dp_size, cost))
        }
        Lengths::Int64(array) => {
            let lengths = array.as_slice()?;
            py.detach(|| packing::plan_rows(lengths, seq_length, multiple, dp_size, cost))
        }
    };
    let plan = plan.map_err(|error| to_python(py, &error))?;
    let (order, row_starts) = arrays(py, Ok(plan.rows))?;
    Ok((order, row_starts, plan.row_length))
}

fn arrays(py: Python<'_>, packed: Result<PackedRows>) -> PyResult<Arrays<'_>> {
    let packed = packed.map_err(|error| to_python(py, &error))?;
    Ok((packed.order.into_pyarray(py), packed.row_starts.into_pyarray(py)))
}
