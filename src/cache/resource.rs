//! What is held of one target: the variants among which the fields that `Vary` names choose (RFC 9111 §4.1).
//!
//! All fields that any response of the target named count for all of its variants, also for those whose response did not
//! name them: of two answers of a server, one with and one without `Vary`, neither may be taken for the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::encoding::{Encoding, Offer};
use super::ledger::{Kept, Share};
use super::vary::{Asker, Selector};
use super::{Refusal, Stored, Vary};
use crate::config;
use crate::semantics::coding::Named;

/// The variants of a target. Never changed: a new one takes its place in the store.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(super) key: Arc<[u8]>,
    vary: Vary,
    /// The newest one last.
    variants: Vec<Variant>,
    /// `None`: not in a store.
    pub(super) share: Option<Share>,
}

#[derive(Clone, Debug)]
pub(super) struct Variant {
    /// Of the request that it was fetched for.
    selector: Box<[u8]>,
    encoding: Encoding,
    pub(super) held: Held,
    /// `None`: not in a store.
    pub(super) kept: Option<Arc<Kept>>,
}

/// What is known of a variant.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    Response(Arc<Stored>),
    /// The last response could not be stored, and the next one hardly can.
    Uncacheable {
        until: Instant,
        why: Refusal,
    },
}

/// What a target has for a request.
#[derive(Debug)]
pub(crate) enum Selected<'r> {
    Response(&'r Arc<Stored>),
    /// Why, and until when that is believed.
    Uncacheable(Refusal, Instant),
    /// Variants for other requests at most.
    OtherVariants,
}

/// How much may be held of one target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) variants: usize,
    pub(super) bytes: u64,
}

impl Resource {
    /// Without variants.
    pub(super) fn new(key: Arc<[u8]>) -> Self {
        Self {
            key,
            vary: Vary::default(),
            variants: Vec::new(),
            share: None,
        }
    }

    /// With this response alone, fetched for this request, and in no store.
    ///
    /// # Errors
    /// If its `Vary` is none by which it can be told for whom it is.
    pub(crate) fn of_one(
        key: &[u8],
        request: Asker<'_>,
        stored: &Arc<Stored>,
        rules: &config::Cache,
    ) -> Result<Self, Refusal> {
        let vary = Vary::of(&stored.headers, rules)?;
        let limits = Limits {
            variants: 1,
            bytes: u64::MAX,
        };
        let now = stored.lease.received;
        Self::new(key.into()).with_response(Arc::clone(stored), &vary, request, limits, now)
    }

    /// What the request says in the fields that tell the variants apart.
    pub(crate) fn variant(&self, request: Asker<'_>) -> Vec<u8> {
        self.vary.selector(request).to_vec()
    }

    /// The same, and what it says of codings.
    pub(crate) fn variant_in_full(&self, request: Asker<'_>) -> Vec<u8> {
        let mut variant = self.variant(request);
        variant.push(CODINGS);
        variant.extend_from_slice(Named::of(request.fields).as_bytes());
        variant
    }

    /// The same where nothing may be known of the target.
    pub(crate) fn variant_of(known: Option<&Self>, request: Asker<'_>) -> Vec<u8> {
        match known {
            Some(known) => known.variant(request),
            None => Vary::default().selector(request).to_vec(),
        }
    }

