//! A DNS server that answers over UDP as a test says.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// What there is of a name. Names of which nothing was said are not there (NXDOMAIN).
#[derive(Clone)]
enum Entry {
    /// Records with their type, and the TTL of all; none of the type that is asked for: an empty answer.
    Records(Vec<(u16, Vec<u8>)>, u32),
    Absent,
    /// SERVFAIL
    Failing,
    Silent,
}

#[derive(Default)]
struct Zone {
    entries: HashMap<String, Entry>,
    asked: HashMap<String, usize>,
    delay: Duration,
}

pub struct Dns {
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    task: JoinHandle<()>,
}

impl Dns {
    pub async fn start() -> Self {
        Self::at(([127, 0, 0, 1], 0).into()).await
    }

    pub async fn at(address: SocketAddr) -> Self {
        let socket = Arc::new(UdpSocket::bind(address).await.unwrap());
        let zone: Arc<Mutex<Zone>> = Arc::default();
        let known = Arc::clone(&zone);
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut bytes = [0; 4096];
            loop {
                let (length, from) = socket.recv_from(&mut bytes).await.unwrap();
                let (answer, delay) = known.lock().unwrap().answer(&bytes[..length]);
                let Some(answer) = answer else { continue };
                let socket = Arc::clone(&socket);
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let _ = socket.send_to(&answer, from).await;
                });
            }
        });
        Self {
            address,
            zone,
            task,
        }
    }

    /// Ends it; its address is free when this returns.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// The addresses of a name.
    pub fn has(&self, name: &str, addresses: &[IpAddr], ttl: u32) {
        let records = addresses.iter().map(|address| match address {
            IpAddr::V4(address) => (A, address.octets().to_vec()),
            IpAddr::V6(address) => (AAAA, address.octets().to_vec()),
        });
        self.set(name, Entry::Records(records.collect(), ttl));
    }

    /// The SRV records of a name: priority, weight, port and host.
    pub fn serves(&self, name: &str, services: &[(u16, u16, u16, &str)], ttl: u32) {
        let records = services.iter().map(|(priority, weight, port, host)| {
            let mut data: Vec<u8> = [priority, weight, port]
                .iter()
                .flat_map(|number| number.to_be_bytes())
                .collect();
            for label in host.split('.') {
                data.push(label.len() as u8);
                data.extend_from_slice(label.as_bytes());
            }
            data.push(0);
            (SRV, data)
        });
        self.set(name, Entry::Records(records.collect(), ttl));
    }

    /// There is no such name.
    pub fn forgets(&self, name: &str) {
        self.set(name, Entry::Absent);
    }

    /// The server answers that it failed.
    pub fn fails(&self, name: &str) {
        self.set(name, Entry::Failing);
    }

    /// The server does not answer.
    pub fn ignores(&self, name: &str) {
        self.set(name, Entry::Silent);
    }

    /// Every answer from now on takes this long.
    pub fn takes(&self, delay: Duration) {
        self.zone.lock().unwrap().delay = delay;
    }

    /// How often a name was asked for, whatever the type.
    pub fn asked(&self, name: &str) -> usize {
        let zone = self.zone.lock().unwrap();
        zone.asked.get(name).copied().unwrap_or_default()
    }

    fn set(&self, name: &str, entry: Entry) {
        let mut zone = self.zone.lock().unwrap();
        zone.entries.insert(name.to_owned(), entry);
    }
}

impl Zone {
    fn answer(&mut self, query: &[u8]) -> (Option<Vec<u8>>, Duration) {
        let (name, end) = name_at(query, 12);
        let kind = u16::from_be_bytes([query[end], query[end + 1]]);
        *self.asked.entry(name.clone()).or_default() += 1;
        let entry = self.entries.get(&name).cloned().unwrap_or(Entry::Absent);
        let (code, records, ttl) = match entry {
            Entry::Records(records, ttl) => (0, records, ttl),
            Entry::Absent => (3, Vec::new(), 0),
            Entry::Failing => (2, Vec::new(), 0),
            Entry::Silent => return (None, self.delay),
        };
        let records: Vec<_> = records.iter().filter(|(of, _)| *of == kind).collect();
        // The same id and question; recursion desired and available.
        let mut bytes = query[..2].to_vec();
        bytes.extend([0x81, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
        bytes.extend_from_slice(&query[12..end + 4]);
        for (kind, data) in records {
            bytes.extend([0xc0, 12]);
            bytes.extend(kind.to_be_bytes());
            bytes.extend([0, 1]);
            bytes.extend(ttl.to_be_bytes());
            bytes.extend((data.len() as u16).to_be_bytes());
            bytes.extend(data);
        }
        (Some(bytes), self.delay)
    }
}

/// The name at a place of a message, in lower case, and where it ends.
fn name_at(message: &[u8], mut at: usize) -> (String, usize) {
    let mut labels = Vec::new();
    while message[at] > 0 {
        let end = at + 1 + usize::from(message[at]);
        labels.push(String::from_utf8_lossy(&message[at + 1..end]).to_lowercase());
        at = end;
    }
    (labels.join("."), at + 1)
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.task.abort();
    }
}
