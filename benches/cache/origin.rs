//! What the origins have in common.

use std::net::SocketAddr;

use tokio::io::{self, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Runtime};

/// Serves each connection, on a thread of its own that ends with the runtime; where it listens.
pub(crate) fn listen<S>(
    address: SocketAddr,
    serve: impl Fn(TcpStream) -> S + Send + 'static,
) -> (SocketAddr, Runtime)
where
    S: Future<Output = io::Result<()>> + Send + 'static,
{
    let mut runtime = runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(serve(stream));
        }
    });
    (address, runtime)
}

/// The head of the next request; `None` when there are no more.
pub(crate) async fn request(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(head))
}
