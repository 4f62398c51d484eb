//! `[route.NAME.compress]`

use std::ops::RangeInclusive;

use super::peers;
use super::value::{Value, off, plain};
use super::values::{boolean, choice, integer, list, size, string, switch};
use super::{Coding, Compress, Levels, MediaPattern};
use crate::units::ByteSize;

impl Default for Compress {
    fn default() -> Self {
        let types = TYPES.iter().copied();
        Self {
            codings: Coding::ALL.to_vec(),
            min_size: ByteSize(1 << 10),
            level: Levels {
                br: 4,
                zstd: 3,
                gzip: 5,
            },
            stored_level: Levels {
                br: 9,
                zstd: 12,
                gzip: 9,
            },
            types: types.filter_map(MediaPattern::parse).collect(),
        }
    }
}

impl Levels {
    /// That of one coding.
    pub(crate) fn of(self, coding: Coding) -> u32 {
        match coding {
            Coding::Br => self.br,
            Coding::Zstd => self.zstd,
            Coding::Gzip => self.gzip,
        }
    }
}

/// `true`, `false`, `"off"`, or the table.
pub(super) fn compress(value: &Value<'_>) -> Option<Option<Compress>> {
    switch(value, Compress::default(), table)
}

fn table(value: &Value<'_>, defaults: Compress) -> Option<Option<Compress>> {
    value.table(|table| {
        table.elsewhere(peers::COMPRESS);
        let enabled = table.or("enabled", true, boolean);
        let compress = Compress {
            codings: table.or("codings", defaults.codings, codings),
            min_size: table.or("min_size", defaults.min_size, |value| {
                size(value, 0..=LARGEST_MIN_SIZE)
            }),
            level: table.or("level", defaults.level, |value| {
                levels(value, defaults.level, LEVELS)
            }),
            stored_level: table.or("stored_level", defaults.stored_level, |value| {
                levels(value, defaults.stored_level, STORED_LEVELS)
            }),
            types: table.or("types", defaults.types, types),
        };
        Some(enabled.then_some(compress))
    })
}

fn codings(value: &Value<'_>) -> Option<Vec<Coding>> {
    let words = Coding::ALL.map(|coding| (coding.name(), coding));
    let read = list(value, "a list such as `[\"br\", \"gzip\"]`", |value| {
        choice(value, &words, &[])
    });
    not_empty(value).then_some(read)
}

fn types(value: &Value<'_>) -> Option<Vec<MediaPattern>> {
    let read = list(value, "a list such as `[\"text/*\"]`", |value| {
        let text = string(value, "a media type such as `\"text/html\"`")?;
        let pattern = MediaPattern::parse(text);
        if pattern.is_none() {
            value.invalid_but(
                format!("`{}` is not a media type", plain(text)),
                "write `text/html`, `text/*` or `application/*+json`",
            );
        }
        pattern
    });
    not_empty(value).then_some(read)
}

fn not_empty(value: &Value<'_>) -> bool {
    let empty = off::empty_list(value.inner);
    if empty {
        value.invalid_but(
            "nothing would be compressed",
            "write `enabled = false` for that",
        );
    }
    !empty
}

/// `{ br = 4, zstd = 3, gzip = 5 }`; what is left out has its default.
fn levels(value: &Value<'_>, defaults: Levels, ranges: Ranges) -> Option<Levels> {
    value.table(|table| {
        let level = |name, default, range| table.or(name, default, |value| integer(value, range));
        Some(Levels {
            br: level("br", defaults.br, ranges.br),
            zstd: level("zstd", defaults.zstd, ranges.zstd),
            gzip: level("gzip", defaults.gzip, ranges.gzip),
        })
    })
}

/// From where to where the levels of each coding go.
struct Ranges {
    br: RangeInclusive<i64>,
    zstd: RangeInclusive<i64>,
    gzip: RangeInclusive<i64>,
}

/// Where the length is not known, so much is held back before it is decided.
const LARGEST_MIN_SIZE: u64 = 64 << 10;
/// What can be done while a client waits: higher levels hold the worker for longer than other clients should notice, and
/// need memory by the ten megabytes for each response (the figures: `compress/encode.rs`).
const LEVELS: Ranges = Ranges {
    br: 0..=6,
    zstd: 1..=8,
    gzip: 1..=9,
};
/// What is stored is encoded once, where nobody waits for it: all that the codings have, but for the levels of zstd beyond
/// 19, which need more memory to be decoded than browsers grant.
const STORED_LEVELS: Ranges = Ranges {
    br: 0..=11,
    zstd: 1..=19,
    gzip: 1..=9,
};

const TYPES: [&str; 10] = [
    "text/*",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/wasm",
    "image/svg+xml",
    "application/*+json",
    "application/*+xml",
    "font/ttf",
    "font/otf",
];