    /// Finds the response that fits the request best; of those that fit it equally well, the newest. `compresses`: weir
    /// encodes for this client what has no coding.
    pub(crate) fn select<'r>(
        &self,
        request: impl Into<Asker<'r>>,
        compresses: bool,
        now: Instant,
    ) -> Selected<'_> {
        let request = request.into();
        let offer = Offer::of(request.fields, compresses);
        let selector = self.vary.selector(request);
        let serving = self.variants.iter().filter_map(|it| {
            let stored = it.response()?;
            (it.is_selected_by(&selector) && it.is_alive(now) && it.encoding.serves(&offer))
                .then_some((stored, &it.encoding))
        });
        // Nearly always there is one: then how well it fits need not be known.
        let best = serving.reduce(|best, next| {
            if next.1.fit(&offer) >= best.1.fit(&offer) {
                next
            } else {
                best
            }
        });
        if let Some((stored, _)) = best {
            return Selected::Response(stored);
        }
        match self.refusal(&selector, now) {
            Some((why, until)) => Selected::Uncacheable(why, until),
            None => Selected::OtherVariants,
        }
    }

    /// Why the last response to such a request could not be stored, if it is not long ago. A response from before may be
    /// held all the same.
    #[cfg(test)]
    fn uncacheable(&self, request: &HeaderMap, now: Instant) -> Option<Refusal> {
        let refusal = self.refusal(&self.vary.selector(request), now);
        refusal.map(|(why, _)| why)
    }

    fn refusal(&self, selector: &Selector, now: Instant) -> Option<(Refusal, Instant)> {
        self.variants.iter().find_map(|variant| match variant.held {
            Held::Uncacheable { until, why } => {
                (until > now && variant.is_selected_by(selector)).then_some((why, until))
            }
            Held::Response(_) => None,
        })
    }

    /// With one more response, fetched for this request; the variants that it takes the place of are gone.
    pub(super) fn with_response<'r>(
        &self,
        stored: Arc<Stored>,
        vary: &Vary,
        request: impl Into<Asker<'r>>,
        limits: Limits,
        now: Instant,
    ) -> Result<Self, Refusal> {
        let request = request.into();
        let mut next = self.successor();
        if !next.vary.covers(vary) {
            // What the requests of these variants said in the new fields is not known.
            next.vary = next.vary.joined(vary);
            next.variants.clear();
        }
        let selector = next.vary.selector(request);
        let encoding = Encoding::of(vary, request.fields, &stored.headers);
        let offer = Offer::of(request.fields, false);
        next.variants.retain(|old| {
            let replaced = match old.held {
                Held::Uncacheable { .. } => true,
                // What the client would have been sent is outdated, also if it is of another coding now.
                Held::Response(_) => {
                    old.encoding.serves(&offer) || encoding.supersedes(&old.encoding)
                }
            };
            old.is_alive(now) && !(replaced && old.is_selected_by(&selector))
        });
        next.make_room(limits.variants, now)?;
        next.variants.push(Variant {
            selector: selector.as_slice().into(),
            encoding,
            held: Held::Response(stored),
            kept: None,
        });
        while next.size() > limits.bytes && next.variants.len() > 1 {
            next.variants.remove(0);
        }
        Ok(next)
    }

    /// With a note that what such a request gets cannot be stored. `None` if there is no room for it.
    pub(super) fn with_refusal<'r>(
        &self,
        (why, until): (Refusal, Instant),
        vary: &Vary,
        request: impl Into<Asker<'r>>,
        limits: Limits,
        now: Instant,
    ) -> Option<Self> {
        let request = request.into();
        let mut next = self.successor();
        // A response that is not stored must not throw out those that are: then the fields it names do not count, and
        // the note is for more requests than it need be.
        let holds_responses = next.responses().next().is_some();
        if !holds_responses && !next.vary.covers(vary) {
            next.vary = next.vary.joined(vary);
            next.variants.clear();
        }
        let selector = next.vary.selector(request);
        next.variants.retain(|old| {
            old.is_alive(now) && !(old.response().is_none() && old.is_selected_by(&selector))
        });
        if next.variants.len() >= limits.variants {
            return None;
        }
        next.variants.push(Variant {
            selector: selector.as_slice().into(),
            encoding: Encoding::of(&Vary::default(), request.fields, &HeaderMap::new()),
            held: Held::Uncacheable { until, why },
            kept: None,
        });
        Some(next)
    }

    /// Without the note that what such a request gets cannot be stored. `None` if there is none.
    pub(super) fn without_refusal(&self, request: Asker<'_>) -> Option<Self> {
        let selector = self.vary.selector(request);
        let mut next = self.successor();
        next.variants
            .retain(|it| it.response().is_some() || !it.is_selected_by(&selector));
        (next.variants.len() < self.variants.len()).then_some(next)
    }

    /// With one response in place of another, which it was made of. `None` if that is not here.
    pub(super) fn with_replaced(&self, old: &Arc<Stored>, new: &Arc<Stored>) -> Option<Self> {
        let mut next = self.successor();
        let place = next.variants.iter().position(|it| it.holds(old))?;
        let mut variant = next.variants.remove(place);
        variant.held = Held::Response(Arc::clone(new));
        variant.kept = None;
        next.variants.push(variant);
        Some(next)
    }

    /// Changes the responses; how many it changed. Notes of what cannot be stored go if any does.
    pub(super) fn with_each(
        &self,
        change: impl Fn(&Variant, &Arc<Stored>) -> Change,
    ) -> (Self, u64) {
        let mut next = self.successor();
        let mut changed = 0;
        next.variants.retain_mut(|variant| {
            let Some(stored) = variant.response() else {
                return true;
            };
            let change = change(variant, stored);
            changed += u64::from(!matches!(change, Change::Stays));
            match change {
                Change::Stays => true,
                Change::Goes => false,
                Change::Becomes(new) => {
                    variant.held = Held::Response(new);
                    true
                }
            }
        });
        if changed > 0 {
            next.variants.retain(|variant| variant.response().is_some());
        }
        (next, changed)
    }

    pub(super) fn responses(&self) -> impl Iterator<Item = (&Variant, &Arc<Stored>)> {
        let variants = self.variants.iter();
        variants.filter_map(|variant| Some((variant, variant.response()?)))
    }

    pub(super) fn variants(&self) -> &[Variant] {
        &self.variants
    }

    pub(super) fn variants_mut(&mut self) -> &mut [Variant] {
        &mut self.variants
    }

    /// In memory, with everything.
    pub(super) fn size(&self) -> u64 {
        let variants: u64 = self.variants.iter().map(Variant::size).sum();
        self.own_size() + variants
    }

    /// Without the variants.
    pub(super) fn own_size(&self) -> u64 {
        (OVERHEAD + self.key.len() + self.vary.size()) as u64
    }

    /// When the last of its variants is of no more use.
    pub(super) fn until(&self, now: Instant) -> Instant {
        let ends = self.variants.iter().map(Variant::until);
        ends.max().unwrap_or(now)
    }

    fn successor(&self) -> Self {
        Self {
            key: Arc::clone(&self.key),
            vary: self.vary.clone(),
            variants: self.variants.clone(),
            share: None,
        }
    }

    /// Notes go first, then what is only worth validating.
    fn make_room(&mut self, most: usize, now: Instant) -> Result<(), Refusal> {
        if self.variants.len() < most {
            return Ok(());
        }
        let mut variants = self.variants.iter();
        let note = variants.position(|it| it.response().is_none());
        let is_over = |it: &Variant| it.response().is_some_and(|it| it.lease.is_over(now));
        let least = note.or_else(|| self.variants.iter().position(is_over));
        self.variants.remove(least.ok_or(Refusal::TooManyVariants)?);
        Ok(())
    }
}

