//! Python lists of turns as JSON.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::{Map, Value};

/// `[{"role": ..., "content": ...}, ...]`; keys keep their order, for templates that print a whole turn.
pub(crate) fn messages_to_json(messages: &[Bound<'_, PyDict>]) -> PyResult<Value> {
    messages.iter().map(turn_to_json).collect::<PyResult<Vec<_>>>().map(Value::Array)
}

fn turn_to_json(turn: &Bound<'_, PyDict>) -> PyResult<Value> {
    let mut object = Map::new();
    for (key, value) in turn {
        object.insert(key.extract()?, Value::String(value.extract()?));
    }
    Ok(Value::Object(object))
}
