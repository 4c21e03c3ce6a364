//! Connections from the network, as many as there are places for.

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use super::limits::CONNECTIONS;
use super::lobby::{Eviction, Lobby, Place};
use crate::traffic::TrafficMeter;

/// When the system gives us no more connections (open files, memory), asking again at once would take a whole core.
const PAUSE: Duration = Duration::from_millis(100);

/// The stream of connections that a server is given.
pub(super) struct Incoming {
    listener: TcpListener,
    lobby: Arc<Lobby>,
    traffic: Arc<TrafficMeter>,
    pause: Option<Pin<Box<Sleep>>>,
}

/// One connection and its place, which it loses when somebody else needs it more.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    place: Arc<Place>,
    /// None: it must go.
    eviction: Option<Eviction>,
    traffic: Arc<TrafficMeter>,
}

impl Incoming {
    pub(super) fn new(listener: TcpListener, lobby: Arc<Lobby>, traffic: Arc<TrafficMeter>) -> Self {
        Self { listener, lobby, traffic, pause: None }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let stream = match ready!(self.listener.poll_accept(cx)) {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!("can't take a connection: {error}");
                    self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                    continue;
                }
            };
            // A step is a few small messages each way: with Nagle's algorithm each would wait 40 ms for an acknowledgement.
            let _ = stream.set_nodelay(true);
            match self.lobby.enter() {
                Some((place, eviction)) => {
                    let traffic = Arc::clone(&self.traffic);
                    return Poll::Ready(Some(Ok(Connection { stream, place, eviction: Some(eviction), traffic })));
                }
                // a socket's first bytes never wait; a peer that does not get them sees a closed connection
                None => drop(stream.try_write(&refusal())),
            }
        }
    }
}

/// HTTP/2 for "we are full": empty settings, then GOAWAY with ENHANCE_YOUR_CALM and the reason. RFC 9113, 6.5 and 6.8.
fn refusal() -> Vec<u8> {
    let reason = format!("the coordinator has {CONNECTIONS} connections of workers, and takes no more");
    let mut bytes = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    bytes.extend(&((8 + reason.len()) as u32).to_be_bytes()[1..]);
    bytes.extend([7, 0, 0, 0, 0, 0]);
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend(11_u32.to_be_bytes());
    bytes.extend(reason.as_bytes());
    bytes
}

impl Connection {
    /// Fails once the connection must go.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let told = self.eviction.as_mut().is_none_or(|eviction| Pin::new(eviction).poll(cx).is_ready());
        if told {
            self.eviction = None;
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "its place was given up"));
        }
        Ok(())
    }

    /// Counts what was written.
    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.traffic.send(bytes);
        }
        written
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        self.traffic.receive(into.filled().len().saturating_sub(before));
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Place>;

    fn connect_info(&self) -> Arc<Place> {
        Arc::clone(&self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_proto::wire::StatusRequest;
    use lockstep_proto::wire::coordinator_client::CoordinatorClient;
    use tokio::io::AsyncWriteExt as _;
    use tonic::transport::Endpoint;

    /// Oracle: another HTTP/2 implementation's reading of the bytes, tonic's client.
    #[tokio::test]
    async fn a_client_that_is_refused_reads_why() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream.write_all(&refusal()).await.expect("sent");
            // closing at once could overtake the words
            tokio::time::sleep(Duration::from_secs(5)).await;
        });
        let channel = Endpoint::from_shared(format!("http://{address}")).expect("address").connect().await;
        let mut client = CoordinatorClient::new(channel.expect("TCP is there"));
        let status = client.status(StatusRequest {}).await.expect_err("refused");
        assert!(format!("{status:?}").contains("640 connections"), "{status:?}");
    }
}
