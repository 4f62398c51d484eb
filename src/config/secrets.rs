//! Values that nobody but weir is to see.

use toml::de::{DeTable, DeValue};

use super::check::Context;
use super::value::{Value, join, plain};

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
            let text = text.strip_suffix('\r').unwrap_or(text);
            let bad = match text {
                "" => "is empty",
                _ if text.contains('\n') => "has more than the one line of a secret",
                _ => return Some(text.to_owned()),
            };
            value.invalid(format!("`{}` {bad}", plain(path)));
            None
        }
        Err(_) => {
            value.invalid(format!("`{}` is not UTF-8", plain(path)));
            None
        }
    }
}

/// The paths of fields that weir adds, sets or asks for and that are credentials, as far as their names tell.
pub(super) fn paths_of_credentials(root: &DeValue<'_>) -> Vec<String> {
    let mut paths = Vec::new();
    for (kind, places) in FIELDS {
        let named = root.get(kind).and_then(|all| all.get_ref().as_table());
        for (name, value) in named.into_iter().flatten() {
            let path = join(kind, name.get_ref());
            for place in places {
                let mut fields = value.get_ref().as_table();
                for key in *place {
                    fields = fields.and_then(|table| inner(table, key));
                }
                let names = fields.into_iter().flat_map(DeTable::keys);
                let secret = names
                    .map(|name| name.get_ref())
                    .filter(|name| is_credential(name));
                paths.extend(secret.map(|name| join(&format!("{path}.{}", place.join(".")), name)));
            }
        }
    }
    paths
}

fn inner<'t, 'v>(table: &'v DeTable<'t>, key: &str) -> Option<&'v DeTable<'t>> {
    table.get(key)?.get_ref().as_table()
}

fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CREDENTIALS.iter().any(|word| name.contains(word))
}

/// Where fields and their values stand.
const FIELDS: [(&str, &[&[&str]]); 2] = [
    (
        "route",
        &[
            &["headers"],
            &["request_headers", "set"],
            &["request_headers", "add"],
            &["response_headers", "set"],
            &["response_headers", "add"],
        ],
    ),
    ("upstream", &[&["health_check", "headers"]]),
];
const CREDENTIALS: [&str; 8] = [
    "authorization",
    "cookie",
    "token",
    "secret",
    "password",
    "credential",
    "api-key",
    "apikey",
];

#[cfg(test)]
mod tests {
    use super::super::{LoadError, load};

    const WEB: &str = "[listen.web]\naddress = \":1\"\n[route.site]\nrespond = {}\n";

    #[test]
    fn fields_that_are_credentials_by_their_names_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("weir.toml");
        let text = "\
            [listen.web]\naddress = \":1\"\n\
            [route.site]\nupstream = \"app\"\nheaders = { X-Api-Key = \"hidden-1\" }\n\
            request_headers = { set = { Authorization = \"hidden-2\", x-plain = \"told-1\" } }\n\
            response_headers = { add = { set-cookie = \"hidden-3\" } }\n\
            [upstream.app]\nservers = [\"10.0.0.1:1\"]\n\
            health_check = { path = \"/\", headers = { X-Auth-Token = \"hidden-4\" } }\n\
            [route.site-2]\npath = \"/2\"\nupstream = \"app\"\nheaders = { x-secret-2 = \"hidden-6\", x-a = \"told-2\" }\n\
            [route.\"site.2\"]\npath = \"/3\"\nupstream = \"app\"\nheaders = { token = \"hidden-7\" }\n\
            [defaults.route]\nrequest_headers = { set = { cookie = \"hidden-5\" } }\n";
        std::fs::write(&main, text).unwrap();
        let shown = load(&main).unwrap().show();
        assert!(!shown.contains("hidden"), "{shown}");
        assert!(
            shown.contains("told-1") && shown.contains("told-2"),
            "{shown}"
        );
        // The default is in each of the three routes.
        assert_eq!(shown.matches("\"***\"").count(), 9, "{shown}");
    }

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
                Err(LoadError::Invalid(report)) => {
                    let told = report.to_string();
                    let why = match content {
                        "" => "`token` is empty",
                        "sesame\n\n" => "`token` has more than the one line of a secret",
                        _ => "a token is one or more visible ASCII characters without spaces",
                    };
                    assert!(!good && told.ends_with(why), "{content:?}: {told}");
                }
                Err(error) => panic!("{content:?}: {error}"),
            }
        }
    }
}
