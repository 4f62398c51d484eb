//! For `tests/fuzz/`.

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::http1::fields::write_field;
use crate::http1::{Chunked, Decoded, Framing};
use crate::import;
use crate::semantics::cache_control::{Directives, Scope};
use crate::semantics::range::{self, Resolved};
use crate::upstream::http1::head::{Asked, ResponseHead};
use crate::upstream::http1::workspace::Workspace;

/// Field lines in the order of the map.
pub type Fields = Vec<(String, Vec<u8>)>;

/// A parsed response head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    pub fields: Fields,
    pub body: BodyFraming,
    pub keep_alive: bool,
    pub idle_seconds: Option<u64>,
    pub upgrade: Option<Vec<u8>>,
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    Length(u64),
    Chunked,
    Close,
}

/// What was decoded of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub data: Vec<u8>,
    pub trailers: Fields,
    pub end: BodyEnd,
}

/// How decoding ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// The body is over; that many bytes are its own.
    Complete {
        length: usize,
    },
    /// All input is used up. Whether its end may be the end of the body.
    NeedsMore {
        may_end: bool,
    },
    Bad(String),
}

/// Parses the head at the beginning of `bytes`, the answer to a HEAD or to a request for an upgrade where told so. The
/// length of the head comes with it; `None` while it is incomplete.
///
/// # Errors
/// What is wrong with it.
pub fn parse_response_head(
    bytes: &[u8],
    to_head: bool,
    to_upgrade: bool,
) -> Result<Option<(usize, Head)>, String> {
    let asked = Asked {
        head: to_head,
        upgrade: to_upgrade,
    };
    let workspace = Workspace::new();
    let bytes = Bytes::copy_from_slice(bytes);
    let parse = || {
        let parsed = workspace
            .parse(&bytes, asked)
            .map_err(|error| error.to_string())?;
        Ok(parsed.map(|(length, head)| (length, Head::from(head))))
    };
    let parsed = parse();
    // The second time it has all lines kept, the third time it knows them.
    for _ in 0..2 {
        assert_eq!(parse(), parsed, "another head when its lines are known");
    }
    parsed
}

/// Writes a head that is parsed to the same one.
#[must_use]
pub fn write_response_head(head: &Head) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {} Reason\r\n", head.status).into_bytes();
    for (name, value) in &head.fields {
        write_field(&mut out, name.as_bytes(), value);
    }
    if head.body == BodyFraming::Chunked {
        write_field(&mut out, b"transfer-encoding", b"chunked");
    }
    if !head.keep_alive {
        write_field(&mut out, b"connection", b"close");
    }
    if let Some(seconds) = head.idle_seconds {
        write_field(
            &mut out,
            b"keep-alive",
            format!("timeout={seconds}").as_bytes(),
        );
    }
    if let Some(protocol) = &head.upgrade {
        write_field(&mut out, b"upgrade", protocol);
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Decodes `wire` as if it were read in pieces of these lengths, over and over; in one piece if there are none.
///
/// # Panics
/// If decoding does not come to an end.
#[must_use]
pub fn decode_body(body: BodyFraming, wire: &[u8], cuts: &[usize]) -> Body {
    let mut framing = match body {
        BodyFraming::Length(length) => Framing::Length(length),
        BodyFraming::Chunked => Framing::Chunked(Chunked::Size),
        BodyFraming::Close => Framing::Close,
    };
    let mut decoded = Body {
        data: Vec::new(),
        trailers: Vec::new(),
        end: BodyEnd::NeedsMore { may_end: false },
    };
    let (mut unread, mut rest) = (Bytes::new(), wire);
    let mut cuts = cuts.iter().copied().cycle();
    let mut steps = 0;
    loop {
        let cut = cuts
            .next()
            .unwrap_or(usize::MAX)
            .clamp(1, rest.len().max(1))
            .min(rest.len());
        let (piece, left) = rest.split_at(cut);
        rest = left;
        unread = [&unread, piece].concat().into();
        loop {
            steps += 1;
            assert!(
                steps <= 2 * wire.len() + 4,
                "decoding goes round in circles"
            );
            decoded.end = match framing.decode(&mut unread) {
                Ok(Decoded::Data(data)) => {
                    assert!(!data.is_empty(), "a piece of nothing");
                    decoded.data.extend_from_slice(&data);
                    continue;
                }
                Ok(Decoded::Trailers(trailers)) => {
                    decoded.trailers = fields(&trailers);
                    BodyEnd::Complete {
                        length: wire.len() - rest.len() - unread.len(),
                    }
                }
                Ok(Decoded::End) => BodyEnd::Complete {
                    length: wire.len() - rest.len() - unread.len(),
                },
                Ok(Decoded::More) => BodyEnd::NeedsMore {
                    may_end: framing.end_of_input().is_ok(),
                },
                Err(error) => BodyEnd::Bad(error.to_string()),
            };
            break;
        }
        if rest.is_empty() || !matches!(decoded.end, BodyEnd::NeedsMore { .. }) {
            return decoded;
        }
    }
}

/// What the lines of `Cache-Control` in a response say, as far as it decides on storing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheControl {
    /// Which of `no-store`, `no-cache`, `private`, `must-revalidate`, `proxy-revalidate` and `must-understand` it says, one bit
    /// each. Without the fields that it names.
    pub restrictions: u8,
    pub public: bool,
    pub names_fields: bool,
    pub max_age: Option<u64>,
    pub s_maxage: Option<u64>,
}

