//! What is under load: weir as a child process, or a proxy that somebody else has started.

use std::net::{Ipv4Addr, SocketAddr};

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::support::{self, Program};

/// Another proxy in weir's place, which tells what is its merit and what the machine's.
#[derive(Args)]
pub(crate) struct Outside {
    /// A proxy that runs already and forwards to the port that --origin names
    #[arg(long, requires = "origin")]
    proxy: Option<SocketAddr>,
    /// Where the origin listens
    #[arg(long)]
    origin: Option<u16>,
    /// Whose memory is told
    #[arg(long)]
    pid: Option<u32>,
}

impl Outside {
    /// Where the origin is to listen.
    pub(crate) fn origin(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.origin.unwrap_or(0)).into()
    }

    /// Fresh, unless it is the one from outside. `keys` are weir's, beside what sends everything to the origin.
    pub(crate) fn start(&self, origin: SocketAddr, keys: &str) -> Subject {
        if let Some(address) = self.proxy {
            return Subject {
                address,
                pid: self.pid,
                weir: None,
            };
        }
        let (folder, _) = support::folder(&format!(
            "[process]\nworkers = 2\n[admin]\naddress = \"off\"\n[log]\naccess = \"off\"\n\
             [listen.web]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nservers = [\"{origin}\"]\n\
             [route.site]\nupstream = \"app\"\ncache = true\n{keys}"
        ));
        let program = Program::run(folder.path());
        Subject {
            address: program.address("web"),
            pid: None,
            weir: Some((program, folder)),
        }
    }
}

pub(crate) struct Subject {
    pub(crate) address: SocketAddr,
    pid: Option<u32>,
    weir: Option<(Program, TempDir)>,
}

impl Subject {
    /// The most resident memory that it had so far, in bytes; `None` for a proxy from outside without a --pid.
    pub(crate) fn peak_memory(&self) -> Option<usize> {
        if let Some((program, _)) = &self.weir {
            return Some(program.peak_memory());
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid?)).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        Some(kib.parse::<usize>().unwrap() * 1024)
    }
}

/// As many open files as are allowed.
pub(crate) fn raise_open_files() {
    let most = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
}
