//! Values that nobody but weir is to see.

use super::check::Context;
use super::value::{Value, plain};

/// What is written, or what stands in the file that is named as `file:/run/secrets/token`, without the newline at its end.
/// That file belongs to the config as the others do: a change of it is a change of the config. No message repeats a secret.
pub(super) fn secret<'t>(value: &Value<'t>, context: &Context<'t>) -> Option<String> {
    let Some(text) = value.inner.as_str() else {
        value.problem("wrong-type", "expected a string", None);
        return None;
    };
    let Some(path) = text.strip_prefix("file:") else {
        return Some(text.to_owned());
    };
    let content = match context.files.read(path) {
        Ok(content) => content,
        Err(error) => {
            value.invalid(format!("cannot read `{}`: {error}", plain(path)));
            return None;
        }
    };
    match std::str::from_utf8(&content) {
        Ok(text) => {
            let text = text.strip_suffix('\n').unwrap_or(text);
            Some(text.strip_suffix('\r').unwrap_or(text).to_owned())
        }
        Err(_) => {
            value.invalid(format!("`{}` is not UTF-8", plain(path)));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::load;

    const WEB: &str = "[listen.web]\naddress = \":1\"\n[route.site]\nrespond = {}\n";

    #[test]
    fn a_secret_in_a_file_is_read_without_its_last_newline_and_is_part_of_the_config() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("weir.toml");
        std::fs::write(&main, format!("{WEB}[admin]\ntoken = \"file:token\"\n")).unwrap();
        let mut hashes = std::collections::HashSet::new();
        for (content, good) in [
            ("sesame\n", true),
            ("sesame\r\n", true),
            ("sesame", true),
            ("sesame\n\n", false),
            (" sesame", false),
            ("", false),
        ] {
            std::fs::write(folder.path().join("token"), content).unwrap();
            match load(&main) {
                Ok(config) => {
                    assert!(good, "{content:?}");
                    assert_eq!(config.admin.token.as_deref(), Some("sesame"));
                    assert!(config.files.contains(&folder.path().join("token")));
                    assert!(!config.show().contains("sesame"));
                    assert!(hashes.insert(config.hash));
                }
                Err(error) => assert!(!good, "{content:?}: {error}"),
            }
        }
    }
}
