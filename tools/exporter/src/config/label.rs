//! One label of a metric.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A label: its name, and where its value comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// The field. Empty: the field with the name of the label.
    pub from: String,
    /// The format. Empty: the format in the package.
    pub format: String,
    /// A constant, instead of a field.
    pub value: Option<String>,
    /// Strings that replace values.
    pub values: BTreeMap<String, String>,
    /// A regular expression: its first group, or the whole match, replaces the value.
    pub regexp: Option<String>,
}

/// A label as a mapping of YAML. In the file, a label can also be its name alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Map {
    name: String,
    #[serde(default)]
    from: String,
    #[serde(default, rename = "as")]
    format: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    values: BTreeMap<String, String>,
    #[serde(default)]
    regexp: Option<String>,
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Label, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Label;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("the name of a label, or a mapping with name and from")
            }

            fn visit_str<E>(self, name: &str) -> Result<Label, E> {
                Ok(Label { name: name.to_owned(), ..Label::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Label, A::Error> {
                let Map { name, from, format, value, values, regexp } =
                    Map::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Label { name, from, format, value, values, regexp })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl Label {
    /// The field that it shows.
    pub fn field(&self) -> &str {
        if self.from.is_empty() { &self.name } else { &self.from }
    }
}
