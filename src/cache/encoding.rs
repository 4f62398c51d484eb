//! Which of the variants of a target serve a client by its `Accept-Encoding` (RFC 9110 §12.5.3).
//!
//! weir can decode what it can encode, so a response in such a coding serves every client: it is sent as it is or
//! decoded. One without a coding serves every client of a route on which weir encodes; on other routes only those
//! who did not offer the origin more choice than the client had for whom it was fetched, as the origin might have encoded
//! it for them. What weir cannot read serves who asks in the same words, those apart that name no registered coding: they
//! would make a variant of a URL of whatever a client comes up with. They count where the response has such a coding.

use std::cell::OnceCell;

use http::HeaderMap;

use super::Vary;
use crate::semantics::coding::{self, Accepted, Content, Named};

/// How the content of a variant is encoded, and who had asked for it.
#[derive(Clone, Debug)]
pub(super) struct Encoding {
    content: Content,
    /// What the client offered for whom it was fetched. `None` if the response does not depend on that.
    offered: Option<Named>,
}

/// What a client takes, read when first needed.
pub(super) struct Offer<'r> {
    request: &'r HeaderMap,
    accepted: OnceCell<Accepted>,
    named: OnceCell<Named>,
    /// Whether weir itself encodes for this client.
    compresses: bool,
}

impl<'r> Offer<'r> {
    pub(super) fn of(request: &'r HeaderMap, compresses: bool) -> Self {
        Self {
            request,
            accepted: OnceCell::new(),
            named: OnceCell::new(),
            compresses,
        }
    }

    fn accepted(&self) -> &Accepted {
        self.accepted.get_or_init(|| Accepted::of(self.request))
    }

    fn named(&self) -> &Named {
        self.named.get_or_init(|| Named::of(self.request))
    }
}

/// How well a variant fits; the largest is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// It has to be decoded.
    Decoded,
    Identity,
    AsItIs,
}

impl Encoding {
    pub(super) fn of(vary: &Vary, request: &HeaderMap, response: &HeaderMap) -> Self {
        let content = match Content::of(response) {
            // Nor may it be decoded.
            Content::Coded(_) if coding::forbids_transformation(response) => Content::Opaque,
            content => content,
        };
        Self {
            content,
            offered: vary.accept_encoding.then(|| Named::of(request)),
        }
    }

    /// Whether it may be sent to the client.
    pub(super) fn serves(&self, offer: &Offer<'_>) -> bool {
        let Some(offered) = &self.offered else {
            return true;
        };
        match self.content {
            Content::Coded(_) => true,
            Content::Identity => offer.compresses || offer.named().is_within(offered),
            Content::Opaque => offer.named().says_the_same(offered),
            Content::Foreign => offer.named().says_exactly_the_same(offered),
        }
    }

    /// Of what serves the client.
    pub(super) fn fit(&self, offer: &Offer<'_>) -> Fit {
        match self.content {
            Content::Coded(coding) if offer.accepted().takes(coding) => Fit::AsItIs,
            Content::Coded(_) => Fit::Decoded,
            Content::Identity => Fit::Identity,
            Content::Opaque | Content::Foreign => Fit::AsItIs,
        }
    }

    /// Whether the other one serves nobody any more whom this newer one does not serve.
    pub(super) fn supersedes(&self, other: &Self) -> bool {
        let (Some(offered), Some(before)) = (&self.offered, &other.offered) else {
            return self.offered.is_none();
        };
        self.content == other.content
            && match self.content {
                Content::Coded(_) => true,
                Content::Identity => before.is_within(offered),
                Content::Opaque => before.says_the_same(offered),
                Content::Foreign => before.says_exactly_the_same(offered),
            }
    }

    pub(super) fn size(&self) -> usize {
        self.offered.as_ref().map_or(0, Named::len)
    }
}
