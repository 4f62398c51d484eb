//! The admin address: probes, metrics, status, configs, drain, purge, upgrade.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path as Named, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::admin_access::Access;
use super::admin_config;
use super::admin_socket::{self, Bound, Socket, SocketFile};
use super::core::{Control, chain};
use super::drain::{Drained, Unknown};
use super::inherited::{Handed, Inherited};
use super::outcome::Standing;
use super::purge::Purge;
use super::reload::Source;
use super::sockets::BindError;
use super::status::Status;
use super::upgrade::Upgrade;
use crate::config::{self, AdminAddress};
use crate::telemetry::metrics::CONTENT_TYPE;

/// Connections served at once; more wait.
const MAX_CONNECTIONS: usize = 128;
/// How long a client may take for a request head, and so be idle. Short: whoever sends nothing takes the place of a probe.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// What a request may say beside its head, and how long it may take for it.
const MAX_BODY: usize = 64 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// How old a connection becomes before it is asked to end,
const CONNECTION_AGE: Duration = Duration::from_secs(300);
/// and how long it has for that: whoever takes no bytes must not keep its place for ever.
const LAST_ANSWER: Duration = Duration::from_secs(30);
/// How long the end of a process waits for the answers that it owes here.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// How long a fresh connection that is to end waits for a request that may be on its way.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// The admin servers of the process.
pub(crate) struct Admin {
    pub(super) control: Arc<Control>,
    pub(super) source: OnceLock<Weak<Source>>,
    upgrade: OnceLock<Weak<Upgrade>>,
    access: ArcSwap<Access>,
    running: Mutex<Running>,
    inherited: Arc<Inherited>,
    /// Nothing is accepted until it says true.
    gate: watch::Receiver<bool>,
    /// Tells every connection that is served when to end; each has a receiver.
    leaving: watch::Sender<bool>,
}

#[derive(Default)]
struct Running {
    settings: Option<config::Admin>,
    main: Option<Server>,
    probes: Option<Server>,
}

/// A server that runs; dropped, it accepts nothing more. What it has accepted is answered.
struct Server {
    local: Option<SocketAddr>,
    socket: Arc<Socket>,
    task: AbortHandle,
    file: Option<SocketFile>,
    /// For the process that comes after this one; `None` where systemd passes the socket to that too.
    purpose: Option<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What was bound for a config that is about to be taken. Dropped, it is as if nothing had been.
pub(crate) struct Prepared(Vec<Bound>);

impl Admin {
    pub(crate) fn new(
        control: Arc<Control>,
        inherited: Arc<Inherited>,
        gate: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let closed = Access {
            token: Some(String::new()),
        };
        Arc::new(Self {
            control,
            source: OnceLock::new(),
            upgrade: OnceLock::new(),
            access: ArcSwap::from_pointee(closed),
            running: Mutex::default(),
            inherited,
            gate,
            leaving: watch::Sender::new(false),
        })
    }

    /// Where `POST /api/reload` takes the config from; without it there is nothing to reload.
    pub(crate) fn reloads(&self, source: &Arc<Source>) {
        let _ = self.source.set(Arc::downgrade(source));
    }

    /// What `POST /api/upgrade` does; without it there is nothing to upgrade.
    pub(crate) fn upgrades(&self, upgrade: &Arc<Upgrade>) {
        let _ = self.upgrade.set(Arc::downgrade(upgrade));
    }

    /// The address, its port resolved.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.lock().main.as_ref()?.local
    }

    /// The address of the probes alone, its port resolved.
    pub(crate) fn probes(&self) -> Option<SocketAddr> {
        self.lock().probes.as_ref()?.local
    }

    /// Binds what `settings` ask for and is not bound, so that taking them cannot fail.
    pub(crate) async fn prepare(&self, settings: &config::Admin) -> Result<Prepared, BindError> {
        let before = self.lock().settings.clone();
        let mut prepared = Vec::new();
        if before
            .as_ref()
            .is_none_or(|before| before.address != settings.address)
        {
            match &settings.address {
                Some(AdminAddress::Tcp(address)) => {
                    prepared.push(admin_socket::tcp(&self.inherited, *address, false)?)
                }
                Some(AdminAddress::Unix(path)) => {
                    prepared.push(admin_socket::unix(&self.inherited, path).await?)
                }
                None => {}
            }
        }
        if before
            .as_ref()
            .is_none_or(|before| before.probes != settings.probes)
            && let Some(address) = settings.probes
        {
            prepared.push(admin_socket::tcp(&self.inherited, address, true)?);
        }
        Ok(Prepared(prepared))
    }

