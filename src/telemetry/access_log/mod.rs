//! The access log: a line for each exchange, when it has ended.
//!
//! A worker appends lines to a buffer of its own ([`AccessSink`]) and hands it over when it is full or some time has
//! passed; one thread writes ([`writer`]). A worker never waits: where the disk, or whoever reads stdout, cannot keep
//! up, whole buffers are dropped, and their lines counted and reported.

mod escape;
mod line;
mod writer;

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use http::StatusCode;

pub(crate) use self::line::Line;
use self::writer::Writer;
use crate::config;
use crate::config::{AccessFilter, AccessFormat};

/// Whether an exchange belongs in the log. `broken`: it did not come to its regular end.
pub(crate) fn wanted(filter: AccessFilter, status: Option<StatusCode>, broken: bool) -> bool {
    match filter {
        AccessFilter::All => true,
        AccessFilter::Errors => broken || status.is_none_or(|status| status.as_u16() >= 500),
    }
}

/// The control plane's side: starts, redirects and ends the log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    shared: Arc<Shared>,
    sender: SyncSender<Message>,
    /// Where lines go now.
    output: Mutex<config::AccessLog>,
    /// Closed by the writer's thread when it ends.
    ended: Mutex<Receiver<()>>,
}

impl AccessLog {
    /// Starts the thread that writes, even where the log is off: a reload may turn it on.
    ///
    /// # Errors
    /// If the file cannot be opened, or there can be no thread.
    pub(crate) fn start(log: &config::Log) -> io::Result<Self> {
        let file = open(&log.access)?;
        let (sender, receiver) = sync_channel(QUEUE);
        let (ends, ended) = sync_channel(0);
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(Arc::clone(&shared), receiver, file);
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                writer.run();
                drop(ends);
            })?;
        shared.mode.set(log);
        Ok(Self {
            shared,
            sender,
            output: Mutex::new(log.access.clone()),
            ended: Mutex::new(ended),
        })
    }

    /// A sink for one worker.
    pub(crate) fn sink(&self) -> AccessSink {
        AccessSink {
            shared: Arc::clone(&self.shared),
            sender: self.sender.clone(),
            buffer: RefCell::default(),
        }
    }

    /// Follows a new config: place, format and filter. Lines that were written before may still go to the new place.
    ///
    /// # Errors
    /// If the new file cannot be opened; then all stays as it was.
    pub(crate) fn reconfigure(&self, log: &config::Log) -> io::Result<()> {
        let mut output = lock(&self.output);
        if *output != log.access {
            let file = open(&log.access)?;
            output.clone_from(&log.access);
            self.order(|orders| orders.output = Some(file));
        }
        self.shared.mode.set(log);
        Ok(())
    }

    /// Opens the file again by its name, after it was moved away.
    ///
    /// # Errors
    /// If that fails; lines then still go to the file that was moved.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let output = lock(&self.output);
        if matches!(*output, config::AccessLog::File(_)) {
            let file = open(&output)?;
            self.order(|orders| orders.output = Some(file));
        }
        Ok(())
    }

    /// How many lines were dropped since the start; for the metrics.
    pub(crate) fn dropped_lines(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.dropped)
    }

    /// Writes what the workers have handed over and ends the thread. Returns whether all was done in time. What workers
    /// hand over afterwards is dropped, so they flush first.
    pub(crate) fn shutdown(&self, timeout: Duration) -> bool {
        self.order(|orders| orders.stop = true);
        lock(&self.ended).recv_timeout(timeout) == Err(RecvTimeoutError::Disconnected)
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut lock(&self.shared.orders));
        // A full queue wakes the writer as well.
        let _ = self.sender.try_send(Message::Wake);
    }
}

/// One worker's side. Its buffer is bounded: it is handed over, or dropped, when it is full.
#[derive(Debug)]
pub(crate) struct AccessSink {
    shared: Arc<Shared>,
    sender: SyncSender<Message>,
    buffer: RefCell<Buffer>,
}

/// Lines that were not handed over yet.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    lines: u64,
}

impl AccessSink {
    /// Whether the line of such an exchange would be written; to be asked before a [`Line`] is put together.
    pub(crate) fn wants(&self, status: Option<StatusCode>, broken: bool) -> bool {
        self.shared
            .mode
            .now()
            .is_some_and(|(_, filter)| wanted(filter, status, broken))
    }

    /// Appends a line, whatever the filter. Does nothing where the log is off.
    pub(crate) fn write(&self, line: &Line<'_>) {
        let Some((format, _)) = self.shared.mode.now() else {
            return;
        };
        let mut buffer = self.buffer.borrow_mut();
        if buffer.lines == 0 {
            // Nothing to do for a buffer that was used before.
            buffer.bytes.reserve(CAPACITY);
        }
        line.append(format, &mut buffer.bytes);
        buffer.lines += 1;
        if buffer.bytes.len() >= FULL {
            self.hand_over(&mut buffer);
        }
    }

