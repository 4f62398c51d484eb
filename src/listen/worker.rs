//! One worker: a thread with a runtime of its own, its listening sockets, its connections and everything they need.
//!
//! The kernel spreads connections over the workers' sockets blindly, so a few long-lived ones may meet on one worker. A
//! worker that has clearly more than another hands a connection over right after accepting it: only the file descriptor
//! moves.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use slab::Slab;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, spawn_local};

use super::http1::workbench::Workbench;
use super::{connection, linger};
use crate::deadline::{self, Deadlines, TICK};
use crate::proxy::Proxy;
use crate::proxy::client::Client;
use crate::state::Published;
use crate::telemetry::access_log::AccessSink;
use crate::telemetry::labels::RefusedReason;
use crate::telemetry::worker::WorkerMetrics;

/// A worker hands over once it has more connections than another by this many and by an eighth.
const IMBALANCE: usize = 2;
/// Connections beyond `max_connections` that a worker answers at the same time; those beyond that are closed.
const TURNED_AWAY: usize = 64;
/// How long a connection is on its way from one worker to another, at most.
const HAND_OVER: Duration = Duration::from_secs(2);
/// How long to wait when there are no file descriptors left.
const OUT_OF_FILES: Duration = Duration::from_millis(50);
/// What a client gets for whom there is no room.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nproxy-status: weir; error=connection_limit_reached\r\n\
    retry-after: 5\r\ncontent-length: 24\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n503 Service Unavailable\n";

/// Identifies a listening address over reloads.
pub(crate) type SocketId = u64;

/// What a worker is told.
pub(crate) enum Command {
    /// Accept on this socket for that listener; on one more, if there is one of that address already.
    Listen {
        id: SocketId,
        socket: std::net::TcpListener,
        listener: usize,
    },
    /// Accept on this socket in place of one that another worker accepts on too, and goes on to do so.
    Replace {
        id: SocketId,
        socket: std::net::TcpListener,
        listener: usize,
    },
    /// The socket belongs to another listener now.
    Assign { id: SocketId, listener: usize },
    /// Accept what waits and close the socket. `is_kept`: somebody else has it open, for another time.
    Close { id: SocketId, is_kept: bool },
    /// Connections of a listener that is gone get `drain`.
    Retire { listener: usize, drain: Duration },
    /// Serve a connection that another worker accepted.
    Adopt {
        socket: std::net::TcpStream,
        peer: SocketAddr,
        listener: usize,
    },
    /// Take up the published state; the sender is dropped when that and every command before is done.
    TakeUp(oneshot::Sender<()>),
    /// Send a descriptor of each socket, for whoever is to accept on them next.
    Share(UnboundedSender<io::Result<(SocketId, OwnedFd)>>),
    /// Close all sockets, let connections finish within `drain`, and end. What waits in the sockets is accepted before,
    /// unless they are `shared` with somebody who goes on.
    Stop { drain: Duration, shared: bool },
    /// End now.
    Abort,
}

