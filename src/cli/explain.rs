//! `weir explain`

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use http::{HeaderName, Method, StatusCode};
use serde::Serialize;

use super::check::Format;
use super::explained;
use crate::config::{self, AccessLog as Access, Config};
use crate::deadline::Clock;
use crate::listen::received::received;
use crate::listen::tls;
use crate::proxy::explain::{Answer, Explainer, Explanation, Given};
use crate::semantics::host;
use crate::state::{State, Surroundings};
use crate::telemetry::access_log::AccessLog;

/// A request that a client could send.
#[derive(Args)]
pub(super) struct Question {
    /// What is asked for: `http://HOST[:PORT][/PATH][?QUERY]`, or with `https`. The path is taken as it is written.
    url: String,
    /// Its method.
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// One of its fields; may be repeated. `Content-Length` or `Transfer-Encoding: chunked` stand for a body.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The listener that it comes to. Default: by the scheme and the port of the URL.
    #[arg(long, value_name = "NAME")]
    listen: Option<String>,
    /// The address that it comes from.
    #[arg(long, value_name = "ADDRESS", default_value = "192.0.2.1")]
    from: IpAddr,
    /// A field of the response that a server gives; may be repeated. Tells whether that is stored, and how it is encoded.
    #[arg(long = "response", value_name = "NAME: VALUE")]
    response: Vec<String>,
    /// The status of that response. Default: 200, where there is a `--response`.
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..=599))]
    status: Option<u16>,
}

/// All that is told.
#[derive(Serialize)]
pub(super) struct Told {
    pub(super) listener: On,
    /// The request, as it was asked about.
    pub(super) request: String,
    #[serde(flatten)]
    pub(super) explanation: Explanation,
}

/// Where the request comes in.
#[derive(Debug, Serialize)]
pub(super) struct On {
    pub(super) name: String,
    pub(super) addresses: Vec<String>,
    pub(super) tls: bool,
    /// Where the URL does not settle it.
    pub(super) because: Option<String>,
    /// The file of the certificate that is shown.
    pub(super) certificate: Option<String>,
    /// It is shown because there is none for the name that is asked for.
    pub(super) certificate_is_default: bool,
    /// There is none for this name, and so no connection.
    pub(super) refuses_handshake: bool,
}

pub(super) fn explain(
    file: Option<PathBuf>,
    question: &Question,
    format: Format,
) -> anyhow::Result<ExitCode> {
    // That of an invalid config is 1 elsewhere. Here that is an answer about the request.
    let told = match config::find(file).and_then(|file| config::load(&file)) {
        Ok(config) => answer(config, question)?,
        Err(error) => {
            super::report(&error.into());
            return Ok(ExitCode::from(2));
        }
    };
    super::out(&match format {
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&told)?),
        Format::Text => explained::text(&told),
    })?;
    let answer = told.explanation.answer.as_ref();
    let refused = answer.is_some_and(|answer| answer.refused.is_some());
    Ok(match refused || told.listener.refuses_handshake {
        true => ExitCode::from(1),
        false => ExitCode::SUCCESS,
    })
}

