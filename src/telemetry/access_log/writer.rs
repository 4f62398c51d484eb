//! The thread that writes the access log. Nothing that happens to the file ends it: lines that cannot be written are
//! counted and reported, at most once in ten seconds.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Message, Orders, Shared, lock};

/// The thread's own.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    queue: Receiver<Message>,
    output: Option<Output<File>>,
    reports: Reports,
    /// The last reason why lines were lost, until it is reported.
    error: Option<io::Error>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, queue: Receiver<Message>, file: Option<File>) -> Self {
        Self {
            shared,
            queue,
            output: file.map(Output::new),
            reports: Reports::default(),
            error: None,
        }
    }

    /// Until it is ordered to stop, or nobody is left who could hand anything over.
    pub(super) fn run(mut self) {
        loop {
            let message = match self.reports.pending(self.dropped(), Instant::now()) {
                Some(wait) => self.queue.recv_timeout(wait),
                None => self.queue.recv().map_err(RecvTimeoutError::from),
            };
            // Orders first: a file that was reopened is for these lines already.
            let stop = self.obey();
            match message {
                Ok(Message::Lines(lines)) => self.write(lines),
                Ok(Message::Wake) | Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.report();
            if stop {
                break;
            }
        }
        while let Ok(message) = self.queue.try_recv() {
            if let Message::Lines(lines) = message {
                self.write(lines);
            }
        }
        self.report();
    }

    /// Returns whether to stop.
    fn obey(&mut self) -> bool {
        let Orders { output, stop } = mem::take(&mut *lock(&self.shared.orders));
        if let Some(file) = output {
            self.output = file.map(Output::new);
        }
        stop
    }

    fn write(&mut self, lines: Vec<u8>) {
        if let Some(output) = &mut self.output
            && let Err((lost, error)) = output.write(&lines)
        {
            self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
            self.error = Some(error);
        }
        self.shared.recycle(lines);
    }

    fn report(&mut self) {
        let Some(lines) = self.reports.due(self.dropped(), Instant::now()) else {
            return;
        };
        match self.error.take() {
            Some(error) => {
                tracing::error!(%error, lines, "cannot write the access log, lines were dropped")
            }
            None => tracing::warn!(
                lines,
                "the access log is written too slowly, lines were dropped"
            ),
        }
    }

    fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

/// A file that is written in whole lines.
#[derive(Debug)]
struct Output<W> {
    file: W,
    /// The last line was cut off by an error. The next one must not be glued to it.
    torn: bool,
}

impl<W: Write> Output<W> {
    fn new(file: W) -> Self {
        Self { file, torn: false }
    }

    /// # Errors
    /// How many lines were lost, and why.
    fn write(&mut self, lines: &[u8]) -> Result<(), (u64, io::Error)> {
        let all = |error| (count_lines(lines), error);
        if self.torn {
            write_all(&mut self.file, b"\n").map_err(|(_, error)| all(error))?;
            self.torn = false;
        }
        write_all(&mut self.file, lines).map_err(|(rest, error)| {
            let written = lines.len() - rest.len();
            self.torn = lines
                .get(..written)
                .is_some_and(|head| !head.is_empty() && !head.ends_with(b"\n"));
            (count_lines(rest), error)
        })
    }
}

/// As [`Write::write_all`], but tells what is left, and gives a file that is not ready a second. (Stdout is
/// non-blocking if another process that has the same terminal or pipe made it so.)
fn write_all<'b>(file: &mut impl Write, mut bytes: &'b [u8]) -> Result<(), (&'b [u8], io::Error)> {
    let mut patience = 100;
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err((bytes, ErrorKind::WriteZero.into())),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(error) if error.kind() == ErrorKind::WouldBlock && patience > 0 => {
                patience -= 1;
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err((bytes, error)),
        }
    }
    Ok(())
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// When to speak of dropped lines.
#[derive(Debug, Default)]
struct Reports {
    /// How many were reported so far.
    reported: u64,
    last: Option<Instant>,
}

impl Reports {
    /// How many lines to report now, if any.
    fn due(&mut self, dropped: u64, now: Instant) -> Option<u64> {
        if self.pending(dropped, now)? > Duration::ZERO {
            return None;
        }
        self.last = Some(now);
        Some(dropped - mem::replace(&mut self.reported, dropped))
    }

    /// How long until there is something to report; `None` if nothing was dropped since the last time.
    fn pending(&self, dropped: u64, now: Instant) -> Option<Duration> {
        let since = |last| REPORT_EVERY.saturating_sub(now.saturating_duration_since(last));
        (dropped > self.reported).then(|| self.last.map_or(Duration::ZERO, since))
    }
}

const REPORT_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with a given room, that then is full.
    struct Disk {
        written: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            let fits = bytes.len().min(self.room);
            self.written.extend_from_slice(&bytes[..fits]);
            self.room -= fits;
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_torn_line_does_not_spoil_the_next() {
        let mut output = Output::new(Disk {
            written: Vec::new(),
            room: 6,
        });
        let (lost, error) = output.write(b"one\ntwo\nthree\n").unwrap_err();
        assert_eq!((lost, error.kind()), (2, ErrorKind::StorageFull));
        assert_eq!(output.write(b"four\n").unwrap_err().0, 1);
        output.file.room = 100;
        output.write(b"five\n").unwrap();
        assert_eq!(output.file.written, b"one\ntw\nfive\n");
    }

    #[test]
    fn a_write_that_failed_at_the_end_of_a_line_leaves_no_empty_one() {
        let mut output = Output::new(Disk {
            written: Vec::new(),
            room: 4,
        });
        assert_eq!(output.write(b"one\ntwo\n").unwrap_err().0, 1);
        output.file.room = 100;
        output.write(b"three\n").unwrap();
        assert_eq!(output.file.written, b"one\nthree\n");
    }

    #[test]
    fn dropped_lines_are_reported_once_in_ten_seconds() {
        let mut reports = Reports::default();
        let start = Instant::now();
        assert_eq!(reports.due(0, start), None);
        assert_eq!(reports.due(3, start), Some(3));
        assert_eq!(reports.due(3, start + Duration::from_secs(60)), None);
        assert_eq!(reports.due(5, start + Duration::from_secs(4)), None);
        assert_eq!(
            reports.pending(5, start + Duration::from_secs(4)),
            Some(Duration::from_secs(6))
        );
        assert_eq!(reports.due(9, start + Duration::from_secs(10)), Some(6));
    }
}