/// How many connections each worker has, those that are on their way to it included: a burst must not all go to the
/// worker that was idle before it. Read by all when they accept.
#[derive(Debug)]
pub(crate) struct Loads(Vec<Load>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Load(AtomicUsize);

impl Loads {
    pub(crate) fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self((0..workers).map(|_| Load::default()).collect()))
    }

    fn add(&self, worker: usize) {
        if let Some(load) = self.0.get(worker) {
            load.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn remove(&self, worker: usize) {
        if let Some(load) = self.0.get(worker) {
            load.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A worker that is gone takes nothing more.
    fn give_up(&self, worker: usize) {
        if let Some(load) = self.0.get(worker) {
            load.0.store(usize::MAX / 2, Ordering::Relaxed);
        }
    }

    /// Who should serve a connection that `worker` has accepted.
    fn place(&self, worker: usize) -> usize {
        let own = self
            .0
            .get(worker)
            .map_or(0, |load| load.0.load(Ordering::Relaxed));
        let least = self
            .0
            .iter()
            .map(|load| load.0.load(Ordering::Relaxed))
            .enumerate()
            .min_by_key(|&(_, load)| load);
        match least {
            Some((other, least)) if own >= least + IMBALANCE && own - least > own / 8 => other,
            _ => worker,
        }
    }
}

/// What a worker starts with. Made outside, moved into its thread.
pub(crate) struct Seat {
    pub(crate) number: usize,
    pub(crate) published: Arc<Published>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) access: AccessSink,
    pub(crate) loads: Arc<Loads>,
    /// The workers, this one included, by number.
    pub(crate) workers: Vec<UnboundedSender<Command>>,
    pub(crate) commands: UnboundedReceiver<Command>,
    /// Nothing is accepted until it says true.
    pub(crate) gate: watch::Receiver<bool>,
}

/// Runs a worker until it is told to stop. Blocks its thread.
pub(crate) fn run(seat: Seat) -> io::Result<()> {
    runtime()?.block_on(async move {
        let Seat {
            number,
            published,
            metrics,
            access,
            loads,
            workers,
            mut commands,
            gate,
        } = seat;
        let deadlines = Deadlines::new(published.clock);
        let seed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let worker = Rc::new(Worker {
            number,
            proxy: Proxy::new(published, deadlines, metrics, access, seed),
            bench: Rc::new(Workbench::new()),
            loads,
            workers,
            connections: RefCell::new(Slab::new()),
            sockets: RefCell::new(HashMap::new()),
            closing: RefCell::default(),
            turned_away: Cell::new(0),
            gate,
        });
        let ticking = spawn_local(Rc::clone(&worker).tick());
        while let Some(command) = commands.recv().await {
            match command {
                Command::Stop { drain, shared } => {
                    worker.stop(drain, shared, &mut commands).await;
                    break;
                }
                Command::Abort => break,
                command => worker.obey(command),
            }
        }
        worker.cut_all();
        ticking.abort();
        worker.proxy.access.flush();
    });
    Ok(())
}

/// A task that panics ends alone: it is one client connection, or one HTTP/2 stream.
fn runtime() -> io::Result<tokio::runtime::LocalRuntime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Nothing on a worker blocks. What takes it too long waits for the one thread beside it.
        .max_blocking_threads(1)
        .build_local(tokio::runtime::LocalOptions::default())
}

struct Worker {
    number: usize,
    proxy: Rc<Proxy>,
    bench: Rc<Workbench>,
    loads: Arc<Loads>,
    workers: Vec<UnboundedSender<Command>>,
    connections: RefCell<Slab<Rc<Client>>>,
    /// More than one of an address only where there were more of them than workers.
    sockets: RefCell<HashMap<SocketId, Vec<Accepting>>>,
    /// Those that are being closed.
    closing: RefCell<Vec<JoinHandle<()>>>,
    /// Connections that get nothing but [`FULL`].
    turned_away: Cell<usize>,
    gate: watch::Receiver<bool>,
}

/// A socket and the task that accepts on it.
struct Accepting {
    socket: Rc<TcpListener>,
    listener: Rc<Cell<usize>>,
    task: JoinHandle<()>,
}

impl Worker {
    fn obey(self: &Rc<Self>, command: Command) {
        match command {
            Command::Listen {
                id,
                socket,
                listener,
            } => self.listen(id, socket, listener),
            Command::Replace {
                id,
                socket,
                listener,
            } => {
                let shared = self.sockets.borrow_mut().remove(&id);
                self.listen(id, socket, listener);
                // What waits there is for the other one.
                for accepting in shared.into_iter().flatten() {
                    accepting.task.abort();
                }
            }
            Command::Assign { id, listener } => {
                for accepting in self.sockets.borrow().get(&id).into_iter().flatten() {
                    accepting.listener.set(listener);
                }
            }
            Command::Close { id, is_kept } => {
                let closing = self.sockets.borrow_mut().remove(&id);
                for accepting in closing.into_iter().flatten() {
                    if !is_kept {
                        // Where the system does not offer it, a moment is left in which connections are reset.
                        let _ =
                            socket2::SockRef::from(&*accepting.socket).attach_filter(&[NOTHING]);
                    }
                    self.close(accepting);
                }
            }
            Command::Share(sockets) => self.share(&sockets),
            Command::Retire { listener, drain } => self.retire(listener, drain),
            Command::Adopt {
                socket,
                peer,
                listener,
            } => self.adopt(socket, peer, listener),
            Command::TakeUp(done) => {
                self.proxy.local();
                let closing = self.closing.take();
                spawn_local(async move {
                    for socket in closing {
                        let _ = socket.await;
                    }
                    drop(done);
                });
            }
            Command::Stop { .. } | Command::Abort => {}
        }
    }

    fn listen(self: &Rc<Self>, id: SocketId, socket: std::net::TcpListener, listener: usize) {
        let socket = match TcpListener::from_std(socket) {
            Ok(socket) => Rc::new(socket),
            Err(error) => {
                return tracing::error!(%error, "cannot accept connections on a socket that was bound");
            }
        };
        let listener = Rc::new(Cell::new(listener));
        let task = spawn_local(Rc::clone(self).accept(Rc::clone(&socket), Rc::clone(&listener)));
        let mut sockets = self.sockets.borrow_mut();
        sockets.entry(id).or_default().push(Accepting {
            socket,
            listener,
            task,
        });
    }

    fn share(&self, to: &UnboundedSender<io::Result<(SocketId, OwnedFd)>>) {
        for (id, sockets) in &*self.sockets.borrow() {
            for accepting in sockets {
                let descriptor = accepting.socket.as_fd().try_clone_to_owned();
                // Whoever asked may have given up.
                let _ = to.send(descriptor.map(|descriptor| (*id, descriptor)));
            }
        }
    }

    async fn accept(self: Rc<Self>, socket: Rc<TcpListener>, listener: Rc<Cell<usize>>) {
        let mut gate = self.gate.clone();
        // Without anybody who could open it, the process is ending.
        if gate.wait_for(|open| *open).await.is_err() {
            return;
        }
        drop(gate);
        loop {
            match socket.accept().await {
                Ok((stream, peer)) => self.place(stream, peer, listener.get()),
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    // Others will be closed, which makes room; until then the kernel keeps what waits.
                    tracing::debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(OUT_OF_FILES).await;
                }
            }
        }
    }

    fn place(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr, listener: usize) {
        let place = self.loads.place(self.number);
        let other = self.workers.get(place).filter(|_| place != self.number);
        let Some(other) = other else {
            self.loads.add(self.number);
            return self.serve(stream, peer, listener);
        };
        let socket = match stream.into_std() {
            Ok(socket) => socket,
            Err(error) => return tracing::debug!(%error, "a connection cannot be handed over"),
        };
        self.loads.add(place);
        match other.send(Command::Adopt {
            socket,
            peer,
            listener,
        }) {
            Ok(()) => self.proxy.metrics.handed_over.add(1),
            Err(SendError(command)) => {
                self.loads.give_up(place);
                if let Command::Adopt {
                    socket,
                    peer,
                    listener,
                } = command
                {
                    self.loads.add(self.number);
                    self.adopt(socket, peer, listener);
                }
            }
        }
    }

    fn adopt(self: &Rc<Self>, socket: std::net::TcpStream, peer: SocketAddr, listener: usize) {
        match TcpStream::from_std(socket) {
            Ok(socket) => self.serve(socket, peer, listener),
            Err(error) => {
                self.loads.remove(self.number);
                tracing::debug!(%error, "a connection that was handed over is gone");
            }
        }
    }

    /// Serves a connection that is counted among the loads.
    fn serve(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr, listener: usize) {
        let load = Loaded(Rc::clone(self));
        let stays = self.proxy.local().state.listener(listener).is_some();
        let local = self.proxy.local_for(listener);
        let (Some(settings), Some(shard)) =
            (local.state.listener(listener), local.listen_shard(listener))
        else {
            return;
        };
        if settings.open.fetch_add(1, Ordering::Relaxed) >= settings.limits.max_connections {
            settings.open.fetch_sub(1, Ordering::Relaxed);
            shard.refused(RefusedReason::MaxConnections);
            if settings.tls.is_none() {
                self.turn_away(stream);
            }
            return;
        }
        let client = Rc::new(Client::new(
            peer,
            settings,
            Arc::clone(shard),
            self.proxy.deadlines.deadline(),
        ));
        shard.accepted.add(1);
        shard.connections.add(1);
        self.proxy.metrics.connections.add(1);
        if !stays {
            // It was on its way when the others of its listener were told.
            client.drain();
        }
        let key = self.connections.borrow_mut().insert(Rc::clone(&client));
        let open = Open {
            load,
            key,
            client: Rc::clone(&client),
            listener: Arc::clone(&settings.open),
        };
        let (proxy, bench) = (Rc::clone(&self.proxy), Rc::clone(&self.bench));
        let serving = connection::serve(proxy, client, Arc::clone(settings), bench, stream);
        spawn_local(async move {
            let _open = open;
            serving.await;
        });
    }

    /// Says why a connection is not served, without holding many of those.
    fn turn_away(self: &Rc<Self>, stream: TcpStream) {
        if self.turned_away.get() >= TURNED_AWAY {
            return;
        }
        self.turned_away.set(self.turned_away.get() + 1);
        let worker = Rc::clone(self);
        spawn_local(async move {
            linger::turn_away(stream, FULL, worker.proxy.deadlines.deadline()).await;
            worker.turned_away.set(worker.turned_away.get() - 1);
        });
    }

    /// Accepts what waits, then closes. Closing first would reset it.
    fn close(self: &Rc<Self>, accepting: Accepting) {
        let worker = Rc::clone(self);
        let closing = spawn_local(async move {
            let Accepting {
                socket,
                listener,
                task,
            } = accepting;
            task.abort();
            // It holds the socket open, and what came after our last look would be reset when it lets go.
            let _ = task.await;
            // The kernel is asked: the runtime knows of what came only after its next turn.
            let kernel = socket2::SockRef::from(&*socket);
            loop {
                match kernel.accept() {
                    Ok((stream, peer)) => {
                        worker.take_over(stream, peer.as_socket(), listener.get())
                    }
                    Err(error) if is_about_one_connection(&error) => {}
                    Err(_) => break,
                }
            }
        });
        self.closing.borrow_mut().push(closing);
    }

    fn take_over(
        self: &Rc<Self>,
        stream: socket2::Socket,
        peer: Option<SocketAddr>,
        listener: usize,
    ) {
        let Some(peer) = peer.filter(|_| stream.set_nonblocking(true).is_ok()) else {
            return;
        };
        self.loads.add(self.number);
        self.adopt(stream.into(), peer, listener);
    }

    /// The connections of a listener that a reload removed finish with the state that still had it.
    fn retire(self: &Rc<Self>, listener: usize, drain: Duration) {
        self.each_of(listener, Client::drain);
        let worker = Rc::clone(self);
        spawn_local(async move {
            let until = tokio::time::Instant::now() + drain;
            // The state is let go of when nobody needs it. Not at once: a connection may be on its way from another worker.
            while tokio::time::Instant::now() < until {
                tokio::time::sleep_until(until.min(tokio::time::Instant::now() + HAND_OVER)).await;
                if !worker.has_any_of(listener) {
                    break;
                }
            }
            worker.each_of(listener, Client::condemn);
            worker.proxy.forget(listener);
        });
    }

    fn has_any_of(&self, listener: usize) -> bool {
        let connections = self.connections.borrow();
        connections
            .iter()
            .any(|(_, client)| client.listener == listener)
    }

    fn each_of(&self, listener: usize, tell: impl Fn(&Client)) {
        for (_, client) in self
            .connections
            .borrow()
            .iter()
            .filter(|(_, client)| client.listener == listener)
        {
            tell(client);
        }
    }

    async fn stop(
        self: &Rc<Self>,
        drain: Duration,
        shared: bool,
        commands: &mut UnboundedReceiver<Command>,
    ) {
        let sockets: Vec<_> = self.sockets.borrow_mut().drain().collect();
        for accepting in sockets.into_iter().flat_map(|(_, sockets)| sockets) {
            if shared {
                // What waits is for those who go on; and where connections come without end, so would accepting them.
                accepting.task.abort();
            } else {
                self.close(accepting);
            }
        }
        self.proxy.exchanges.stop(drain);
        let until = tokio::time::Instant::now() + drain;
        loop {
            // Again and again: another worker may still hand one over.
            for (_, client) in self.connections.borrow().iter() {
                client.drain();
            }
            let wait = if self.connections.borrow().is_empty() {
                TICK
            } else {
                TICK / 2
            };
            let was_empty = self.connections.borrow().is_empty();
            match tokio::time::timeout(wait, commands.recv()).await {
                Ok(None | Some(Command::Abort)) => return,
                Ok(Some(command)) => self.obey(command),
                Err(_) if was_empty && self.connections.borrow().is_empty() => return,
                Err(_) => {}
            }
            if tokio::time::Instant::now() >= until {
                let connections = self.connections.borrow().len();
                tracing::warn!(
                    connections,
                    "the time to drain is over, connections were cut"
                );
                return;
            }
        }
    }

    fn cut_all(&self) {
        for (_, client) in self.connections.borrow().iter() {
            client.condemn();
        }
    }

    async fn tick(self: Rc<Self>) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut ticks: u64 = 0;
        loop {
            interval.tick().await;
            self.proxy.deadlines.advance(deadline::now());
            self.proxy.serve_queues();
            ticks += 1;
            if ticks.is_multiple_of(2) {
                self.proxy.access.flush();
            }
            if ticks.is_multiple_of(10) {
                self.proxy.sweep();
                give_memory_back();
            }
        }
    }
}

