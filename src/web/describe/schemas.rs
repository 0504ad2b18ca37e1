//! The schemas of everything that is read or written, each under its name once. What is read and what is written of one type may
//! differ: a field that may be left out is there in every answer.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

/// Where they stand in the document.
const PLACE: &str = "#/components/schemas/";
/// What is added to the name of one that is read, where the written one is another.
const READ: &str = "Input";

/// See the module.
#[derive(Debug)]
pub struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Default for Schemas {
    fn default() -> Self {
        // OpenAPI 3.1 takes JSON Schema 2020-12 as it is.
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Self {
            read: settings().for_deserialize().into_generator(),
            written: settings().for_serialize().into_generator(),
        }
    }
}

impl Schemas {
    /// Of what a request holds.
    pub fn read<T: JsonSchema>(&mut self) -> Value {
        self.read.subschema_for::<T>().to_value()
    }

    /// Of what an answer holds.
    pub fn written<T: JsonSchema>(&mut self) -> Value {
        self.written.subschema_for::<T>().to_value()
    }

    /// The members of an object that a request holds, with whether each has to be there.
    pub fn members<T: JsonSchema>(&mut self) -> Vec<(String, Value, bool)> {
        let whole = T::json_schema(&mut self.read).to_value();
        let required = whole["required"].as_array().cloned().unwrap_or_default();
        let members = whole["properties"].as_object().cloned().unwrap_or_default().into_iter();
        members.map(|(name, schema)| (name.clone(), schema, required.contains(&name.into()))).collect()
    }

    /// An example of what a request holds, if its type has one.
    pub fn example<T: JsonSchema>(&mut self) -> Option<Value> {
        T::json_schema(&mut self.read).get("examples")?.as_array()?.first().cloned()
    }

    /// All of them by name. In `reading`, the parts of the document that speak of requests, those that are read otherwise than they
    /// are written get their own names.
    pub fn finish(mut self, reading: &mut [&mut Value]) -> Map<String, Value> {
        let mut all: Map<String, Value> = self.written.take_definitions(true);
        let mut read: Map<String, Value> = self.read.take_definitions(true);
        let apart = apart(&all, &read);
        for part in read.values_mut().chain(reading.iter_mut().map(|part| &mut **part)) {
            rename(part, &apart);
        }
        for (name, schema) in read {
            let name = if apart.contains(&name) { name + READ } else { name };
            all.entry(name).or_insert(schema);
        }
        all
    }
}

/// The names under which both have something, and not the same; nor is what speaks of such a one the same.
fn apart(written: &Map<String, Value>, read: &Map<String, Value>) -> BTreeSet<String> {
    let both = read.iter().filter_map(|(name, schema)| Some((name, schema, written.get(name)?)));
    let both: Vec<_> = both.collect();
    let mut apart = BTreeSet::new();
    loop {
        let before = apart.len();
        for (name, read, written) in &both {
            if read != written || speaks_of(read, &apart) {
                apart.insert((*name).clone());
            }
        }
        if apart.len() == before {
            return apart;
        }
    }
}

fn speaks_of(schema: &Value, names: &BTreeSet<String>) -> bool {
    match schema {
        Value::String(text) => text.strip_prefix(PLACE).is_some_and(|name| names.contains(name)),
        Value::Array(items) => items.iter().any(|item| speaks_of(item, names)),
        Value::Object(members) => members.values().any(|member| speaks_of(member, names)),
        _ => false,
    }
}

fn rename(schema: &mut Value, names: &BTreeSet<String>) {
    match schema {
        Value::String(text) if text.strip_prefix(PLACE).is_some_and(|name| names.contains(name)) => text.push_str(READ),
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, names)),
        Value::Object(members) => members.values_mut().for_each(|member| rename(member, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Inner {
        #[serde(default)]
        word: String,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Outer {
        inner: Inner,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Same {
        word: String,
    }

    #[test]
    fn what_is_read_otherwise_than_it_is_written_has_a_name_of_its_own() {
        let mut schemas = Schemas::default();
        let (mut read, written) = (schemas.read::<(Outer, Same)>(), schemas.written::<(Outer, Same)>());
        let all = schemas.finish(&mut [&mut read]);
        let names: BTreeSet<&str> = all.keys().map(String::as_str).collect();
        assert_eq!(names, BTreeSet::from(["Inner", "InnerInput", "Outer", "OuterInput", "Same"]));
        assert_eq!(all["Inner"]["required"], json!(["word"]));
        assert_eq!(all["InnerInput"].get("required"), None);
        assert_eq!(all["OuterInput"]["properties"]["inner"]["$ref"], "#/components/schemas/InnerInput");
        assert_eq!(read["prefixItems"][0]["$ref"], "#/components/schemas/OuterInput");
        assert_eq!(written["prefixItems"][0]["$ref"], "#/components/schemas/Outer");
    }
}
