//! The cookies of a request (RFC 6265 §4.2).

use http::{HeaderMap, header};

/// The value of the first cookie of that name, without quotes.
pub(crate) fn find<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let fields = headers.get_all(header::COOKIE).iter();
    fields
        .flat_map(|field| field.as_bytes().split(|&byte| byte == b';'))
        .find_map(|pair| {
            let pair = pair.trim_ascii();
            let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            let quoted = value
                .strip_prefix(b"\"")
                .and_then(|value| value.strip_suffix(b"\""));
            Some(quoted.unwrap_or(value))
        })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn found(fields: &[&str], name: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::COOKIE, HeaderValue::from_str(field).unwrap());
        }
        find(&headers, name).map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name_in_any_field() {
        assert_eq!(found(&["a=1; b=2"], "b").as_deref(), Some("2"));
        assert_eq!(found(&["ab=1;b=2;b=3"], "b").as_deref(), Some("2"));
        assert_eq!(found(&["a=1", "b=\"2\""], "b").as_deref(), Some("2"));
        assert_eq!(found(&["b=x=y"], "b").as_deref(), Some("x=y"));
        assert_eq!(found(&["b=", "; ;;"], "b").as_deref(), Some(""));
        assert_eq!(found(&["bb=1; B=2; b"], "b"), None);
        assert_eq!(found(&[], "b"), None);
    }
}
