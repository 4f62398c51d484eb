//! What editors and shells get: `weir schema`, `weir completions`.

use std::process::{Command, Stdio};

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

#[test]
fn every_shell_gets_completions_for_every_command() {
    let (folder, _) = folder("");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let printed = output(folder.path(), ["completions", shell]);
        assert_eq!(printed.status.code(), Some(0), "{}", stderr(&printed));
        let script = stdout(&printed);
        for command in ["run", "explain", "schema", "completions"] {
            assert!(script.contains(command), "{command} for {shell}");
        }
    }
    let wrong = output(folder.path(), ["completions", "tcsh"]);
    assert_eq!(wrong.status.code(), Some(2));
}

/// Where there is a bash.
#[test]
fn bash_can_read_what_it_gets() {
    let (folder, _) = folder("");
    let script = folder.path().join("weir.bash");
    std::fs::write(
        &script,
        output(folder.path(), ["completions", "bash"]).stdout,
    )
    .unwrap();
    let read = Command::new("bash")
        .arg("-n")
        .arg(&script)
        .stdin(Stdio::null())
        .output();
    let Ok(read) = read else { return };
    assert!(
        read.status.success(),
        "{}",
        String::from_utf8_lossy(&read.stderr)
    );
}
