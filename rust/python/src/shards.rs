//! Building shards, and samples as text.

use std::path::PathBuf;

use megatron_sft_core::build::{self, Status};
use megatron_sft_core::config::BuildConfig;
use pyo3::prelude::*;

use crate::errors::{message, to_python};
use crate::tokenizer::ChatTokenizer;

/// Builds shards from a configuration in JSON and returns the manifest as JSON.
#[pyfunction]
#[pyo3(signature = (config_json, tokenizer, progress = None))]
pub(crate) fn build_shards(
    py: Python<'_>,
    config_json: &str,
    tokenizer: &ChatTokenizer,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let config = parse(py, config_json)?;
    let mut raised = None;
    let result = py.detach(|| {
        build::build_shards(&config, &tokenizer.core, &mut |status| {
            Python::attach(|py| match report(py, progress.as_ref(), status) {
                Ok(()) => true,
                Err(error) => {
                    raised = Some(error);
                    false
                }
            })
        })
    });
    // What the progress function or Ctrl-C raised is the reason why the build was stopped, or came just too late for that.
    match raised {
        Some(error) => Err(error),
        None => result.map_err(|error| to_python(py, &error)),
    }
}

/// Processes rows until one passes and returns it as JSON; writes nothing.
#[pyfunction]
pub(crate) fn preview_shards(py: Python<'_>, config_json: &str, tokenizer: &ChatTokenizer) -> PyResult<String> {
    let config = parse(py, config_json)?;
    py.detach(|| build::preview(&config, &tokenizer.core)).map_err(|error| to_python(py, &error))
}

/// A sample of complete shards as JSON.
#[pyfunction]
pub(crate) fn show_sample(
    py: Python<'_>,
    folder: PathBuf,
    prefixes: Vec<String>,
    tokenizer: &ChatTokenizer,
    index: u64,
) -> PyResult<String> {
    py.detach(|| build::show_sample(&folder, &prefixes, &tokenizer.core, index)).map_err(|error| to_python(py, &error))
}

fn parse(py: Python<'_>, config_json: &str) -> PyResult<BuildConfig> {
    serde_json::from_str(config_json).map_err(|error| message(py, format!("bad configuration: {error}")))
}

fn report(py: Python<'_>, progress: Option<&Py<PyAny>>, status: &Status) -> PyResult<()> {
    py.check_signals()?;
    if let Some(progress) = progress {
        let status = serde_json::to_string(status).map_err(|error| message(py, error.to_string()))?;
        progress.call1(py, (status,))?;
    }
    Ok(())
}
