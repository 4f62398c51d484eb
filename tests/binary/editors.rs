//! What editors get: `weir schema`.

use super::support::{folder, output, stderr, stdout};

#[test]
fn the_schema_is_json_and_knows_every_kind_of_table() {
    let (folder, _) = folder("");
    let printed = output(folder.path(), ["schema"]);
    assert_eq!(printed.status.code(), Some(0), "{}", stderr(&printed));
    let schema: serde_json::Value = serde_json::from_str(&stdout(&printed)).unwrap();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert_eq!(schema["additionalProperties"], false);
    let route = &schema["properties"]["route"]["additionalProperties"];
    assert_eq!(route["properties"]["max_body"]["default"], "100MiB");
    let short = route["properties"]["cache"]["anyOf"].as_array();
    let short = short.or(route["properties"]["cache"]["oneOf"].as_array());
    assert_eq!(short.unwrap().len(), 3, "{}", route["properties"]["cache"]);
}
