//! As much of JSON Schema as ours uses. A keyword that it does not know is a failure, so that none goes unchecked.

use regex::Regex;
use serde_json::Value;

/// Whether `instance` is valid by `schema`; what is wrong, if it is not. `root` is where references point to.
pub(super) fn validate(root: &Value, schema: &Value, instance: &Value) -> Result<(), String> {
    let schema = schema.as_object().unwrap_or_else(|| panic!("{schema}"));
    for (keyword, wanted) in schema {
        let holds = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "examples" => true,
            "$ref" => {
                let name = wanted.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                validate(root, &root["$defs"][name], instance)?;
                true
            }
            "type" => is_of(wanted.as_str().unwrap(), instance),
            "const" => instance == wanted,
            "enum" => wanted.as_array().unwrap().contains(instance),
            "not" => validate(root, wanted, instance).is_err(),
            "oneOf" => count(root, wanted, instance) == 1,
            "anyOf" => count(root, wanted, instance) > 0,
            "minimum" => instance
                .as_i64()
                .is_none_or(|number| number >= wanted.as_i64().unwrap()),
            "maximum" => instance
                .as_i64()
                .is_none_or(|number| number <= wanted.as_i64().unwrap()),
            "pattern" => {
                let pattern = Regex::new(wanted.as_str().unwrap()).unwrap();
                instance.as_str().is_none_or(|text| pattern.is_match(text))
            }
            "items" => {
                for item in instance.as_array().into_iter().flatten() {
                    validate(root, wanted, item)?;
                }
                true
            }
            "required" => {
                let mut names = wanted.as_array().unwrap().iter();
                let has = |name: &Value| instance.get(name.as_str().unwrap()).is_some();
                !instance.is_object() || names.all(has)
            }
            "properties" => {
                for (name, value) in instance.as_object().into_iter().flatten() {
                    if let Some(schema) = wanted.get(name) {
                        validate(root, schema, value).map_err(|why| format!("{name}.{why}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = schema.get("properties");
                for (name, value) in instance.as_object().into_iter().flatten() {
                    if known.is_some_and(|known| known.get(name).is_some()) {
                        continue;
                    }
                    if wanted == false {
                        return Err(format!("unknown key {name}"));
                    }
                    validate(root, wanted, value).map_err(|why| format!("{name}.{why}"))?;
                }
                true
            }
            other => panic!("keyword `{other}`"),
        };
        if !holds {
            return Err(format!("{keyword} {wanted}: {instance}"));
        }
    }
    Ok(())
}

fn count(root: &Value, schemas: &Value, instance: &Value) -> usize {
    let schemas = schemas.as_array().unwrap().iter();
    schemas
        .filter(|schema| validate(root, schema, instance).is_ok())
        .count()
}

fn is_of(kind: &str, instance: &Value) -> bool {
    match kind {
        "boolean" => instance.is_boolean(),
        "integer" => instance.is_i64(),
        "string" => instance.is_string(),
        "array" => instance.is_array(),
        "object" => instance.is_object(),
        other => panic!("type `{other}`"),
    }
}
