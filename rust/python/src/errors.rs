//! The one place where errors of the core crate become Python exceptions.

use megatron_sft_core::Error;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// `NativeError` is the package's own `DataError`, so every program reports it like its other user errors.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("NativeError", data_error(module.py())?)
}

/// The exception for an error of the core crate.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    match error {
        Error::Cancelled => PyKeyboardInterrupt::new_err(error.to_string()),
        _ => message(py, error.to_string()),
    }
}

/// A `NativeError` with this message.
pub(crate) fn message(py: Python<'_>, text: String) -> PyErr {
    match data_error(py) {
        Ok(class) => PyErr::from_type(class, (text,)),
        Err(import_error) => import_error,
    }
}

fn data_error(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    Ok(py.import("megatron_sft.errors")?.getattr("DataError")?.cast_into::<PyType>()?)
}