/// Reads lines of a field; `targeted` as those of `CDN-Cache-Control`. Lines that no message can have are left out.
#[must_use]
pub fn read_cache_control(lines: &[&[u8]], targeted: bool) -> CacheControl {
    let name = if targeted {
        HeaderName::from_static("cdn-cache-control")
    } else {
        header::CACHE_CONTROL
    };
    let directives = Directives::of_response(&map(&name, lines));
    let (no_cache, private) = (&directives.no_cache, &directives.private);
    let restrictions = [
        directives.no_store,
        *no_cache == Scope::All,
        *private == Scope::All,
        directives.must_revalidate,
        directives.proxy_revalidate,
        directives.must_understand,
    ];
    CacheControl {
        restrictions: restrictions
            .iter()
            .fold(0, |bits, &says| bits << 1 | u8::from(says)),
        public: directives.public,
        names_fields: [no_cache, private]
            .iter()
            .any(|scope| matches!(scope, Scope::Fields(_))),
        max_age: directives.max_age.map(|age| age.as_secs()),
        s_maxage: directives.s_maxage.map(|age| age.as_secs()),
    }
}

/// What a `Range` is of a representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    Whole,
    Unsatisfiable,
    Parts(Vec<Range<u64>>),
}

/// Resolves the field of a request.
#[must_use]
pub fn resolve_range(field: &[u8], length: u64) -> Ranges {
    let ranges = range::parse(&map(&header::RANGE, &[field]));
    match ranges.map_or(Resolved::Whole, |ranges| ranges.resolve(length)) {
        Resolved::Whole => Ranges::Whole,
        Resolved::Unsatisfiable => Ranges::Unsatisfiable,
        Resolved::Parts(parts) => Ranges::Parts(parts.into_vec()),
    }
}

fn map(name: &HeaderName, lines: &[&[u8]]) -> HeaderMap {
    let values = lines
        .iter()
        .filter_map(|line| HeaderValue::from_bytes(line).ok());
    let mut map = HeaderMap::new();
    for value in values {
        map.append(name, value);
    }
    map
}

impl From<ResponseHead> for Head {
    fn from(head: ResponseHead) -> Self {
        Self {
            status: head.status.as_u16(),
            fields: fields(&head.headers),
            body: match head.framing {
                Framing::Length(length) => BodyFraming::Length(length),
                Framing::Chunked(_) => BodyFraming::Chunked,
                Framing::Close => BodyFraming::Close,
            },
            keep_alive: head.keep_alive,
            idle_seconds: head.idle_seconds,
            upgrade: head.upgrade.map(|protocol| protocol.as_bytes().to_vec()),
        }
    }
}

fn fields(map: &HeaderMap) -> Fields {
    map.iter()
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect()
}

/// What came of an nginx config.
pub struct ImportedNginx {
    pub toml: String,
    pub remarks: Vec<String>,
    /// How many directives nothing was said of.
    pub silent: usize,
}

/// Imports these contents of a file at `path`.
///
/// # Errors
/// Why it is no config of nginx's.
pub fn import_nginx(bytes: &[u8], path: &Path) -> Result<ImportedNginx, String> {
    let imported = import::nginx_text(bytes, path).map_err(|error| error.to_string())?;
    let remarks = imported.remarks.into_iter().map(|remark| remark.line);
    Ok(ImportedNginx {
        toml: imported.toml,
        remarks: remarks.collect(),
        silent: imported.count.silent,
    })
}
