//! Reads the columns of a JSON object in one pass; the long texts are copied once, and only when they hold escapes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::Value;

use super::fields::{kind, Answer, RawFields, Text};
use crate::config::Columns;

/// Reads an object, picking the columns that are named.
pub(super) struct RowSeed<'c>(pub(super) &'c Columns);

/// The fields that take their value from one key: more than one when columns share a name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mask(u8);

const MESSAGE: u8 = 1;
const PROMPT: u8 = 2;
const RESPONSE: u8 = 4;
const ANSWER: u8 = 8;
const ID: u8 = 16;
const QUERY_ID: u8 = 32;

impl Mask {
    fn of(key: &str, columns: &Columns) -> Self {
        let names = [
            (&columns.message, MESSAGE),
            (&columns.prompt, PROMPT),
            (&columns.response, RESPONSE),
            (&columns.answer, ANSWER),
            (&columns.id, ID),
            (&columns.query_id, QUERY_ID),
        ];
        Mask(names.iter().filter(|(name, _)| *name == key).fold(0, |mask, (_, bit)| mask | bit))
    }
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = RawFields<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = RawFields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut fields, mut seen) = (RawFields::default(), 0);
        while let Some(mask) = map.next_key_seed(KeySeed(self.0))? {
            if seen & mask.0 != 0 {
                return Err(A::Error::custom("a column stands twice in the object"));
            }
            seen |= mask.0;
            match mask.0 {
                0 => drop(map.next_value::<IgnoredAny>()?),
                MESSAGE => fields.message = present(map.next_value()?),
                PROMPT => fields.prompt = map.next_value::<Option<Text<'_>>>()?,
                RESPONSE => fields.response = map.next_value::<Option<Text<'_>>>()?,
                ID => fields.id = present(map.next_value()?),
                QUERY_ID => fields.query_id = present(map.next_value()?),
                _ => assign(&mut fields, mask, map.next_value()?).map_err(A::Error::custom)?,
            }
        }
        Ok(fields)
    }
}

fn present(value: Value) -> Option<Value> {
    (!value.is_null()).then_some(value)
}

/// The rarer cases: the answer, whose spelling counts, and columns that share a name.
fn assign<'de>(fields: &mut RawFields<'de>, mask: Mask, raw: &'de RawValue) -> Result<(), serde_json::Error> {
    if mask.0 & ANSWER != 0 {
        fields.answer = answer(raw)?;
    }
    if mask.0 & PROMPT != 0 {
        fields.prompt = serde_json::from_str(raw.get())?;
    }
    if mask.0 & RESPONSE != 0 {
        fields.response = serde_json::from_str(raw.get())?;
    }
    for (bit, field) in [(MESSAGE, &mut fields.message), (ID, &mut fields.id), (QUERY_ID, &mut fields.query_id)] {
        if mask.0 & bit != 0 {
            *field = present(serde_json::from_str(raw.get())?);
        }
    }
    Ok(())
}

fn answer(raw: &RawValue) -> Result<Option<Answer>, serde_json::Error> {
    Ok(Some(match serde_json::from_str(raw.get())? {
        Value::Null => return Ok(None),
        Value::String(text) => Answer::Text(text),
        Value::Number(_) => Answer::Text(raw.get().to_string()),
        Value::Object(object) => Answer::Object(object),
        other => Answer::Other(kind(&other)),
    }))
}

struct KeySeed<'c>(&'c Columns);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Mask;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Mask, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Mask;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Mask, E> {
        Ok(Mask::of(key, self.0))
    }
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text::Some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text::Some(Cow::Owned(text.to_string())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text<'de>, E> {
        Ok(Text::Other("a boolean"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Text<'de>, E> {
        Ok(Text::Other("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Text<'de>, E> {
        Ok(Text::Other("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Text<'de>, E> {
        Ok(Text::Other("a number"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Text<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text::Other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text::Other("an object"))
    }
}