/// What becomes of a response.
pub(super) enum Change {
    Stays,
    Goes,
    Becomes(Arc<Stored>),
}

impl Variant {
    pub(super) fn response(&self) -> Option<&Arc<Stored>> {
        match &self.held {
            Held::Response(stored) => Some(stored),
            Held::Uncacheable { .. } => None,
        }
    }

    pub(super) fn holds(&self, stored: &Arc<Stored>) -> bool {
        self.response().is_some_and(|own| Arc::ptr_eq(own, stored))
    }

    pub(super) fn size(&self) -> u64 {
        let held = self.response().map_or(0, |stored| stored.size());
        let tagged = self.kept.as_ref().and_then(|kept| kept.tagged.as_ref());
        let tags = tagged.map_or(0, |tagged| tagged.tags.size());
        held + (OVERHEAD + self.selector.len() + self.encoding.size() + tags) as u64
    }

    fn is_selected_by(&self, selector: &Selector) -> bool {
        *self.selector == **selector
    }

    fn is_alive(&self, now: Instant) -> bool {
        self.until() > now
    }

    fn until(&self) -> Instant {
        match &self.held {
            Held::Uncacheable { until, .. } => *until,
            Held::Response(stored) => {
                let lease = &stored.lease;
                lease.received + lease.keep_for().min(LONGEST)
            }
        }
    }
}

