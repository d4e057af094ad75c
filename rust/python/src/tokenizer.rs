//! The class `ChatTokenizer`.

use std::path::PathBuf;

use megatron_sft_core::tokenizer::ChatTokenizer as Core;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert::messages_to_json;
use crate::errors::to_python;

/// Tokenizer, chat template and stop token of one folder.
#[pyclass(frozen, module = "megatron_sft._native")]
pub(crate) struct ChatTokenizer {
    pub(crate) core: Core,
}

#[pymethods]
impl ChatTokenizer {
    #[new]
    fn new(py: Python<'_>, folder: PathBuf) -> PyResult<Self> {
        let core = py.detach(|| Core::from_folder(&folder)).map_err(|error| to_python(py, &error))?;
        Ok(Self { core })
    }

    #[pyo3(signature = (messages, add_generation_prompt = true))]
    fn render(
        &self,
        py: Python<'_>,
        messages: Vec<Bound<'_, PyDict>>,
        add_generation_prompt: bool,
    ) -> PyResult<String> {
        let messages = messages_to_json(&messages)?;
        py.detach(|| self.core.render(&messages, add_generation_prompt)).map_err(|error| to_python(py, &error))
    }

    fn encode(&self, py: Python<'_>, text: &str) -> PyResult<Vec<u32>> {
        py.detach(|| self.core.encode(text)).map_err(|error| to_python(py, &error))
    }

    fn encode_prompt(&self, py: Python<'_>, messages: Vec<Bound<'_, PyDict>>) -> PyResult<Vec<u32>> {
        let messages = messages_to_json(&messages)?;
        py.detach(|| self.core.encode(&self.core.render(&messages, true)?)).map_err(|error| to_python(py, &error))
    }

    fn decode(&self, py: Python<'_>, ids: Vec<u32>) -> PyResult<String> {
        py.detach(|| self.core.decode(&ids)).map_err(|error| to_python(py, &error))
    }

    #[getter]
    fn eos_id(&self) -> u32 {
        self.core.eos_id
    }

    #[getter]
    fn eos_token(&self) -> &str {
        &self.core.eos_token
    }

    #[getter]
    fn stop_ids(&self) -> Vec<u32> {
        self.core.stop_ids.clone()
    }

    #[getter]
    fn vocab_size(&self) -> usize {
        self.core.vocab_size
    }

    #[getter]
    fn fingerprint(&self) -> &str {
        &self.core.fingerprint
    }

    #[getter]
    fn template_source(&self) -> &str {
        &self.core.template_source
    }
}