    /// Serves by `settings` from now on.
    pub(crate) fn apply(self: &Arc<Self>, settings: &config::Admin, prepared: Prepared) {
        self.access.store(Arc::new(Access {
            token: settings.token.clone(),
        }));
        let mut running = self.lock();
        let before = running.settings.replace(settings.clone());
        if before
            .as_ref()
            .is_none_or(|before| before.address != settings.address)
        {
            running.main = None;
        }
        if before
            .as_ref()
            .is_none_or(|before| before.probes != settings.probes)
        {
            running.probes = None;
        }
        for bound in prepared.0 {
            tracing::info!(address = %bound.name, probes = bound.probes, "the admin address is open");
            let router = if bound.probes {
                self.probe_router()
            } else {
                self.router()
            };
            let socket = Arc::new(bound.socket);
            let told = (self.gate.clone(), self.leaving.clone());
            let task = tokio::spawn(serve(Arc::clone(&socket), router, told)).abort_handle();
            let server = Some(Server {
                local: bound.local,
                socket,
                task,
                file: bound.file,
                purpose: bound.purpose,
            });
            if bound.probes {
                running.probes = server;
            } else {
                running.main = server;
            }
        }
    }

    /// Accepts nothing more.
    pub(crate) fn close(&self) {
        *self.lock() = Running::default();
    }

    /// The sockets, for the process that comes after this one.
    pub(super) fn sockets(&self) -> io::Result<Vec<Handed>> {
        let running = self.lock();
        let servers = running.main.iter().chain(&running.probes);
        let handed = servers.filter_map(|server| Some((server.purpose.clone()?, &server.socket)));
        handed
            .map(|(purpose, socket)| {
                let descriptor: OwnedFd = socket.as_fd().try_clone_to_owned()?;
                Ok(Handed::before(purpose, descriptor))
            })
            .collect()
    }

    /// The process before has left all to this one: the files of its sockets, too.
    pub(crate) fn take_over(&self) {
        let mut running = self.lock();
        let Running { main, probes, .. } = &mut *running;
        for server in main.iter_mut().chain(probes) {
            // Those of systemd stay when the process ends.
            if let (Some(file), Some(_)) = (&mut server.file, &server.purpose) {
                file.take();
            }
        }
    }

    /// Accepts nothing more, since another process does so on the same sockets, all but those that it has `left`.
    pub(super) fn hand_over(&self, left: &[String]) {
        let mut running = self.lock();
        let Running { main, probes, .. } = &mut *running;
        for server in main.iter_mut().chain(probes) {
            let is_left = server
                .purpose
                .as_ref()
                .is_some_and(|purpose| left.contains(purpose));
            if let Some(file) = server.file.as_mut().filter(|_| !is_left) {
                file.leave();
            }
        }
        *running = Running::default();
        drop(running);
        // Whoever keeps a connection would go on to ask the wrong process.
        self.leaving.send_replace(true);
    }

    /// Returns when all connections have ended, or soon after.
    pub(crate) async fn answered(&self) {
        let _ = timeout(ANSWERED_WITHIN, self.leaving.closed()).await;
    }

    fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/", get(index))
            .route("/metrics", get(metrics))
            .route("/api/status", get(status))
            .route("/api/config", get(admin_config::show))
            .route("/api/reload", post(admin_config::reload))
            .route("/api/rollback", post(admin_config::rollback))
            .route("/api/upgrade", post(upgrade))
            .route("/api/cache/purge", post(purge))
            .route(
                "/api/upstreams/{upstream}/servers/{server}/drain",
                post(drain),
            )
            .route(
                "/api/upstreams/{upstream}/servers/{server}/ready",
                post(ready),
            )
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .layer(middleware::from_fn_with_state(Arc::clone(self), guard))
            .with_state(Arc::clone(self))
    }

    fn probe_router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .layer(middleware::map_response(hardened))
            .with_state(Arc::clone(self))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(
    socket: Arc<Socket>,
    router: Router,
    (mut gate, leaving): (watch::Receiver<bool>, watch::Sender<bool>),
) {
    // Without anybody who could open it, the process is ending.
    if gate.wait_for(|open| *open).await.is_err() {
        return;
    }
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let accepted = match &*socket {
            Socket::Tcp(socket) => socket.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Socket::Unix(socket) => socket
                .accept()
                .await
                .map(|(stream, _)| Stream::Unix(stream)),
        };
        let router = router.clone();
        let held = (permit, leaving.subscribe());
        match accepted {
            Ok(Stream::Tcp(stream)) => drop(tokio::spawn(serve_one(stream, router, held))),
            Ok(Stream::Unix(stream)) => drop(tokio::spawn(serve_one(stream, router, held))),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn serve_one<S>(
    stream: S,
    router: Router,
    (_permit, mut leaving): (OwnedSemaphorePermit, watch::Receiver<bool>),
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let asked = AtomicBool::new(false);
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        router.call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let told_to_end = async {
        let _ = timeout(CONNECTION_AGE, leaving.wait_for(|leaving| *leaving)).await;
    };
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = told_to_end => {
            // hyper would close one that has just been accepted with its request unread.
            let until_asked = poll_fn(|context| match serving.as_mut().poll(context) {
                Poll::Ready(served) => Poll::Ready(Some(served)),
                Poll::Pending if asked.load(Ordering::Relaxed) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            let over = timeout(ON_ITS_WAY, until_asked).await;
            if let Ok(Some(served)) = over {
                served
            } else {
                serving.as_mut().graceful_shutdown();
                timeout(LAST_ANSWER, serving).await.unwrap_or(Ok(()))
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection broke");
    }
}

async fn guard(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let refused = admin.access.load().refuses(&parts);
    let response = match refused {
        Some(StatusCode::UNAUTHORIZED) => {
            let mut response = told(
                StatusCode::UNAUTHORIZED,
                "this address needs `Authorization: Bearer TOKEN`",
            );
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        Some(status) => told(
            status,
            "refused: use an address or `localhost` as the host, and no page of another site",
        ),
        None => next.run(Request::from_parts(parts, body)).await,
    };
    hardened(response).await
}

/// Whatever a browser makes of an answer, it runs nothing of it and keeps nothing.
async fn hardened(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        HeaderName::from_static("referrer-policy"),
        HeaderValue::from_static("no-referrer"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) fn told(status: StatusCode, text: &'static str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

async fn index() -> &'static str {
    concat!(
        "weir ",
        env!("CARGO_PKG_VERSION"),
        "\n\nGET  /healthz\nGET  /readyz\nGET  /metrics\nGET  /api/status\nGET  /api/config\nPOST /api/reload\nPOST /api/rollback\nPOST /api/upgrade\n",
        "POST /api/cache/purge\n",
        "POST /api/upstreams/UPSTREAM/servers/HOST:PORT/drain\n",
        "POST /api/upstreams/UPSTREAM/servers/HOST:PORT/ready\n"
    )
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(admin): State<Arc<Admin>>) -> (StatusCode, &'static str) {
    if admin.control.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    // Adding up thousands of series takes a while; the other requests of this address go on.
    let text = tokio::task::spawn_blocking(move || admin.control.metrics.render()).await;
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(_) => told(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics could not be rendered",
        ),
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Json<Status> {
    Json(Status::of(&admin.control))
}

/// The whole body of a request, or what to say of it.
pub(super) async fn whole(body: Body) -> Result<Bytes, Response> {
    match timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(told(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than 64 KiB",
        )),
        Ok(Err(_)) => Err(told(StatusCode::BAD_REQUEST, "the body broke off")),
        Err(_) => Err(told(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    }
}

async fn upgrade(State(admin): State<Arc<Admin>>) -> Response {
    let Some(upgrade) = admin.upgrade.get().and_then(Weak::upgrade) else {
        return told(
            StatusCode::CONFLICT,
            "this process was not started by `weir run`; it cannot be replaced",
        );
    };
    let message = match admin.control.standing() {
        Standing::RolledBack => "it runs by the file, and no more by what a rollback returned to",
        Standing::File | Standing::LastGood => "",
    };
    // In a task of its own: whoever asked may go away in the middle of it.
    let mut response = match tokio::spawn(async move { upgrade.run().await }).await {
        Ok(Ok(process)) => {
            let body = json!({ "result": "ok", "process": process, "message": message });
            Json(body).into_response()
        }
        Ok(Err(error)) => {
            let body = json!({ "result": "failed", "message": chain(&error) });
            (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
        }
        Err(_) => told(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the upgrade broke off; see the log",
        ),
    };
    // This process may be about to end.
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn purge(State(admin): State<Arc<Admin>>, body: Body) -> Response {
    let body = match whole(body).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    let purge = match Purge::of(&body) {
        Ok(purge) => purge,
        Err(error) => {
            let body = json!({ "error": error.to_string() });
            return (StatusCode::BAD_REQUEST, Json(body)).into_response();
        }
    };
    // In a task of its own: whoever asked may go away in the middle of it.
    match tokio::spawn(async move { admin.control.purge(purge).await }).await {
        Ok(purged) => Json(json!({ "purged": purged })).into_response(),
        Err(_) => told(
            StatusCode::INTERNAL_SERVER_ERROR,
            "not all could be purged; see the log",
        ),
    }
}

/// Upstream and server in a path, percent-decoded.
type ServerPath = Result<Named<(String, String)>, PathRejection>;

async fn drain(State(admin): State<Arc<Admin>>, path: ServerPath) -> Response {
    let Ok(Named((upstream, server))) = path else {
        return unreadable();
    };
    // In a task of its own: whoever asked may go away in the middle of it.
    let drained = tokio::spawn(async move { admin.control.drain(&upstream, &server).await });
    match drained.await {
        Ok(drained) => standing(drained),
        Err(_) => told(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the server could not be drained; see the log",
        ),
    }
}

async fn ready(State(admin): State<Arc<Admin>>, path: ServerPath) -> Response {
    match path {
        Ok(Named((upstream, server))) => standing(admin.control.ready(&upstream, &server)),
        Err(_) => unreadable(),
    }
}

fn standing(drained: Result<Drained, Unknown>) -> Response {
    match drained {
        Ok(drained) => Json(drained).into_response(),
        Err(unknown) => {
            let body = json!({ "error": unknown.to_string() });
            (StatusCode::NOT_FOUND, Json(body)).into_response()
        }
    }
}

fn unreadable() -> Response {
    told(
        StatusCode::BAD_REQUEST,
        "the names in the path are not UTF-8",
    )
}
