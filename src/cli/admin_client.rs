//! Talking to the admin address of a running weir.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::de::IgnoredAny;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::RunningWeir;
use crate::config::{self, Admin, AdminAddress, LoadError};

/// How long an answer may take; a reload of a large config takes a while, and an upgrade up to 30 s.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is said of an answer that weir would not give.
pub(super) const NOT_WEIR: &str = "the admin address is not weir's";
/// The largest answer.
const MAX_ANSWER: usize = 256 << 20;

/// An answer of the admin address.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// Why weir has not done as asked.
    pub(super) fn reason(&self) -> String {
        let told: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        match told.get("error").and_then(serde_json::Value::as_str) {
            Some(error) => error.to_owned(),
            None => format!("the admin address answered {}", self.status),
        }
    }
}

/// A weir that runs, and where it was said to be.
pub(super) struct Reached {
    address: Address,
    by: By,
    token: Option<String>,
}

/// Who says where it is.
enum By {
    Argument,
    File(PathBuf),
    Default,
}

/// Finds out where it is. Whoever asks several times asks the same one each time, whatever becomes of the config file.
pub(super) fn reach(weir: &RunningWeir) -> anyhow::Result<Reached> {
    whom(weir)
}

/// Sends one request, and waits for its answer.
pub(super) fn ask(weir: &RunningWeir, method: Method, path: &str) -> anyhow::Result<Answer> {
    reach(weir)?.ask(method, path)
}

impl Reached {
    /// Sends one request, and waits for its answer.
    pub(super) fn ask(&self, method: Method, path: &str) -> anyhow::Result<Answer> {
        self.send(method, path, Bytes::new())
    }

    /// The same with a body, which is JSON, as what weir answers always is.
    pub(super) fn send(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Answer> {
        let answer = self.exchange(method, path, body)?;
        if serde_json::from_slice::<IgnoredAny>(&answer.body).is_err() {
            bail!("{NOT_WEIR}: {} answered {}", self.place(), answer.status);
        }
        Ok(answer)
    }

    /// The address, and why it is that.
    fn place(&self) -> String {
        let (Address::Tcp(address) | Address::Unix(address)) = &self.address;
        match &self.by {
            By::Argument => format!("`{address}`"),
            By::File(file) => format!(
                "`{address}` (by `{}`; if weir runs by another config, name its address with `--admin URL`)",
                file.display()
            ),
            By::Default => format!("`{address}` (the default, as there is no config file here)"),
        }
    }

    fn exchange(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Answer> {
        let token = self.token.as_deref();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut request = Request::builder().method(method).uri(path);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body))?;
        let nobody = || format!("cannot reach weir at {}; is it running?", self.place());
        runtime.block_on(async {
            let asking = async {
                match &self.address {
                    Address::Tcp(host) => {
                        let stream = TcpStream::connect(host).await.with_context(nobody)?;
                        exchange(stream, host, request, token).await
                    }
                    Address::Unix(socket) => {
                        let stream = UnixStream::connect(socket).await.with_context(nobody)?;
                        exchange(stream, "localhost", request, token).await
                    }
                }
            };
            tokio::time::timeout(PATIENCE, asking)
                .await
                .map_err(|_| anyhow!("no answer within {} seconds", PATIENCE.as_secs()))?
        })
    }
}

enum Address {
    Tcp(String),
    Unix(String),
}

/// By the arguments, else by the config file, else the default.
fn whom(weir: &RunningWeir) -> anyhow::Result<Reached> {
    let file = match (&weir.admin, &weir.config.config) {
        (Some(_), None) => None,
        (_, Some(file)) => Some(file.clone()),
        // Without a file there is nothing to go by.
        (None, None) => config::find(None).ok(),
    };
    let said = file.as_deref().map(admin_of).transpose()?;
    let unknown = said.as_ref().and_then(|said| said.no_token.as_ref());
    if let (None, Some(why)) = (&weir.token, unknown) {
        bail!(
            "`admin.token` cannot be told: {why}; set it, or name the token with `--token` or `WEIR_TOKEN`"
        );
    }
    let admin = said.map(|said| said.admin);
    let token = weir.token.clone().or_else(|| admin.as_ref()?.token.clone());
    if let Some(url) = &weir.admin {
        return Ok(Reached {
            address: parse(url)?,
            by: By::Argument,
            token,
        });
    }
    let address = match admin.map(|admin| admin.address) {
        Some(Some(AdminAddress::Tcp(address))) if address.socket.ip().is_unspecified() => {
            Address::Tcp(format!("127.0.0.1:{}", address.socket.port()))
        }
        Some(Some(AdminAddress::Tcp(address))) => Address::Tcp(address.socket.to_string()),
        Some(Some(AdminAddress::Unix(path))) => Address::Unix(path.display().to_string()),
        Some(None) => {
            bail!("`admin.address` is off in the config; name the running weir with `--admin URL`")
        }
        None => Address::Tcp("127.0.0.1:9900".to_owned()),
    };
    let by = file.map_or(By::Default, By::File);
    Ok(Reached { address, by, token })
}

