//! `[upstream.NAME.sticky]`

use toml::de::DeValue;

use super::peers;
use super::value::{Value, plain};
use super::values::{choice, duration, or_word, string, switch, truth};
use super::{SameSite, Secure, Sticky};
use crate::semantics::forwarded::is_token;
use crate::semantics::host;

/// `true`, `false`, `"off"`, or the table. `upstream` is the name that the cookie's follows.
pub(super) fn sticky(value: &Value<'_>, upstream: &str) -> Option<Option<Sticky>> {
    let defaults = Sticky {
        cookie: format!("weir-{upstream}"),
        ttl: None,
        path: "/".into(),
        domain: None,
        secure: Secure::Auto,
        same_site: SameSite::Lax,
    };
    switch(value, defaults, |value, defaults| {
        table(value, defaults).map(Some)
    })
}

fn table(value: &Value<'_>, defaults: Sticky) -> Option<Sticky> {
    value.table(|table| {
        table.elsewhere(peers::STICKY);
        let sticky = Sticky {
            cookie: table.or("cookie", defaults.cookie, cookie),
            ttl: table.or("ttl", None, |value| or_word(value, "session", duration)),
            path: table.or("path", defaults.path, path),
            domain: table.or("domain", None, |value| or_word(value, "off", domain)),
            secure: table.or("secure", Secure::Auto, secure),
            same_site: table.or("same_site", SameSite::Lax, |value| {
                choice(value, &SameSite::ALL, &[])
            }),
        };
        if (sticky.same_site, sticky.secure) == (SameSite::None, Secure::Never)
            && let Some(value) = table.get("same_site")
        {
            value.invalid_but(
                "browsers take no cookie with `SameSite=None` that is not `Secure`",
                "leave `secure` at `\"auto\"`",
            );
        }
        Some(sticky)
    })
}

impl SameSite {
    pub(super) const ALL: [(&'static str, Self); 3] = [
        ("lax", Self::Lax),
        ("strict", Self::Strict),
        ("none", Self::None),
    ];
}

fn secure(value: &Value<'_>) -> Option<Secure> {
    match (truth(value), value.inner) {
        (Some(true), _) => Some(Secure::Always),
        (Some(false), _) => Some(Secure::Never),
        (None, DeValue::String(text)) if text == "auto" => Some(Secure::Auto),
        _ => {
            value.wrong_type("`true`, `false` or `\"auto\"`");
            None
        }
    }
}

fn cookie(value: &Value<'_>) -> Option<String> {
    let text = string(value, "the name of a cookie")?;
    if is_token(text) {
        return Some(text.to_owned());
    }
    value.invalid(format!("`{}` is not the name of a cookie", plain(text)));
    None
}

/// RFC 6265 §4.1.1: whatever is no control character and no `;`.
fn path(value: &Value<'_>) -> Option<String> {
    let text = string(value, "a path such as `\"/app\"`")?;
    let valid = text.starts_with('/')
        && text
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte) && byte != b';');
    if !valid {
        value.invalid(format!("`{}` is not the path of a cookie", plain(text)));
    }
    valid.then(|| text.to_owned())
}

fn domain(value: &Value<'_>) -> Option<String> {
    let text = string(value, "a domain such as `\"example.com\"`")?;
    match host::parse(text) {
        Ok(host) if host.port.is_none() && !text.ends_with(':') => Some(host.name.into_owned()),
        _ => {
            value.invalid_but(
                format!("`{}` is not a domain", plain(text)),
                "write it as `example.com`",
            );
            None
        }
    }
}