    /// Hands over what there is. The worker calls this a few times each second, and when it ends.
    pub(crate) fn flush(&self) {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.lines > 0 {
            self.hand_over(&mut buffer);
        }
    }

    fn hand_over(&self, buffer: &mut Buffer) {
        let lines = mem::take(&mut buffer.lines);
        match self
            .sender
            .try_send(Message::Lines(mem::take(&mut buffer.bytes)))
        {
            Ok(()) => buffer.bytes = self.shared.spare_buffer(),
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                self.shared.dropped.fetch_add(lines, Ordering::Relaxed);
                if let Message::Lines(mut bytes) = message {
                    bytes.clear();
                    buffer.bytes = bytes;
                }
            }
        }
    }
}

impl Drop for AccessSink {
    fn drop(&mut self) {
        self.flush();
    }
}

/// What reaches the writer through its queue.
#[derive(Debug)]
enum Message {
    Lines(Vec<u8>),
    /// There are orders.
    Wake,
}

/// What the control plane wants of the writer. Beside the queue, because that may be full.
#[derive(Debug, Default)]
struct Orders {
    /// Another file, or none.
    output: Option<Option<File>>,
    stop: bool,
}

/// What all sides share.
#[derive(Debug, Default)]
struct Shared {
    mode: Mode,
    dropped: Arc<AtomicU64>,
    orders: Mutex<Orders>,
    spare: Mutex<Vec<Vec<u8>>>,
}

impl Shared {
    /// An empty buffer, used before if there is one and nobody else is at the stock right now.
    fn spare_buffer(&self) -> Vec<u8> {
        self.spare
            .try_lock()
            .ok()
            .and_then(|mut spare| spare.pop())
            .unwrap_or_default()
    }

