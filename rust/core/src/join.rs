//! Responses taken from other files, matched by query.

use std::collections::HashMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use crate::config::{Columns, Join};
use crate::error::{Error, Result};
use crate::rows::{ChunkReader, Fields, Input, Limits, Line, Position};

/// The first response of the joined files to each query.
#[derive(Debug)]
pub struct JoinedResponses {
    by_query: HashMap<u128, String>,
}

impl JoinedResponses {
    /// Reads the joined files, keeping what answers a query of `inputs`.
    ///
    /// Fails when the kept responses would take more than `most_bytes`.
    pub fn read(
        inputs: &Arc<Vec<Input>>,
        columns: &Columns,
        join: &Join,
        joined: Vec<Input>,
        limits: Limits,
        most_bytes: u64,
    ) -> Result<Self> {
        let mut by_query = HashMap::new();
        for_each_row(inputs, columns, limits, |fields| {
            by_query.insert(key(fields), None);
            Ok(())
        })?;
        let mut bytes = 0;
        for_each_row(&Arc::new(joined), &join.columns, limits, |fields| {
            if let Some(slot @ None) = by_query.get_mut(&key(fields)) {
                bytes += fields.response.len() as u64;
                if bytes > most_bytes {
                    let message = format!("the responses of --join take more than {most_bytes} bytes; raise --memory");
                    return Err(Error::Config(message));
                }
                *slot = Some(fields.response.to_string());
            }
            Ok(())
        })?;
        let by_query = by_query.into_iter().filter_map(|(query, response)| Some((query, response?))).collect();
        Ok(Self { by_query })
    }

    /// The response to the query of `fields`.
    pub fn get(&self, fields: &Fields<'_>) -> Option<&str> {
        self.by_query.get(&key(fields)).map(String::as_str)
    }
}

fn key(fields: &Fields<'_>) -> u128 {
    xxh3_128(fields.query_id.as_deref().unwrap_or_else(|| fields.question()).trim().as_bytes())
}

fn for_each_row(
    inputs: &Arc<Vec<Input>>,
    columns: &Columns,
    limits: Limits,
    mut take: impl FnMut(&Fields<'_>) -> Result<()>,
) -> Result<()> {
    let files = 0..inputs.len();
    let mut reader = ChunkReader::new(Arc::clone(inputs), files, Position::default(), columns, limits);
    while let Some(chunk) = reader.next_chunk()? {
        let mut result = Ok(());
        chunk.for_each(columns, |_, _, line| {
            if let (Line::Row(fields), Ok(())) = (line, &result) {
                result = take(&fields);
            }
        });
        result?;
    }
    Ok(())
}
