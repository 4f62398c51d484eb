//! How a process and its successor talk: over a pair of sockets, one end of which is the successor's standard input. It
//! carries messages and, with them, descriptors (unix(7), SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recv, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use super::drain::ServerId;
use super::inherited::{Handed, Origin};

/// Tells a process that its standard input is such a socket: the id of the process that it succeeds.
pub(crate) const SUCCEEDS: &str = "WEIR_SUCCEEDS";
/// The largest message.
const MAX_MESSAGE: usize = 64 << 10;
/// The longest reason: written as JSON, it may grow sixfold.
const MAX_REASON: usize = 8 << 10;
/// How long the other side may take no message.
const SEND_WITHIN: Duration = Duration::from_secs(5);
/// How long the process before may take for one message.
const RECEIVE_WITHIN: Duration = Duration::from_secs(10);

/// What they say.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    /// To the successor: a socket, which comes along.
    Socket(Origin),
    /// To the successor: those were all.
    Complete,
    /// To the successor, before that it is alone: an operator has taken this server out of service.
    Drained(ServerId),
    /// To the successor: this process serves no more.
    Alone,
    /// From the successor: it has heard that, and serves.
    Serves,
    /// From the successor: it has no use for the sockets of that purpose and has closed them.
    Left(String),
    /// From the successor: it can serve.
    Ready,
    /// From the successor: why it gives up.
    Failed(String),
}

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(Socket);