fn answer(mut config: Config, question: &Question) -> anyhow::Result<Told> {
    let url = Url::parse(&question.url)?;
    let head = question.head(&url)?;
    let method = Method::from_bytes(question.method.as_bytes())
        .with_context(|| format!("`{}` is not a method", question.method))?;
    let given = question.given(&method)?;
    let on = On::of(&config, &url, question.listen.as_deref())?;
    // Nothing is logged, and no file opened for it.
    config.log.access = Access::Off;
    let access = AccessLog::start(&config.log)?;
    let clock = Clock::start();
    let around = Surroundings::alone(&tls::settings, clock);
    let state = Arc::new(State::build(Arc::new(config), &around));
    let mut listeners = state.listeners.iter().flatten();
    let listener = listeners.find(|listener| listener.name.as_str() == on.name);
    let listener = Arc::clone(listener.context("the config has no such listener")?);
    let mut told = Told {
        listener: on,
        request: format!("{} {}", question.method, question.url),
        explanation: Explanation::default(),
    };
    if told.listener.refuses_handshake {
        return Ok(told);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    told.explanation = runtime.block_on(async {
        let explainer = Explainer::new(state, access.sink(), clock);
        match received(&listener, head.as_bytes()) {
            Ok(request) => {
                let peer = SocketAddr::new(question.from, 0);
                let given = given.as_ref();
                explainer.explain(&listener, peer, request, given).await
            }
            Err(refused) => Explanation {
                answer: Some(Answer {
                    status: refused.status.as_u16(),
                    refused: Some(refused.reason),
                    location: None,
                    fields: Vec::new(),
                }),
                ..Explanation::default()
            },
        }
    });
    Ok(told)
}

impl Question {
    /// The head as a client of HTTP/1.1 sends it. A `Host` among the fields takes the place of that of the URL.
    fn head(&self, url: &Url<'_>) -> anyhow::Result<String> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, url.target);
        let is_host = |line: &&String| {
            line.split_once(':')
                .is_some_and(|(name, _)| name.eq_ignore_ascii_case("host"))
        };
        if !self.headers.iter().any(|line| is_host(&line)) {
            head.push_str(&format!("Host: {}\r\n", url.authority));
        }
        for line in &self.headers {
            one_line(line)?;
            head.push_str(line);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        Ok(head)
    }

    fn given(&self, method: &Method) -> anyhow::Result<Option<Given>> {
        if self.response.is_empty() && self.status.is_none() {
            return Ok(None);
        }
        let status = self.status.unwrap_or(StatusCode::OK.as_u16());
        let mut head = format!("HTTP/1.1 {status} -\r\n");
        for line in &self.response {
            one_line(line)?;
            head.push_str(line);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        let given = Given::parse(head.as_bytes(), method);
        given
            .map(Some)
            .map_err(|error| anyhow!(error).context("weir would take that for no response: 502"))
    }
}

/// What is no line would be several of them, or none. The rest is judged as that of a client.
fn one_line(line: &str) -> anyhow::Result<()> {
    let name = line.split_once(':').map(|(name, _)| name);
    let named = name.is_some_and(|name| HeaderName::from_bytes(name.as_bytes()).is_ok());
    if !named || line.contains(['\r', '\n', '\0']) {
        bail!(
            "`{}` is not a field; write `NAME: VALUE`",
            line.escape_debug()
        );
    }
    Ok(())
}

/// A URL in parts, none of them changed.
struct Url<'u> {
    https: bool,
    authority: &'u str,
    /// Path and query.
    target: String,
}

impl<'u> Url<'u> {
    fn parse(url: &'u str) -> anyhow::Result<Self> {
        let scheme = url.split_once("://");
        let (https, rest) = match scheme {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            _ => bail!("`{url}` is not a URL such as `http://www.example.com/`"),
        };
        // What follows `#` stays with the client.
        let rest = rest.split('#').next().unwrap_or_default();
        if rest.contains(['\r', '\n', ' ', '\0']) {
            bail!("the URL has a space or a line end; write it as `%20` or `%0A`");
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self {
            https,
            authority,
            target: format!("{slash}{target}"),
        })
    }

    fn port(&self) -> u16 {
        let usual = if self.https { 443 } else { 80 };
        let host = host::parse(self.authority).ok();
        host.and_then(|host| host.port).unwrap_or(usual)
    }
}

fn names(listeners: &[&config::Listener]) -> String {
    let names = listeners.iter().map(|one| format!("`{}`", one.name));
    names.collect::<Vec<_>>().join(", ")
}

impl On {
    /// The listener of that name, else that of the URL's scheme and port, else the only one with that scheme.
    fn of(config: &Config, url: &Url<'_>, named: Option<&str>) -> anyhow::Result<Self> {
        let listeners = || config.listeners.iter();
        if let Some(name) = named {
            let found = listeners().find(|listener| listener.name.as_str() == name);
            let listener = found.with_context(|| format!("there is no listener `{name}`"))?;
            return Ok(Self::new(listener, url, None));
        }
        let scheme = if url.https { "https" } else { "http" };
        let speaks = |listener: &&config::Listener| listener.tls.is_some() == url.https;
        let port = url.port();
        let at_port = |listener: &&config::Listener| {
            let mut addresses = listener.addresses.iter();
            addresses.any(|address| address.socket.port() == port)
        };
        let speaking: Vec<_> = listeners().filter(speaks).collect();
        let here: Vec<_> = speaking.iter().copied().filter(at_port).collect();
        match (&*here, &*speaking) {
            ([only], _) => Ok(Self::new(only, url, None)),
            ([], [only]) => {
                let because =
                    format!("no listener for {scheme} has port {port}; there is but this");
                Ok(Self::new(only, url, Some(because)))
            }
            ([], []) => bail!("no listener speaks {scheme}; name one with `--listen`"),
            ([], several) => {
                let names = names(several);
                bail!(
                    "no listener for {scheme} has port {port}; say with `--listen` which of {names} it comes to"
                )
            }
            (several, _) => {
                let names = names(several);
                bail!("{names} have port {port}; say with `--listen` which it comes to")
            }
        }
    }

    fn new(listener: &config::Listener, url: &Url<'_>, because: Option<String>) -> Self {
        // Clients send no SNI for an address (RFC 6066 §3).
        let name = host::parse(url.authority).ok().map(|host| host.name);
        let is_address = |name: &str| name.starts_with('[') || name.parse::<IpAddr>().is_ok();
        let name = name.as_deref().filter(|name| !is_address(name));
        let certificate = listener.tls.as_ref().map(|tls| tls::certificate(tls, name));
        Self {
            name: listener.name.to_string(),
            addresses: listener
                .addresses
                .iter()
                .map(|address| match address.any {
                    true => format!(":{}", address.socket.port()),
                    false => address.socket.to_string(),
                })
                .collect(),
            tls: listener.tls.is_some(),
            because,
            refuses_handshake: certificate.is_some_and(|found| found.is_none()),
            certificate_is_default: name.is_some() && matches!(certificate, Some(Some((_, false)))),
            certificate: certificate
                .flatten()
                .map(|(certificate, _)| certificate.cert.display().to_string()),
        }
    }
}