/// What a file says of the admin address.
struct Said {
    admin: Admin,
    /// Why its token cannot be told.
    no_token: Option<String>,
}

/// What a file says of the admin address. The rest of it may be invalid: that is when somebody wants to know what runs, or
/// to have weir say why it refuses the file.
fn admin_of(file: &Path) -> anyhow::Result<Said> {
    let invalid = match config::load(file) {
        Ok(config) => return Ok(Said::of(config.admin)),
        Err(LoadError::Invalid(report)) => report,
        Err(error) => return Err(error.into()),
    };
    let said: String = invalid.sources().map(about_admin).collect();
    if let Ok(alone) = config::parse(&format!("{ENOUGH}{said}"), file) {
        return Ok(Said::of(alone.admin));
    }
    // The address is of use without the token, whose variable may not be set here.
    let mut table: toml::Table = toml::from_str(&said).unwrap_or_default();
    if let Some(admin) = table.get_mut("admin").and_then(toml::Value::as_table_mut)
        && admin.insert("token".into(), "none".into()).is_some()
        && let Ok(alone) = config::parse(&format!("{ENOUGH}{table}"), file)
    {
        let about_token = |problem: &&config::Problem| problem.key == "admin.token";
        let problem = invalid.problems.iter().find(about_token);
        let why = problem.map_or_else(String::new, |problem| problem.message.clone());
        return Ok(Said {
            admin: Admin {
                token: None,
                ..alone.admin
            },
            no_token: Some(why),
        });
    }
    bail!(
        "`{}` is invalid and does not say where weir's admin address is; name it with `--admin URL`",
        file.display()
    )
}

impl Said {
    fn of(admin: Admin) -> Self {
        Self {
            admin,
            no_token: None,
        }
    }
}

/// What one of its files says of it.
fn about_admin(text: &str) -> String {
    match toml::from_str::<toml::Table>(text) {
        Ok(mut table) => {
            table.retain(|key, _| key == "admin");
            table.to_string()
        }
        Err(_) => admin_lines(text),
    }
}

/// The lines that are about `admin`: all that can be relied on where the syntax of others is wrong.
fn admin_lines(text: &str) -> String {
    let mut at_root = true;
    let mut inside = false;
    text.split_inclusive('\n')
        .filter(|line| {
            let line = line.trim_start();
            if line.starts_with('[') {
                at_root = false;
                inside = line.starts_with("[admin");
            }
            inside || at_root && line.starts_with("admin")
        })
        .collect()
}

/// The least that makes a config of an `[admin]` table.
const ENOUGH: &str = "listen.none.address = '127.0.0.1:0'\nroute.none.respond.status = 204\n";

fn parse(url: &str) -> anyhow::Result<Address> {
    if let Some(path) = url.strip_prefix("unix:") {
        return Ok(Address::Unix(path.to_owned()));
    }
    let host = url
        .strip_prefix("http://")
        .unwrap_or(url)
        .trim_end_matches('/');
    if host.contains("://") || host.contains('/') || !host.contains(':') {
        bail!(
            "`{url}` is no admin address; write `http://127.0.0.1:9900` or `unix:/run/weir.sock`"
        );
    }
    Ok(Address::Tcp(host.to_owned()))
}

async fn exchange<S>(
    stream: S,
    host: &str,
    mut request: Request<Full<Bytes>>,
    token: Option<&str>,
) -> anyhow::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driving = tokio::spawn(connection);
    let fields = request.headers_mut();
    fields.insert(header::HOST, HeaderValue::try_from(host)?);
    if let Some(token) = token {
        let bearer = HeaderValue::try_from(format!("Bearer {token}"))?;
        fields.insert(header::AUTHORIZATION, bearer);
    }
    let response = sender.send_request(request).await.context("no answer")?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| anyhow!("the answer broke off: {error}"))?;
    driving.abort();
    if status == StatusCode::UNAUTHORIZED {
        match token {
            None => bail!("weir wants its token; pass it with `--token` or in WEIR_TOKEN"),
            Some(_) => bail!(
                "weir refuses this token; it wants that of the config that runs, which is not the file's after \
                 `weir rollback` or as long as the file is not taken: pass it with `--token` or in WEIR_TOKEN"
            ),
        }
    }
    Ok(Answer {
        status,
        body: body.to_bytes().to_vec(),
    })
}
