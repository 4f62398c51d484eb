//! A stored response becomes one for the client who asks: whole, a part of it, or the word that it has it already
//! (RFC 9110 §13, §14; RFC 9111 §4.3.2).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode, Version};

use super::as_stored::AsStored;
use super::body::Body;
use super::cache_status::{CACHE_STATUS, Verdict};
use super::compress_once;
use super::decoded::DecodedBody;
use super::encoded::Source;
use super::encoding;
use super::fields::Asks;
use super::record::Record;
use super::respond;
use super::shared::SharedBody;
use crate::cache::{Caching, Follow, Form, PLACE, Partial, Stored, unsatisfied};
use crate::compress::{CodecPermit, Decoder, Plan};
use crate::semantics::cache_control;
use crate::semantics::coding::{self, Accepted, Coding, Content};
use crate::semantics::conditional::{self, Precondition, Validators};
use crate::semantics::range::{self, Resolved};
use crate::state::{Listener, Route};

/// How a stored response is handed out.
pub(super) struct Reply<'r> {
    pub(super) listener: &'r Listener,
    pub(super) route: &'r Route,
    pub(super) asks: Asks,
    pub(super) verdict: Verdict,
    /// Whether the client is told.
    pub(super) tells: bool,
    pub(super) now: Instant,
    /// For the boundary between parts.
    pub(super) random: u64,
    /// Fields of the response that are for this client only, and so not stored.
    pub(super) own: Option<&'r HeaderMap>,
    pub(super) caching: &'r Caching,
    pub(super) key: &'r [u8],
}