impl Channel {
    /// This end and the other one.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        // Messages keep their bounds, and the end of the other process is seen.
        let (own, other) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
        Ok((Self(own), other.into()))
    }

    /// The one that this process was started with; `None` where it was not started as a successor. To be called first
    /// thing: standard input is replaced.
    pub(crate) fn of_this_process() -> io::Result<Option<Self>> {
        let parent = std::os::unix::process::parent_id().to_string();
        // A child of a successor has the variable too, but is not meant.
        if std::env::var_os(SUCCEEDS).is_none_or(|before| *before != *parent) {
            return Ok(None);
        }
        let socket = Socket::from(io::stdin().as_fd().try_clone_to_owned()?);
        if socket.domain()? != Domain::UNIX || socket.r#type()? != Type::SEQPACKET {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Ok(Some(Self(socket)))
    }

    pub(super) fn send(&self, message: &Message, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<_> = socket.into_iter().collect();
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.0.set_write_timeout(Some(SEND_WITHIN))?;
        let sent = rustix::io::retry_on_intr(|| {
            let bytes = [IoSlice::new(&bytes)];
            sendmsg(&self.0, &bytes, &mut control, SendFlags::NOSIGNAL)
        });
        sent.map(drop).map_err(timed_out)
    }

    /// Waits for the next message; `None` once the other side has gone.
    pub(super) fn receive(&self, until: Instant) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        let mut bytes = vec![0; MAX_MESSAGE];
        let (length, descriptor) = loop {
            let left = until.saturating_duration_since(Instant::now());
            // Nothing would mean: for ever.
            let wait = left.max(Duration::from_millis(1));
            self.0.set_read_timeout(Some(wait))?;
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break (received.bytes, first_descriptor(&mut control)),
                // Any signal ends a wait that has a limit (signal(7)).
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(timed_out(error)),
            }
        };
        // No message is empty.
        if length == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(bytes.get(..length).unwrap_or_default())?;
        Ok(Some((message, descriptor)))
    }

    /// All sockets that the process before has.
    pub(crate) fn sockets(&self) -> io::Result<Vec<Handed>> {
        let mut handed = Vec::new();
        loop {
            match self.receive(Instant::now() + RECEIVE_WITHIN)? {
                Some((Message::Socket(origin), Some(socket))) => handed.push(Handed {
                    origin,
                    socket: socket.into(),
                }),
                Some((Message::Complete, _)) => return Ok(handed),
                Some(_) => return Err(io::ErrorKind::InvalidData.into()),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Tells the process before that this one can serve, all but those sockets.
    pub(crate) fn ready(&self, left: Vec<String>) -> io::Result<()> {
        for purpose in left {
            self.send(&Message::Left(purpose), None)?;
        }
        self.send(&Message::Ready, None)
    }

    /// Tells the process before why this one gives up.
    pub(crate) fn failed(&self, why: &str) {
        let mut why = why.to_owned();
        why.truncate(why.floor_char_boundary(MAX_REASON));
        // If it has gone, nobody wants to know.
        let _ = self.send(&Message::Failed(why), None);
    }

    /// Whether the process before has ended, or has given this one up.
    pub(crate) fn is_closed(&self) -> bool {
        let looked = recv(&self.0, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        match looked {
            // No message is empty.
            Ok((_, length)) => length == 0,
            Err(error) => error != rustix::io::Errno::AGAIN,
        }
    }

    /// Waits until the process before says that it serves no more. Its end alone does not say so: whoever stops it means
    /// the service. Returns the servers that were taken out of service there.
    pub(crate) fn alone(&self) -> io::Result<Vec<ServerId>> {
        let mut drained = Vec::new();
        loop {
            match self.receive(Instant::now() + RECEIVE_WITHIN)? {
                Some((Message::Drained(server), _)) => drained.push(server),
                Some((Message::Alone, _)) => {
                    // Where it has gone since, there is none but this one.
                    let _ = self.send(&Message::Serves, None);
                    return Ok(drained);
                }
                Some(_) => return Err(io::ErrorKind::InvalidData.into()),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Waits until the process before has told the service manager who serves, and has let go of its end; not for ever.
    pub(crate) fn let_go(&self) {
        while let Ok(Some(_)) = self.receive(Instant::now() + RECEIVE_WITHIN) {}
    }
}

fn first_descriptor(control: &mut RecvAncillaryBuffer<'_>) -> Option<OwnedFd> {
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

/// The limits of waiting are told by the word for "would block".
fn timed_out(error: rustix::io::Errno) -> io::Error {
    match error {
        rustix::io::Errno::AGAIN => io::ErrorKind::TimedOut.into(),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (Channel, Channel) {
        let (own, other) = Channel::pair().unwrap();
        (own, Channel(other.into()))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn sockets_arrive_with_their_names() {
        let (old, new) = pair();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Origin::Predecessor("listen web".to_owned());
        old.send(&Message::Socket(origin.clone()), Some(socket.as_fd()))
            .unwrap();
        old.send(&Message::Complete, None).unwrap();
        let handed = new.sockets().unwrap();
        assert_eq!(handed.len(), 1);
        assert_eq!(handed[0].origin, origin);
        let local = handed[0].socket.local_addr().unwrap().as_socket();
        assert_eq!(local, Some(socket.local_addr().unwrap()));
    }

    #[test]
    fn an_end_in_the_middle_is_an_error() {
        let (old, new) = pair();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Origin::Systemd("web".to_owned());
        old.send(&Message::Socket(origin), Some(socket.as_fd()))
            .unwrap();
        drop(old);
        let error = new.sockets().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_socket_that_did_not_arrive_is_an_error() {
        let (old, new) = pair();
        let origin = Origin::Systemd("web".to_owned());
        old.send(&Message::Socket(origin), None).unwrap();
        let error = new.sockets().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (old, new) = pair();
        for bytes in [&b"\"Later\""[..], b"{", b"\xff", &[b'"'; MAX_MESSAGE + 1]] {
            old.0.send(bytes).unwrap();
            assert!(new.receive(soon()).is_err());
        }
    }

    #[test]
    fn the_successor_says_what_it_has_left_and_that_it_is_ready() {
        let (old, new) = pair();
        new.ready(vec!["listen gone".to_owned()]).unwrap();
        new.failed(&"\u{1}".repeat(MAX_REASON + 1));
        let heard = || old.receive(soon()).unwrap().unwrap().0;
        assert_eq!(heard(), Message::Left("listen gone".to_owned()));
        assert_eq!(heard(), Message::Ready);
        assert_eq!(heard(), Message::Failed("\u{1}".repeat(MAX_REASON)));
        drop(new);
        assert!(old.receive(soon()).unwrap().is_none());
    }

    #[test]
    fn the_process_before_says_when_it_serves_no_more() {
        let (old, new) = pair();
        let drained = ServerId {
            upstream: "app".to_owned(),
            server: "10.0.0.1:80".to_owned(),
        };
        old.send(&Message::Drained(drained.clone()), None).unwrap();
        old.send(&Message::Alone, None).unwrap();
        drop(old);
        assert!(!new.is_closed(), "there is something to hear");
        assert_eq!(new.alone().unwrap(), [drained]);
        new.let_go();
    }

    #[test]
    fn the_end_of_the_process_before_is_no_leave_to_serve() {
        let (old, new) = pair();
        assert!(!new.is_closed());
        drop(old);
        assert!(new.is_closed());
        let error = new.alone().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn silence_ends() {
        let (old, _new) = pair();
        let error = old.receive(Instant::now()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