/// A connection that is counted; dropped when it ends, however it ends.
struct Open {
    load: Loaded,
    key: usize,
    client: Rc<Client>,
    listener: Arc<AtomicUsize>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let Loaded(worker) = &self.load;
        self.listener.fetch_sub(1, Ordering::Relaxed);
        worker.proxy.metrics.connections.add(-1);
        self.client.shard.connections.add(-1);
        worker.connections.borrow_mut().try_remove(self.key);
    }
}

/// A connection in the load of a worker.
struct Loaded(Rc<Worker>);

impl Drop for Loaded {
    fn drop(&mut self) {
        self.0.loads.remove(self.0.number);
    }
}

/// Makes the allocator return to the system what was freed a second ago. mimalloc looks for such memory only when a block
/// that fills pages of its own is freed; a worker whose connections have gone idle frees none, and would keep all of it.
/// Blocks such as those of 5,000 connections, allocated and freed alone: 14.7 KiB each stayed without, 1.5 with. The
/// block is never touched.
fn give_memory_back() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(1 << 20)));
}

/// A packet filter that lets nothing in (`BPF_RET | BPF_K`, no byte). What comes to a socket between the last accept and its
/// end would be reset; so nothing comes any more, and who knocks then is refused when it knocks again. Connections that
/// are there already are not filtered.
const NOTHING: socket2::SockFilter = socket2::SockFilter::new(0x06, 0, 0, 0);

