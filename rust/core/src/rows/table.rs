//! Parquet files. The stored Arrow schema is ignored: from Parquet's own types a column has one of few forms.

use std::fs::File;
use std::path::PathBuf;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Int8Type, UInt16Type, UInt32Type, UInt64Type, UInt8Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::ProjectionMask;
use serde_json::{Map, Value};

use super::block::{Chunk, Rows};
use super::fields::{kind, Answer, RawFields, Text};
use super::{reject, unreadable, Fields, Input};
use crate::config::Columns;
use crate::error::{Error, Result};
use crate::reason::{Reason, Rejection};

/// Rows of a block: long traces, so few are enough.
const BATCH_ROWS: usize = 64;

/// The rows of one Parquet file.
pub(super) struct Table {
    path: PathBuf,
    size: u64,
    num_rows: u64,
    rows_done: u64,
    batches: ParquetRecordBatchReader,
}

impl Table {
    /// Starts at row `offset`, counted from 0.
    pub(super) fn open(input: &Input, offset: u64, columns: &Columns) -> Result<Self> {
        let file = File::open(&input.path).map_err(Error::io(&input.path, "open"))?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
            .map_err(|error| unreadable(&input.path, error))?;
        let num_rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let names =
            [&columns.message, &columns.prompt, &columns.response, &columns.answer, &columns.id, &columns.query_id];
        let projection = ProjectionMask::columns(builder.parquet_schema(), names.map(String::as_str));
        let batches = builder
            .with_projection(projection)
            .with_offset(usize::try_from(offset).unwrap_or(usize::MAX))
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|error| unreadable(&input.path, error))?;
        Ok(Self { path: input.path.clone(), size: input.size, num_rows, rows_done: offset, batches })
    }

    pub(super) fn next_chunk(&mut self, file: usize) -> Result<Option<Chunk>> {
        let Some(batch) = self.batches.next() else {
            if self.rows_done != self.num_rows {
                let message = format!("announces {} rows but holds {}", self.num_rows, self.rows_done);
                return Err(Error::input(&self.path, message));
            }
            return Ok(None);
        };
        let batch = batch.map_err(|error| unreadable(&self.path, error))?;
        let offset = self.rows_done;
        self.rows_done += batch.num_rows() as u64;
        let share = u128::from(self.size) * u128::from(self.rows_done) / u128::from(self.num_rows.max(1));
        let bytes_done = u64::try_from(share).unwrap_or(self.size);
        Ok(Some(Chunk { file, offset, bytes_done, rows: Rows::Batch(batch) }))
    }
}

/// Converts one row of a batch.
pub(super) fn parse_row(
    batch: &RecordBatch,
    row: usize,
    columns: &Columns,
) -> std::result::Result<Fields<'static>, Rejection> {
    let value = |name: &str| -> std::result::Result<Option<Value>, Rejection> {
        let Some(column) = batch.column_by_name(name) else { return Ok(None) };
        match value_at(column.as_ref(), row) {
            Ok(Value::Null) => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(data_type) => reject(Reason::WRONG_TYPE, format!("{name} holds {data_type}, which no field can be")),
        }
    };
    let answer = value(&columns.answer)?.map(|answer| match answer {
        Value::String(text) => Answer::Text(text),
        Value::Number(number) => Answer::Text(number.to_string()),
        Value::Object(object) => Answer::Object(object),
        other => Answer::Other(kind(&other)),
    });
    let raw = RawFields {
        message: value(&columns.message)?,
        prompt: value(&columns.prompt)?.map(text),
        response: value(&columns.response)?.map(text),
        answer,
        id: value(&columns.id)?,
        query_id: value(&columns.query_id)?,
    };
    raw.check(columns)
}

fn text(value: Value) -> Text<'static> {
    match value {
        Value::String(text) => Text::Some(text.into()),
        other => Text::Other(kind(&other)),
    }
}

/// One cell as JSON; the error is an Arrow type that has no counterpart.
fn value_at(array: &dyn Array, row: usize) -> std::result::Result<Value, DataType> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    macro_rules! number {
        ($kind:ty) => {
            Value::from(array.as_primitive::<$kind>().value(row))
        };
    }
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => Value::from(array.as_boolean().value(row)),
        DataType::Utf8 => Value::from(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Value::from(array.as_string::<i64>().value(row)),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float32 => number!(Float32Type),
        DataType::Float64 => number!(Float64Type),
        DataType::List(_) => list(array.as_list::<i32>().value(row).as_ref())?,
        DataType::LargeList(_) => list(array.as_list::<i64>().value(row).as_ref())?,
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let entries = fields
                .iter()
                .zip(columns)
                .map(|(field, column)| Ok((field.name().clone(), value_at(column.as_ref(), row)?)));
            Value::Object(entries.collect::<std::result::Result<Map<_, _>, DataType>>()?)
        }
        other => return Err(other.clone()),
    })
}

fn list(items: &dyn Array) -> std::result::Result<Value, DataType> {
    (0..items.len()).map(|index| value_at(items, index)).collect::<std::result::Result<Vec<_>, _>>().map(Value::Array)
}