/// Nothing that stands for a field begins so.
const CODINGS: u8 = 2;
/// Of an entry of the map, and of a variant, about, beside what is counted.
const OVERHEAD: usize = 900;
/// Beyond it, a moment could not be told.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::testing::{headers, rules, stored};

    const ROOM: Limits = Limits {
        variants: 32,
        bytes: u64::MAX,
    };

    fn empty() -> Resource {
        Resource::new(Arc::from(&b"http://a.example/"[..]))
    }

    type Fields<'f> = &'f [(&'f str, &'f str)];

    impl Resource {
        fn and(self, request: Fields<'_>, response: Fields<'_>, body: &'static str) -> Self {
            self.and_within(ROOM, request, response, body).unwrap()
        }

        fn and_within(
            &self,
            limits: Limits,
            request: Fields<'_>,
            response: Fields<'_>,
            body: &'static str,
        ) -> Result<Self, Refusal> {
            let stored = Arc::new(stored(response, body));
            let vary = Vary::of(&stored.headers, &rules()).unwrap();
            let now = stored.lease.received;
            self.with_response(stored, &vary, &headers(request), limits, now)
        }

        fn and_refusal(&self, request: Fields<'_>, response: Fields<'_>) -> Option<Self> {
            let now = Instant::now();
            let vary = Vary::of(&headers(response), &rules()).unwrap();
            let note = (Refusal::TooLarge, now + Duration::from_secs(60));
            self.with_refusal(note, &vary, &headers(request), ROOM, now)
        }

        /// The body of what is selected, or what is said instead.
        fn answer(&self, request: Fields<'_>) -> &str {
            self.answer_encoding(false, request)
        }

        fn answer_encoding(&self, compresses: bool, request: Fields<'_>) -> &str {
            match self.select(&headers(request), compresses, Instant::now()) {
                Selected::Response(stored) => {
                    std::str::from_utf8(stored.body.whole().unwrap()).unwrap()
                }
                Selected::Uncacheable(..) => "uncacheable",
                Selected::OtherVariants => "-",
            }
        }
    }

    #[test]
    fn variants_are_told_apart_by_what_vary_names() {
        let resource = empty()
            .and(&[("x-a", "1")], &[("vary", "x-a")], "one")
            .and(&[("x-a", "2")], &[("vary", "x-a")], "two")
            .and(&[], &[("vary", "x-a")], "none");
        assert_eq!(resource.answer(&[("x-a", "1"), ("x-b", "3")]), "one");
        assert_eq!(resource.answer(&[("x-a", "2")]), "two");
        assert_eq!(resource.answer(&[]), "none");
        assert_eq!(resource.answer(&[("x-a", "")]), "-");
        let resource = resource.and(&[("x-a", "1")], &[("vary", "X-A")], "new");
        assert_eq!(resource.answer(&[("x-a", "1")]), "new");
        assert_eq!(resource.variants.len(), 3);
        assert_eq!(empty().answer(&[]), "-");
    }

    /// Next.js answers one URL with a page or with its data, by the field `rsc`; caches on the way may have lost `Vary`.
    #[test]
    fn a_page_and_its_data_are_never_mixed_if_one_of_them_says_vary() {
        let (page, data): (Fields<'_>, Fields<'_>) = (&[], &[("rsc", "1")]);
        let resource = empty().and(data, &[("vary", "rsc")], "data");
        let resource = resource.and(page, &[], "page");
        assert_eq!(
            (resource.answer(page), resource.answer(data)),
            ("page", "data")
        );

        let resource = empty().and(page, &[], "page");
        assert_eq!(resource.answer(data), "page", "nobody has said otherwise");
        let resource = resource.and(data, &[("vary", "rsc")], "data");
        assert_eq!(
            (resource.answer(page), resource.answer(data)),
            ("-", "data")
        );
        let resource = resource.and(page, &[], "page");
        assert_eq!(
            (resource.answer(page), resource.answer(data)),
            ("page", "data")
        );
    }

    #[test]
    fn fields_are_not_gathered_without_end() {
        let mut resource = empty();
        for part in ["a", "b", "c"] {
            let vary: String = (0..20).map(|n| format!("{part}{n},")).collect();
            resource = resource.and(&[], &[("vary", &vary)], "");
        }
        assert_eq!(
            resource.vary.size(),
            resource.vary.selector(&HeaderMap::new()).len() * 34 + 10
        );
        assert_eq!(resource.vary.selector(&HeaderMap::new()).len(), 20);
    }

    #[test]
    fn one_response_serves_clients_that_take_different_codings() {
        let takes = |codings| [("accept-encoding", codings)];
        let vary = ("vary", "accept-encoding");
        let gzip = empty().and(
            &takes("gzip"),
            &[vary, ("content-encoding", "gzip")],
            "gzip",
        );
        for request in ["gzip, br", "br", "identity", "gzip;q=0"] {
            assert_eq!(
                gzip.answer(&takes(request)),
                "gzip",
                "{request}: weir decodes it"
            );
        }
        assert_eq!(gzip.answer(&[]), "gzip");

        let plain = empty().and(&takes("gzip"), &[vary], "plain");
        assert_eq!(plain.answer(&takes("GZIP , identity")), "plain");
        assert_eq!(plain.answer(&[]), "plain");
        assert_eq!(plain.answer(&takes("br")), "-", "the origin may have that");
        assert_eq!(plain.answer_encoding(true, &takes("br")), "plain");
        let unvaried = empty().and(&takes("gzip"), &[], "plain");
        assert_eq!(unvaried.answer(&takes("br")), "plain");

        let opaque = empty().and(
            &takes("dcb, gzip"),
            &[vary, ("content-encoding", "dcb")],
            "dcb",
        );
        assert_eq!(opaque.answer(&takes("DCB,gzip")), "dcb");
        for request in ["dcb", "gzip, dcb", ""] {
            assert_eq!(
                opaque.answer_encoding(true, &takes(request)),
                "-",
                "{request}"
            );
        }
    }

    #[test]
    fn of_several_codings_the_one_is_best_that_is_sent_as_it_is() {
        let takes = |codings| [("accept-encoding", codings)];
        let vary = ("vary", "accept-encoding");
        let all = empty()
            .and(&takes("br"), &[vary, ("content-encoding", "br")], "br")
            .and(&[], &[vary], "plain");
        assert_eq!(all.answer(&[]), "plain", "rather than decoded");
        assert_eq!(
            all.variants.len(),
            1,
            "what it was answered with before is outdated"
        );
        let all = all.and(&takes("br"), &[vary, ("content-encoding", "br")], "br");
        let all = all.and(
            &takes("gzip"),
            &[vary, ("content-encoding", "gzip")],
            "gzip",
        );
        assert_eq!(
            all.answer(&takes("br")),
            "gzip",
            "the one that would have been decoded is gone"
        );
        let all = empty().and(&[], &[vary], "plain").and(
            &takes("gzip"),
            &[vary, ("content-encoding", "gzip")],
            "gzip",
        );
        assert_eq!(all.answer(&takes("gzip")), "gzip");
        assert_eq!(all.answer(&takes("br")), "gzip", "decoded");
        assert_eq!(all.answer_encoding(true, &takes("br")), "plain");
        assert_eq!(all.answer(&[]), "plain");
        assert_eq!(all.and(&[], &[], "same").variants.len(), 1);
    }

    /// Otherwise it would be found stale, fetched and found stale for ever.
    #[test]
    fn what_an_origin_encodes_no_more_is_replaced() {
        let takes = [("accept-encoding", "br, gzip")];
        let vary = ("vary", "accept-encoding");
        let resource = empty()
            .and(&takes, &[vary, ("content-encoding", "br")], "br")
            .and(&takes, &[vary], "plain");
        assert_eq!(resource.answer(&takes), "plain");
        assert_eq!(resource.variants.len(), 1);
    }

    #[test]
    fn plain_variants_do_not_pile_up() {
        let takes = |codings| [("accept-encoding", codings)];
        let vary = ("vary", "accept-encoding");
        let resource = empty()
            .and(&takes("gzip"), &[vary], "first")
            .and(&takes("gzip, br"), &[vary], "second")
            .and(&takes("deflate"), &[vary], "third");
        assert_eq!(resource.variants.len(), 2);
        assert_eq!(resource.answer(&takes("gzip")), "second");
        assert_eq!(resource.answer(&takes("deflate")), "third");
    }

    #[test]
    fn nothing_more_is_stored_beyond_the_limit() {
        let limits = Limits {
            variants: 2,
            ..ROOM
        };
        let vary = [("vary", "x-a")];
        let and = |resource: &Resource, n| resource.and_within(limits, &[("x-a", n)], &vary, n);
        let two = and(&and(&empty(), "1").unwrap(), "2").unwrap();
        assert_eq!(and(&two, "3").unwrap_err(), Refusal::TooManyVariants);
        assert!(and(&two, "2").is_ok(), "in place of an old one");
        // one that is of no more use makes room
        let mut old = stored(&vary, "0");
        old.lease.lifetime = Duration::ZERO;
        let names = Vary::of(&old.headers, &rules()).unwrap();
        let (now, request) = (old.lease.received, headers(&[("x-a", "0")]));
        let one = and(&empty(), "1").unwrap();
        let two = one.with_response(Arc::new(old), &names, &request, limits, now);
        let two = two.unwrap();
        assert_eq!(two.variants.len(), 2);
        assert_eq!(two.answer(&[("x-a", "0")]), "-");
        assert_eq!(and(&two, "3").unwrap().variants.len(), 2);
        // and so does a note
        let noted = one.and_refusal(&[("x-a", "5")], &vary).unwrap();
        let two = and(&noted, "3").unwrap();
        assert_eq!(two.answer(&[("x-a", "3")]), "3");
        assert_eq!(two.answer(&[("x-a", "5")]), "-");
    }

    #[test]
    fn all_variants_together_have_a_limit_and_the_oldest_goes_first() {
        let vary = [("vary", "x-a")];
        let and = |resource: &Resource, bytes, n| {
            let limits = Limits { bytes, ..ROOM };
            resource
                .and_within(limits, &[("x-a", n)], &vary, n)
                .unwrap()
        };
        let two = and(&and(&empty(), u64::MAX, "1"), u64::MAX, "2");
        let next = and(&two, two.size(), "3");
        assert_eq!(next.answer(&[("x-a", "1")]), "-");
        assert_eq!(next.answer(&[("x-a", "2")]), "2");
        assert_eq!(next.answer(&[("x-a", "3")]), "3");
        assert_eq!(and(&next, 1, "4").variants.len(), 1, "but the newest stays");
    }

    #[test]
    fn what_could_not_be_stored_is_noted_and_throws_nothing_out() {
        let a = [("x-a", "1")];
        let noted = empty().and_refusal(&a, &[("vary", "x-a")]).unwrap();
        assert_eq!(noted.answer(&a), "uncacheable");
        assert_eq!(noted.answer(&[]), "-");
        let minute = Instant::now() + Duration::from_secs(61);
        assert!(matches!(
            noted.select(&headers(&a), false, minute),
            Selected::OtherVariants
        ));
        assert_eq!(noted.and_refusal(&a, &[]).unwrap().variants.len(), 1);
        // then it could be
        let stored = noted.and(&a, &[("vary", "x-a")], "one");
        assert_eq!(stored.answer(&a), "one");
        assert_eq!(stored.variants.len(), 1);
        // and then not again, with another field; for the same request and for others
        let both = stored.and_refusal(&a, &[("vary", "x-b")]).unwrap();
        assert_eq!(both.answer(&a), "one");
        assert_eq!(
            both.uncacheable(&headers(&a), Instant::now()),
            Some(Refusal::TooLarge)
        );
        assert_eq!(both.uncacheable(&headers(&[]), Instant::now()), None);
    }

    #[test]
    fn a_validated_response_takes_the_place_of_what_it_was_made_of() {
        let vary = [("vary", "x-a")];
        let resource = empty()
            .and(&[("x-a", "1")], &vary, "1")
            .and(&[("x-a", "2")], &vary, "2");
        let old = Arc::clone(resource.variants[0].response().unwrap());
        let new = Arc::new(stored(&vary, "new"));
        let next = resource.with_replaced(&old, &new).unwrap();
        assert_eq!(next.answer(&[("x-a", "1")]), "new");
        assert_eq!(next.answer(&[("x-a", "2")]), "2");
        assert!(next.with_replaced(&old, &new).is_none());
    }

    proptest! {
        /// Whatever was stored: what is selected was fetched for a request that says the same in every field that any
        /// response named, and what was stored last for a request is what it gets.
        #[test]
        fn no_request_gets_what_is_for_another(
            steps in prop::collection::vec(
                (prop::collection::vec((0..3_usize, 0..2_u8), 0..3), prop::collection::vec(0..3_usize, 0..3)),
                1..12,
            ),
            asked in prop::collection::vec((0..3_usize, 0..2_u8), 0..3),
        ) {
            const NAMES: [&str; 3] = ["x-a", "accept-language", "rsc"];
            let request = |fields: &[(usize, u8)]| {
                let fields: Vec<_> = fields.iter().map(|(n, v)| (NAMES[*n], ["de", "fr"][usize::from(*v)])).collect();
                headers(&fields)
            };
            let says = |fields: &[(usize, u8)], name: usize| {
                fields.iter().filter(|(n, _)| *n == name).map(|(_, v)| *v).collect::<Vec<_>>()
            };
            let mut resource = empty();
            let mut named = std::collections::BTreeSet::new();
            for (number, (fields, vary)) in steps.iter().enumerate() {
                named.extend(vary);
                let text = vary.iter().map(|n| NAMES[*n]).collect::<Vec<_>>().join(",");
                let stored = Arc::new(stored(&[("vary", &text)], number.to_string()));
                let vary = Vary::of(&stored.headers, &rules()).unwrap();
                let now = stored.lease.received;
                resource = resource.with_response(stored, &vary, &request(fields), ROOM, now).unwrap();
                for asked in steps.iter().map(|(fields, _)| fields).chain([&asked]) {
                    let same = |one: &[(usize, u8)]| named.iter().all(|name| says(one, *name) == says(asked, *name));
                    // The newest of those that are for such a request, and that came when all fields were known.
                    match resource.select(&request(asked), false, now) {
                        Selected::Response(stored) => {
                            let body: usize = std::str::from_utf8(stored.body.whole().unwrap()).unwrap().parse().unwrap();
                            prop_assert!(same(&steps[body].0));
                            let newest = steps[..=number].iter().rposition(|(fields, _)| same(fields));
                            prop_assert_eq!(Some(body), newest);
                        }
                        _ => prop_assert!(!same(fields)),
                    }
                }
            }
        }
    }
}