/// Errors of `accept` that concern only the connection that was to be accepted.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::Deadlines;

    #[test]
    fn a_panic_in_one_task_leaves_the_others_and_the_worker_alive() {
        let ended = Rc::new(Cell::new(0));
        runtime().unwrap().block_on(async {
            let (go, gate) = oneshot::channel::<()>();
            let count = Rc::clone(&ended);
            let other = spawn_local(async move {
                gate.await.unwrap();
                count.set(count.get() + 1);
            });
            // What a connection holds is let go of by the unwinding, so that it is counted out.
            let held = Rc::clone(&ended);
            let failing = spawn_local(async move {
                let _held = held;
                tokio::task::yield_now().await;
                std::panic::resume_unwind(Box::new("a defect"));
            });
            assert!(failing.await.unwrap_err().is_panic());
            assert_eq!(Rc::strong_count(&ended), 2);
            go.send(()).unwrap();
            other.await.unwrap();
        });
        assert_eq!(ended.get(), 1);
    }

    #[test]
    fn a_panic_in_a_stream_leaves_its_stream_clock_behind_it() {
        use crate::listen::streams::Streams;
        use hyper::rt::Executor as _;
        runtime().unwrap().block_on(async {
            let deadlines = Deadlines::new(deadline::Clock::start());
            let streams = Streams::new(&deadlines, deadline::Ticks(5));
            let (done, ended) = oneshot::channel::<()>();
            streams.execute(async { std::panic::resume_unwind(Box::new("a defect")) });
            streams.execute(async move { drop(done) });
            ended.await.unwrap_err();
            assert!(!crate::proxy::stream_clock::is_entered());
        });
    }

    #[test]
    fn a_worker_that_is_gone_gets_nothing_more() {
        let loads = Loads::new(2);
        for _ in 0..10 {
            loads.add(0);
        }
        assert_eq!(loads.place(0), 1);
        loads.give_up(1);
        assert_eq!(loads.place(0), 0);
    }

    #[test]
    fn a_connection_is_handed_to_a_worker_that_has_clearly_fewer() {
        let loads = Loads::new(2);
        for _ in 0..2 {
            loads.add(0);
        }
        assert_eq!(loads.place(0), 1);
        assert_eq!(loads.place(1), 1);
        loads.add(1);
        assert_eq!(loads.place(0), 0, "one more is no imbalance");
        for _ in 0..98 {
            loads.add(0);
            loads.add(1);
        }
        for _ in 0..5 {
            loads.add(0);
        }
        assert_eq!(loads.place(0), 0, "nor is a few among many");
    }
}