impl Reply<'_> {
    /// The response to the request of `record`. `coming`: the body of `stored` is on its way.
    pub(super) fn of(
        &self,
        record: Box<Record>,
        stored: &Arc<Stored>,
        coming: Option<Follow>,
    ) -> Response<Body> {
        let record = match self.as_it_is(record, stored, coming.is_some()) {
            Ok(response) => return response,
            Err(record) => record,
        };
        let request = Rc::clone(&record.request);
        // Only of what would be a success it matters whether the client has it (RFC 9110 §13.2.1).
        if self.asks.conditionally && stored.status.is_success() {
            let validators = Validators::of(stored.status, &stored.headers, stored.received_at);
            let precondition =
                conditional::evaluate(&request.headers, &request.method, &validators);
            if precondition == Precondition::NotModified {
                // That this client has it already is no reason to keep it from the others.
                if let Some(follow) = coming {
                    follow.leave_to_the_store();
                }
                return self.not_modified(record, stored);
            }
        }
        if request.method == Method::HEAD {
            let mut headers = self.headers(stored, stored.status);
            if decodes(&request.headers, stored).is_some() {
                coding::describe_decoded(&mut headers);
            }
            let stays = self.stays_plain(&record, stored);
            let mut response = self.respond(record, stored.status, headers, Vec::new());
            if stays {
                coding::vary_by_accept_encoding(response.headers_mut());
                return response.map(|body| body.settled(None));
            }
            return response;
        }
        let Some(follow) = coming else {
            return match self.range(&record, stored) {
                Some(Resolved::Parts(parts)) => self.parts(record, stored, &parts),
                Some(Resolved::Unsatisfiable) => self.unsatisfiable(record, stored),
                Some(Resolved::Whole) | None => self.whole(record, stored),
            };
        };
        let headers = self.headers(stored, stored.status);
        let mut record = record;
        record.status = Some(stored.status);
        let mut parts =
            respond::stored_parts(stored.status, headers, &record, self.listener, self.route);
        let body = Box::new(SharedBody {
            client: Rc::clone(&record.client),
            remaining: stored.length,
            follow,
        });
        let Some((decoder, permit)) = decoder(&record, stored) else {
            return Response::from_parts(parts, Body::shared(body, record));
        };
        coding::describe_decoded(&mut parts.headers);
        let source = Source::Shared(body);
        let body = DecodedBody::new(decoder, permit, source, Rc::clone(&record.client));
        Response::from_parts(parts, Body::decoded(Box::new(body), record).settled(None))
    }

    /// The response where nothing is to be done to a hit but to write it.
    #[inline]
    fn as_it_is(
        &self,
        mut record: Box<Record>,
        stored: &Arc<Stored>,
        is_coming: bool,
    ) -> Result<Response<Body>, Box<Record>> {
        if is_coming || !self.is_plain(&record, stored) {
            return Err(record);
        }
        let Some(form) = self.ready(&record, stored) else {
            return Err(record);
        };
        let status = stored.status;
        record.status = Some(status);
        let (coding, body) = match form {
            Ready::Encoded(coding, bytes) => (Some(coding), Body::whole(bytes, record)),
            Ready::Plain => (None, plain(stored, record)),
        };
        let age = stored.lease.age(self.now).as_secs();
        let ttl = self.verdict.ttl.filter(|_| self.tells);
        let head = AsStored::new(stored, coding, age, ttl);
        let mut response = Response::new(body.headed(head));
        *response.status_mut() = status;
        Ok(response)
    }

    /// Whether it is a hit of all of it over HTTP/1, to which neither the client nor the route wants something done.
    fn is_plain(&self, record: &Record, stored: &Stored) -> bool {
        !stored.lines().is_empty()
            && record.request.version != Version::HTTP_2
            && record.request.method == Method::GET
            && !(self.asks.conditionally || self.asks.for_ranges)
            && self.verdict == Verdict::hit(self.verdict.ttl.unwrap_or_default())
            && self.own.is_none()
            && decodes(&record.request.headers, stored).is_none()
            && self.route.response_headers.is_empty()
            // It would take the place of the server's.
            && (self.listener.hsts.is_none()
                || !stored.headers.contains_key(header::STRICT_TRANSPORT_SECURITY))
    }

    /// The form that the client gets, if it is ready and so are the lines of its head.
    fn ready(&self, record: &Record, stored: &Arc<Stored>) -> Option<Ready> {
        let Some(compress) = &self.route.compress else {
            return Some(Ready::Plain);
        };
        let (status, headers) = (stored.status, &stored.headers);
        let decision = encoding::decide(record, compress, self.listener, status, headers);
        match decision.plan {
            Err(_) if !decision.varies => Some(Ready::Plain),
            Ok(Plan::Encode { coding, .. }) => {
                match compress_once::form(self.caching, self.key, stored, coding, compress)? {
                    Form::Encoded(bytes) => Some(Ready::Encoded(coding, bytes)),
                    Form::Useless => None,
                }
            }
            _ => None,
        }
    }

    /// Whether the client would get it encoded, were that of any use.
    fn stays_plain(&self, record: &Record, stored: &Stored) -> bool {
        let Some(compress) = &self.route.compress else {
            return false;
        };
        let (status, headers) = (stored.status, &stored.headers);
        let plan = encoding::decide(record, compress, self.listener, status, headers).plan;
        let Ok(Plan::Encode { coding, .. }) = plan else {
            return false;
        };
        stored.encodings.form(coding) == Some(Form::Useless)
    }

    /// The fields of a response with this status.
    fn headers(&self, stored: &Stored, status: StatusCode) -> HeaderMap {
        let mut headers = stored.headers.clone();
        let age = stored.lease.age(self.now).as_secs();
        let is_used_again = self.verdict.forwarded.is_none() || self.verdict.collapsed;
        // Of what was just fetched, only the age that it came with is worth telling (RFC 9111 §5.1).
        if is_used_again || age > 0 {
            respond::fill_in(&mut headers, header::AGE, HeaderValue::from(age));
        } else {
            headers.remove(header::AGE);
        }
        let verdict = self.verdict.beside(status);
        let verdict = self.tells.then(|| verdict.to_value()).flatten();
        match (headers.get_mut(CACHE_STATUS), verdict) {
            (Some(place), Some(verdict)) if *place == PLACE => *place = verdict,
            (Some(place), None) if *place == PLACE => {
                headers.remove(CACHE_STATUS);
            }
            (_, Some(verdict)) => {
                headers.append(CACHE_STATUS, verdict);
            }
            (_, None) => {}
        }
        for (name, value) in self.own.into_iter().flatten() {
            headers.append(name, value.clone());
        }
        headers
    }

    /// RFC 9110 §15.4.5. The client has a representation; what tells of that would tell of ours.
    fn not_modified(&self, record: Box<Record>, stored: &Stored) -> Response<Body> {
        let status = StatusCode::NOT_MODIFIED;
        let mut headers = self.headers(stored, status);
        let asked = &record.request.headers;
        if decodes(asked, stored).is_some() {
            coding::vary_by_accept_encoding(&mut headers);
            coding::weaken_etag_as_asked(&mut headers, asked);
        }
        for name in OF_CONTENT {
            headers.remove(name);
        }
        coding::forget_digests_of_content(&mut headers);
        self.respond(record, status, headers, Vec::new())
    }

    /// The ranges that are asked for of what is stored (RFC 9110 §14.2). They are of its bytes as they are: who cannot take
    /// these gets all of it.
    fn range(&self, record: &Record, stored: &Stored) -> Option<Resolved> {
        let request = &record.request.headers;
        let is_asked_for = stored.status == StatusCode::OK && self.asks.for_ranges;
        if !is_asked_for || decodes(request, stored).is_some() {
            return None;
        }
        let ranges = range::parse(request)?;
        let mut validators = Validators::of(stored.status, &stored.headers, stored.received_at);
        if self.has_several_forms(record, stored) {
            validators = validators.sharing_the_date();
        }
        let holds = conditional::if_range(request, &validators);
        holds.then(|| ranges.resolve(stored.body.len() as u64))
    }

    /// Whether clients are sent different bytes of it, by what they can take: then what one of them has the beginning of may be
    /// encoded, and another's not.
    fn has_several_forms(&self, record: &Record, stored: &Stored) -> bool {
        let (status, headers) = (stored.status, &stored.headers);
        if let Content::Coded(_) = stored.coded {
            return !coding::forbids_transformation(headers);
        }
        let compress = self.route.compress.as_ref();
        compress.is_some_and(|compress| {
            encoding::decide(record, compress, self.listener, status, headers).varies
        })
    }

    fn parts(
        &self,
        mut record: Box<Record>,
        stored: &Stored,
        parts: &[std::ops::Range<u64>],
    ) -> Response<Body> {
        let status = StatusCode::PARTIAL_CONTENT;
        let headers = self.headers(stored, status);
        record.status = Some(status);
        let mut head = respond::stored_parts(status, headers, &record, self.listener, self.route);
        let headers = &mut head.headers;
        // As the whole would, behind what the route does to it (RFC 9110 §15.3.7).
        if let Some(compress) = &self.route.compress
            && encoding::decide(&record, compress, self.listener, stored.status, headers).varies
        {
            coding::vary_by_accept_encoding(headers);
        }
        let kind = headers.get(header::CONTENT_TYPE).cloned();
        let partial = Partial::new(&stored.body, parts, kind.as_ref(), self.random);
        coding::forget_digests_of_content(headers);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(partial.length));
        headers.remove(header::CONTENT_RANGE);
        for (name, value) in [
            (header::CONTENT_RANGE, partial.content_range),
            (header::CONTENT_TYPE, partial.content_type),
        ] {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        let body = Body::pieces(partial.pieces, record).settled(None);
        Response::from_parts(head, body)
    }

    /// RFC 9110 §15.5.17.
    fn unsatisfiable(&self, record: Box<Record>, stored: &Stored) -> Response<Body> {
        let status = StatusCode::RANGE_NOT_SATISFIABLE;
        let mut headers = self.headers(stored, status);
        for name in OF_CONTENT {
            headers.remove(name);
        }
        coding::forget_digests(&mut headers);
        // What they allow is said of the stored response. A cache on the way that took this one for fresh would send it to
        // those, too, who ask for all of it: `Range` is no part of its key (RFC 9111 §4).
        cache_control::forget(&mut headers);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
        let range = unsatisfied(stored.body.len() as u64);
        headers.insert(header::CONTENT_RANGE, range);
        self.respond(record, status, headers, Vec::new())
    }

    fn respond(
        &self,
        mut record: Box<Record>,
        status: StatusCode,
        headers: HeaderMap,
        pieces: Vec<Bytes>,
    ) -> Response<Body> {
        record.status = Some(status);
        let parts = respond::stored_parts(status, headers, &record, self.listener, self.route);
        Response::from_parts(parts, Body::pieces(pieces, record))
    }

    /// All of it, in the coding that suits the client.
    fn whole(&self, mut record: Box<Record>, stored: &Arc<Stored>) -> Response<Body> {
        let status = stored.status;
        let headers = self.headers(stored, status);
        record.status = Some(status);
        let mut parts = respond::stored_parts(status, headers, &record, self.listener, self.route);
        // Servers name a coding of nothing, too: then its length is known.
        if decodes(&record.request.headers, stored).is_some() && stored.body.len() == 0 {
            coding::describe_decoded(&mut parts.headers);
            if stored.status != StatusCode::NO_CONTENT {
                parts
                    .headers
                    .insert(header::CONTENT_LENGTH, HeaderValue::from(0));
            }
            return Response::from_parts(parts, plain(stored, record).settled(None));
        }
        if let Some((decoder, permit)) = decoder(&record, stored) {
            coding::describe_decoded(&mut parts.headers);
            let source = Source::Pieces(stored.body.pieces().to_vec().into());
            let body = DecodedBody::new(decoder, permit, source, Rc::clone(&record.client));
            let body = Body::decoded(Box::new(body), record);
            return Response::from_parts(parts, body.settled(None));
        }
        let Some(compress) = &self.route.compress else {
            return Response::from_parts(parts, plain(stored, record).settled(None));
        };
        let plan = encoding::plan(&record, compress, self.listener, &mut parts);
        let Plan::Encode { coding, .. } = plan else {
            return Response::from_parts(parts, plain(stored, record).settled(None));
        };
        match compress_once::form(self.caching, self.key, stored, coding, compress) {
            Some(Form::Encoded(bytes)) => {
                coding::describe_encoded(&mut parts.headers, coding);
                let length = HeaderValue::from(bytes.len());
                parts.headers.insert(header::CONTENT_LENGTH, length);
                Response::from_parts(parts, Body::whole(bytes, record).settled(Some(coding)))
            }
            Some(Form::Useless) => Response::from_parts(parts, plain(stored, record).settled(None)),
            // Until it is there, each has its own.
            None => Response::from_parts(parts, plain(stored, record)),
        }
    }
}

