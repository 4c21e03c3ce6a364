//! Reads TOML values with an error type of our own, so that an unknown key keeps the list of known ones.
//!
//! `toml`'s errors are finished sentences; a layer's place in the file and the nearest known key could not be added.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error, IntoDeserializer, Visitor};

/// What is wrong with one table, without saying where the table is.
#[derive(Debug)]
pub(super) enum Problem {
    UnknownKey { key: String, known: &'static [&'static str] },
    UnknownType { name: String, known: &'static [&'static str] },
    MissingKey(&'static str),
    Value(String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownKey { key, .. } => write!(f, "unknown key `{key}`"),
            Self::UnknownType { name, .. } => write!(f, "unknown type `{name}`"),
            Self::MissingKey(key) => write!(f, "the key `{key}` is missing"),
            Self::Value(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Problem {}

impl Error for Problem {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Value(message.to_string())
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::UnknownKey { key: field.to_owned(), known: expected }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::UnknownType { name: variant.to_owned(), known: expected }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::MissingKey(field)
    }
}

/// A TOML value that deserializes with [`Problem`] as its error.
pub(super) struct Strict(pub(super) toml::Value);

impl<'de> Deserializer<'de> for Strict {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0 {
            toml::Value::String(text) => visitor.visit_string(text),
            toml::Value::Integer(number) => visitor.visit_i64(number),
            toml::Value::Float(number) => visitor.visit_f64(number),
            toml::Value::Boolean(flag) => visitor.visit_bool(flag),
            toml::Value::Datetime(moment) => visitor.visit_string(moment.to_string()),
            toml::Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Strict))),
            toml::Value::Table(entries) => {
                visitor.visit_map(MapDeserializer::new(entries.into_iter().map(|(key, value)| (key, Strict(value)))))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_some(self) // TOML has no null: what is there is there
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Problem> for Strict {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
