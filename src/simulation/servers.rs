//! The simulated servers, and the network between weir and them.
//!
//! A server gets what was sent to it a moment later. What comes in that moment to a connection that it closes meanwhile is
//! lost, as on a real network.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{sleep, sleep_until, timeout_at};

use super::phases::{Kind, Phase};
use super::story::Fate;
use super::world::World;
use crate::units::ServerAddr;
use crate::upstream::simulated::{Dialing, Socket};

/// How long bytes are on their way.
const LATENCY: Duration = Duration::from_millis(1);
/// What every server listens on.
pub(super) const FIRST_PORT: u16 = 3000;
/// The path of health checks.
pub(super) const HEALTH: &str = "/healthz";

/// A server, as it is.
pub(super) struct Host {
    number: usize,
    open: RefCell<Vec<Rc<Link>>>,
    /// Requests that it got.
    pub(super) got: Cell<u64>,
}

/// A connection from weir.
struct Link {
    socket: Socket,
    /// The request that it is for: its number, and the place of the attempt.
    request: Cell<Option<(usize, usize)>>,
    busy: Cell<bool>,
    carried: Cell<u32>,
}

/// A request as it came.
struct Request {
    /// `None`: a health check.
    number: Option<usize>,
    head: bool,
}

impl Host {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            open: RefCell::default(),
            got: Cell::new(0),
        }
    }

    /// Connections that are open.
    pub(super) fn connections(&self) -> usize {
        self.open.borrow().len()
    }

    /// Lives through its phases.
    pub(super) async fn live(self: Rc<Self>, world: Rc<World>) {
        let phases = world.lives[self.number].phases().to_vec();
        for (before, phase) in phases.iter().zip(&phases[1..]) {
            sleep_until(world.instant(phase.from)).await;
            let open = self.open.borrow().clone();
            for link in open {
                match phase.kind {
                    Kind::Dead => link.cut(&world, self.number, Fate::Lost),
                    Kind::Restarting if !link.busy.get() => link.close(&world, self.number),
                    // Whoever hung was restarted.
                    Kind::Good if before.kind == Kind::Hanging && link.busy.get() => {
                        link.cut(&world, self.number, Fate::Lost);
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Opens a connection to a server for whoever asks.
pub(super) fn dial(world: &Rc<World>, address: &ServerAddr) -> Dialing {
    let ServerAddr::Ip(address) = address else {
        unreachable!("all servers have addresses of their own");
    };
    let host = Rc::clone(&world.hosts[usize::from(address.port() - FIRST_PORT)]);
    let (answer, answered) = oneshot::channel();
    let request = world.current();
    let place = request.and_then(|request| world.tried(request, host.number, false));
    spawn_local(accept(Rc::clone(world), host, request.zip(place), answer));
    Box::pin(async {
        answered
            .await
            .unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    })
}

async fn accept(
    world: Rc<World>,
    host: Rc<Host>,
    request: Option<(usize, usize)>,
    mut answer: oneshot::Sender<io::Result<Socket>>,
) {
    if world.phase(host.number).kind == Kind::SlowToConnect {
        let gone = timeout_at(
            world.instant(world.now() + Duration::from_secs(30)),
            answer.closed(),
        );
        let _ = gone.await;
        if let Some((number, place)) = request {
            world.fate(number, place, Fate::ConnectTimedOut);
        }
        return;
    }
    sleep(LATENCY).await;
    if matches!(world.phase(host.number).kind, Kind::Dead | Kind::Restarting) {
        if let Some((number, place)) = request {
            world.fate(number, place, Fate::Refused);
        }
        let _ = answer.send(Err(io::ErrorKind::ConnectionRefused.into()));
        return;
    }
    let (ours, theirs) = Socket::pair();
    let link = Rc::new(Link {
        socket: ours,
        request: Cell::new(request),
        busy: Cell::new(false),
        carried: Cell::new(0),
    });
    host.open.borrow_mut().push(Rc::clone(&link));
    if answer.send(Ok(theirs)).is_ok() {
        let _ = link.serve(&world, &host).await;
    }
    link.close(&world, host.number);
    host.open
        .borrow_mut()
        .retain(|open| !Rc::ptr_eq(open, &link));
}

impl Link {
    /// Answers requests until the connection ends; `None` when it has.
    async fn serve(&self, world: &Rc<World>, host: &Host) -> Option<()> {
        loop {
            let keep_alive = world.phase(host.number).keep_alive;
            let until = world.instant(world.now() + keep_alive);
            timeout_at(until, self.socket.readable()).await.ok()?;
            let arrived = world.instant(world.now() + LATENCY);
            sleep_until(arrived.min(until)).await;
            if arrived >= until {
                return None;
            }
            self.busy.set(true);
            let request = self.read().await?;
            if let Some(number) = request.number {
                host.got.set(host.got.get() + 1);
                if self.carried.get() > 0 {
                    let place = world.tried(number, host.number, true)?;
                    self.request.set(Some((number, place)));
                }
            }
            self.carried.set(self.carried.get() + 1);
            self.answer(world, host, &request).await?;
            self.request.set(None);
            self.busy.set(false);
        }
    }

    async fn read(&self) -> Option<Request> {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        loop {
            self.socket.readable().await;
            let read = self
                .socket
                .try_read(&mut piece)
                .ok()
                .filter(|&read| read > 0)?;
            bytes.extend_from_slice(&piece[..read]);
            let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().expect("weir sends a length"));
            while bytes.len() < end + 4 + length {
                self.socket.readable().await;
                let read = self
                    .socket
                    .try_read(&mut piece)
                    .ok()
                    .filter(|&read| read > 0)?;
                bytes.extend_from_slice(&piece[..read]);
            }
            return Some(Request {
                number: number_in(&bytes),
                head: head.starts_with("head "),
            });
        }
    }

    async fn answer(&self, world: &Rc<World>, host: &Host, request: &Request) -> Option<()> {
        let phase = world.phase(host.number);
        let spared = match request.number {
            Some(_) => !world.random.chance(phase.share),
            None => phase.hidden,
        };
        let kind = if spared { Kind::Good } else { phase.kind };
        if kind == Kind::Hanging {
            self.fate(world, Fate::Hung);
            // Until weir or the end of the phase ends it.
            self.socket.readable().await;
            self.request.set(None);
            return None;
        }
        let pace = world.random.around(phase.pace);
        if request.number.is_some() {
            sleep(Duration::from_millis(1) + pace).await;
        }
        if !self.socket.is_silent() {
            return None;
        }
        let bad = |status| answered(status, false, true);
        match kind {
            Kind::Good | Kind::Dead | Kind::Restarting | Kind::SlowToConnect | Kind::Hanging => {
                return self.answer_well(world, host, request).await;
            }
            Kind::Resetting => self.cut(world, host.number, Fate::Lost),
            Kind::CutHeads => {
                self.write(b"HTTP/1.1 200 OK\r\ncontent-le");
                self.cut(world, host.number, Fate::CutHead);
            }
            Kind::Garbage => {
                self.fate(world, Fate::Garbage);
                self.request.set(None);
                self.write(b"220 mail.example.com ESMTP\r\n\r\n");
            }
            Kind::Flood => {
                self.fate(world, Fate::Flood);
                self.request.set(None);
                self.write(&b"HTTP/1.1 102 Processing\r\n\r\n".repeat(40));
            }
            Kind::BrokenBodies if request.head => {
                return self.answer_well(world, host, request).await;
            }
            Kind::BrokenBodies => {
                self.fate(world, answered(200, false, false));
                self.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\nsome of it");
                sleep(Duration::from_millis(world.random.below(3) * 5)).await;
                self.request.set(None);
                self.socket.reset();
            }
            Kind::Errors => return self.say(world, bad(500), "500 Internal Server Error\r\n"),
            Kind::BadGateway => return self.say(world, bad(502), "502 Bad Gateway\r\n"),
            Kind::Unavailable => return self.say(world, bad(503), "503 Service Unavailable\r\n"),
            Kind::Overloaded => {
                let fate = answered(503, true, true);
                return self.say(world, fate, "503 Service Unavailable\r\nretry-after: 7\r\n");
            }
        }
        None
    }

    async fn answer_well(&self, world: &World, host: &Host, request: &Request) -> Option<()> {
        let phase = world.phase(host.number);
        let leaving = phase.kind == Kind::Restarting;
        let fields = fields(&phase, leaving);
        let body = request.number.map_or("ok".to_owned(), |number| {
            let filler = "x".repeat(world.random.between(0, 600) as usize);
            format!("{number} {filler}")
        });
        self.fate(world, answered(200, false, true));
        let framing = if world.random.chance(25) && !request.head {
            let (first, rest) = body.split_at(1);
            self.write(
                format!(
                    "HTTP/1.1 200 OK\r\n{fields}transfer-encoding: chunked\r\n\r\n1\r\n{first}\r\n"
                )
                .as_bytes(),
            );
            if world.random.chance(30) {
                sleep(Duration::from_millis(4)).await;
            }
            let last = if rest.is_empty() {
                String::new()
            } else {
                format!("{:x}\r\n{rest}\r\n", rest.len())
            };
            format!("{last}0\r\n\r\n")
        } else {
            let shown = if request.head { "" } else { &body };
            let length = body.len();
            format!("HTTP/1.1 200 OK\r\n{fields}content-length: {length}\r\n\r\n{shown}")
        };
        self.request.set(None);
        self.write(framing.as_bytes());
        (!leaving).then_some(())
    }

    /// A short response without a body.
    fn say(&self, world: &World, fate: Fate, head: &str) -> Option<()> {
        self.fate(world, fate);
        self.request.set(None);
        self.write(format!("HTTP/1.1 {head}content-length: 0\r\n\r\n").as_bytes());
        Some(())
    }

    fn write(&self, bytes: &[u8]) {
        // If weir is gone it is told so when it reads.
        let _ = self.socket.try_write(bytes);
    }

    fn fate(&self, world: &World, fate: Fate) {
        if let Some((number, place)) = self.request.get() {
            world.fate(number, place, fate);
        }
    }

    /// Cuts the connection off, whatever it carries.
    fn cut(&self, world: &World, host: usize, fate: Fate) {
        self.unheard(world, host);
        self.fate(world, fate);
        self.request.set(None);
        self.socket.reset();
    }

    /// Closes the connection as the end of a process does.
    fn close(&self, world: &World, host: usize) {
        self.unheard(world, host);
        self.fate(world, Fate::Lost);
        self.request.set(None);
        self.socket.close();
    }

    /// A request that has come and will not be looked at.
    fn unheard(&self, world: &World, host: usize) {
        if self.request.get().is_none()
            && let Some(number) = number_in(&self.socket.unread())
            && let Some(place) = world.tried(number, host, self.carried.get() > 0)
        {
            self.request.set(Some((number, place)));
        }
    }
}

fn answered(status: u16, retry_after: bool, whole: bool) -> Fate {
    Fate::Answered {
        status,
        retry_after,
        whole,
    }
}

fn fields(phase: &Phase, leaving: bool) -> String {
    if leaving {
        "connection: close\r\n".to_owned()
    } else if phase.says_so {
        format!("keep-alive: timeout={}\r\n", phase.keep_alive.as_secs())
    } else {
        String::new()
    }
}

/// The number of the request that these bytes begin with.
fn number_in(bytes: &[u8]) -> Option<usize> {
    let line = bytes.split(|&byte| byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.split(' ').nth(1)?.strip_prefix("/r/")?.parse().ok()
}