/// A form of a stored response.
enum Ready {
    Plain,
    Encoded(Coding, Bytes),
}

/// The body as it is stored.
fn plain(stored: &Stored, record: Box<Record>) -> Body {
    match stored.body.whole() {
        Some(bytes) => Body::whole(bytes.clone(), record),
        None => Body::pieces(stored.body.pieces().to_vec(), record),
    }
}

/// The coding of the stored body, if the client cannot take it.
pub(super) fn decodes(request: &HeaderMap, stored: &Stored) -> Option<Coding> {
    decodes_content(request, &stored.headers, stored.coded)
}

/// The same of what would be stored with these fields.
pub(super) fn decodes_content(
    request: &HeaderMap,
    response: &HeaderMap,
    content: Content,
) -> Option<Coding> {
    let Content::Coded(coding) = content else {
        return None;
    };
    let takes = Accepted::of(request).takes(coding);
    (!takes && !coding::forbids_transformation(response)).then_some(coding)
}

/// What decodes the stored body, if the client cannot take it and there is memory for that.
fn decoder(record: &Record, stored: &Stored) -> Option<(Decoder, CodecPermit)> {
    let coding = decodes(&record.request.headers, stored)?;
    let permit = permit(record, stored, coding)?;
    Some((Decoder::new(coding).ok()?, permit))
}

/// Whether the client can be sent the stored body in a form that it takes.
pub(super) fn can_be_taken(record: &Record, stored: &Stored) -> bool {
    decodes(&record.request.headers, stored)
        .is_none_or(|coding| permit(record, stored, coding).is_some())
}

fn permit(record: &Record, stored: &Stored, coding: Coding) -> Option<CodecPermit> {
    let begin = stored.body.pieces().first();
    let begin = begin.and_then(|piece| piece.first().copied());
    let memory = &record.proxy.codec_memory;
    memory.take_for_decoder(coding, begin)
}

/// Fields that describe a representation that is not sent.
const OF_CONTENT: [HeaderName; 5] = [
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_RANGE,
];
