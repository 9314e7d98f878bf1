//! The types of answers, collected for the OpenAPI document.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::ToSchema;

/// Types by name, as the document's components hold them.
#[derive(Debug, Default)]
pub struct Schemas {
    /// Descriptions by name.
    pub types: BTreeMap<String, Value>,
}

impl Schemas {
    /// Adds a type and everything that it holds; gives a reference to it.
    pub fn add<T: ToSchema>(&mut self) -> Value {
        let mut all = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut all);
        for (name, schema) in all {
            // Serialising a description into JSON cannot fail: its keys are texts.
            self.types.insert(name, serde_json::to_value(schema).unwrap_or_default());
        }
        json!({ "$ref": format!("#/components/schemas/{}", T::name()) })
    }
}