    /// Takes back a buffer, unless there are plenty, or a huge line made it grow.
    fn recycle(&self, mut buffer: Vec<u8>) {
        let mut spare = lock(&self.spare);
        if spare.len() < SPARE && buffer.capacity() <= CAPACITY {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

/// Format and filter, or off, in one byte that every worker reads for every exchange: on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Mode(AtomicU8);

impl Mode {
    const ON: u8 = 1;
    const COMBINED: u8 = 2;
    const ALL: u8 = 4;

    fn set(&self, log: &config::Log) {
        let on = if log.access == config::AccessLog::Off {
            0
        } else {
            Self::ON
        };
        let format = if log.access_format == AccessFormat::Combined {
            Self::COMBINED
        } else {
            0
        };
        let filter = if log.access_filter == AccessFilter::All {
            Self::ALL
        } else {
            0
        };
        self.0.store(on | format | filter, Ordering::Relaxed);
    }

    fn now(&self) -> Option<(AccessFormat, AccessFilter)> {
        let bits = self.0.load(Ordering::Relaxed);
        let has = |bit| bits & bit != 0;
        let format = if has(Self::COMBINED) {
            AccessFormat::Combined
        } else {
            AccessFormat::Json
        };
        let filter = if has(Self::ALL) {
            AccessFilter::All
        } else {
            AccessFilter::Errors
        };
        has(Self::ON).then_some((format, filter))
    }
}

/// Stdout as a file too, which spares the lines its buffer and lock.
fn open(output: &config::AccessLog) -> io::Result<Option<File>> {
    match output {
        config::AccessLog::Off => Ok(None),
        config::AccessLog::Stdout => Ok(Some(io::stdout().as_fd().try_clone_to_owned()?.into())),
        // Addresses of clients are nobody else's business.
        config::AccessLog::File(path) => OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)
            .map(Some)
            .map_err(|error| {
                let message = format!("log.access: `{}`: {error}", path.display());
                io::Error::new(error.kind(), message)
            }),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of a worker's buffer. Memory that no line has reached yet costs nothing.
const CAPACITY: usize = 64 * 1024;

/// When a buffer counts as full: an ordinary line later it has still not grown.
const FULL: usize = CAPACITY - 8 * 1024;

/// How many buffers may wait: 16 MiB at the worst.
const QUEUE: usize = 256;

/// How many empty buffers are kept: 1 MiB.
const SPARE: usize = 16;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::config::{LogFormat, LogLevel};

    const LONG: Duration = Duration::from_secs(30);

    fn log(access: config::AccessLog, access_format: AccessFormat) -> config::Log {
        config::Log {
            level: LogLevel::Info,
            format: LogFormat::Auto,
            access,
            access_filter: AccessFilter::All,
            access_format,
        }
    }

    fn to_file(path: &Path) -> config::Log {
        log(config::AccessLog::File(path.to_owned()), AccessFormat::Json)
    }

    fn write(sink: &AccessSink, target: &str) {
        sink.write(&Line {
            target: target.as_bytes(),
            ..Line::example()
        });
    }

    fn targets(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        let target = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["target"].as_str().unwrap().to_owned()
        };
        text.lines().map(target).collect()
    }

    #[test]
    fn errors_are_5xx_and_broken_exchanges() {
        use AccessFilter::{All, Errors};
        for (filter, status, broken, expected) in [
            (Errors, Some(StatusCode::OK), false, false),
            (Errors, Some(StatusCode::NOT_FOUND), false, false),
            (Errors, Some(StatusCode::OK), true, true),
            (Errors, Some(StatusCode::BAD_GATEWAY), false, true),
            (Errors, None, false, true),
            (All, Some(StatusCode::OK), false, true),
        ] {
            assert_eq!(
                wanted(filter, status, broken),
                expected,
                "{filter:?} {status:?} {broken}"
            );
        }
    }

    #[test]
    fn lines_of_all_workers_are_written_before_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let access = AccessLog::start(&to_file(&path)).unwrap();
        let (one, other) = (access.sink(), access.sink());
        for number in 0..1000 {
            write(&one, &format!("/one/{number}"));
            write(&other, &format!("/other/{number}"));
        }
        one.flush();
        drop(other);
        assert!(access.shutdown(LONG));
        let targets = targets(&path);
        assert_eq!(targets.len(), 2000);
        let of_one: Vec<_> = targets
            .iter()
            .filter(|target| target.starts_with("/one/"))
            .collect();
        assert_eq!(of_one.first().unwrap().as_str(), "/one/0");
        assert_eq!(
            of_one.last().unwrap().as_str(),
            "/one/999",
            "a worker's lines stay in order"
        );
        assert_eq!(access.dropped_lines().load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_moved_file_is_left_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let access = AccessLog::start(&to_file(&path)).unwrap();
        fs::rename(&path, folder.path().join("access.log.1")).unwrap();
        access.reopen().unwrap();
        let sink = access.sink();
        write(&sink, "/after");
        sink.flush();
        assert!(access.shutdown(LONG));
        assert_eq!(targets(&path), ["/after"]);
    }

    #[test]
    fn a_new_config_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let access = AccessLog::start(&log(config::AccessLog::Off, AccessFormat::Json)).unwrap();
        let sink = access.sink();
        assert!(!sink.wants(None, true));
        write(&sink, "/off");

        let mut errors = to_file(&path);
        errors.access_filter = AccessFilter::Errors;
        errors.access_format = AccessFormat::Combined;
        access.reconfigure(&errors).unwrap();
        assert!(sink.wants(None, true));
        assert!(!sink.wants(Some(StatusCode::OK), false));
        write(&sink, "/on");
        sink.flush();

        let nowhere = to_file(&folder.path().join("missing/access.log"));
        assert!(access.reconfigure(&nowhere).is_err());
        assert!(
            !sink.wants(Some(StatusCode::OK), false),
            "the filter stays, too"
        );
        assert!(access.shutdown(LONG));
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("\"GET /on HTTP/1.1\""), "{text}");
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_does_not_wait() {
        let (sender, receiver) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        shared
            .mode
            .set(&log(config::AccessLog::Stdout, AccessFormat::Json));
        let sink = AccessSink {
            shared: Arc::clone(&shared),
            sender,
            buffer: RefCell::default(),
        };
        write(&sink, "/queued");
        sink.flush();
        for _ in 0..3 {
            write(&sink, "/dropped");
        }
        sink.flush();
        assert_eq!(shared.dropped.load(Ordering::Relaxed), 3);

        drop(receiver);
        write(&sink, "/too-late");
        drop(sink);
        assert_eq!(shared.dropped.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn a_full_buffer_is_handed_over_and_stays_bounded() {
        let (sender, receiver) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        shared
            .mode
            .set(&log(config::AccessLog::Stdout, AccessFormat::Json));
        let sink = AccessSink {
            shared,
            sender,
            buffer: RefCell::default(),
        };
        for _ in 0..2000 {
            write(&sink, "/");
            assert!(sink.buffer.borrow().bytes.len() < FULL);
        }
        let Ok(Message::Lines(lines)) = receiver.try_recv() else {
            panic!("nothing was handed over")
        };
        assert!(
            lines.len() >= FULL && lines.capacity() == CAPACITY,
            "{} bytes",
            lines.len()
        );
        assert!(lines.ends_with(b"\n"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_costs_lines_and_nothing_else() {
        let access = AccessLog::start(&to_file(Path::new("/dev/full"))).unwrap();
        let sink = access.sink();
        for _ in 0..3 {
            write(&sink, "/lost");
            sink.flush();
        }
        assert!(access.shutdown(LONG));
        assert_eq!(access.dropped_lines().load(Ordering::Relaxed), 3);
    }

    #[test]
    fn buffers_are_used_again() {
        let shared = Shared::default();
        for _ in 0..2 * SPARE {
            shared.recycle(Vec::with_capacity(100));
        }
        assert_eq!(lock(&shared.spare).len(), SPARE);
        assert!(shared.spare_buffer().capacity() >= 100);
    }
}
