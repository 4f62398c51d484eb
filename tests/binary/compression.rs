//! What encoding costs the program in memory.

use std::io::{BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::support::{PATIENCE, Program, folder};

const LENGTH: usize = 64 << 20;

/// Answers each connection with that much JSON, as fast as it is taken.
fn origin() -> String {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = socket.accept() {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {LENGTH}\r\n\r\n"
            );
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(head.as_bytes());
            let mut stream = BufWriter::with_capacity(64 * 1024, stream);
            for number in 0..LENGTH / 32 {
                let line = format!("{{\"item\":{:>22}}}\n", number * 7919 % 100_003);
                if stream.write_all(line.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    address.to_string()
}

#[test]
fn a_long_body_is_never_held_in_memory() {
    let origin = origin();
    let (folder, _) = folder(&format!(
        "[admin]\naddress = \"127.0.0.1:0\"\n[log]\naccess = \"off\"\n[listen.web]\naddress = \"127.0.0.1:0\"\n\
         [route.site]\nupstream = \"app\"\ncompress = true\n[upstream.app]\nservers = [\"{origin}\"]\n"
    ));
    let program = Program::run(folder.path());
    for coding in ["br", "zstd", "gzip"] {
        let before = program.peak_memory();
        let mut stream = TcpStream::connect(program.address("web")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let ask = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(ask.as_bytes()).unwrap();
        let mut encoded = Vec::new();
        stream.read_to_end(&mut encoded).unwrap();
        assert!(encoded.ends_with(b"\r\n0\r\n\r\n") && encoded.len() < LENGTH / 2);
        let grown = program.peak_memory() - before;
        // What the codec has, and what the allocator keeps of it.
        assert!(grown < 32 << 20, "{coding}: {} KiB", grown >> 10);
    }
}
