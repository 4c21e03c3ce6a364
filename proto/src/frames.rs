//! A stream of messages as the body of a gRPC call, tensors not copied.
//!
//! tonic writes each message into a buffer of its own. For a part of a tensor that are two copies into memory that is not in
//! the cache, a third of what a step over gRPC cost. [`Frames`] gives the transport the bytes of the tensor where they lie,
//! between those of the message around them. The result is the same protobuf, with the same seal.
//!
//! The generated client and server know nothing of it: who makes a call [attaches](attach) the body to its request or response,
//! and [`Direct`], around the channel or the server, puts it in the place of tonic's.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Extensions, HeaderMap, Request, Response};
use http_body::Frame;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tokio_stream::Stream;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;
use xxhash_rust::xxh3::Xxh3;

use crate::seal::{self, SEAL_BYTES};
use crate::wire::{FromWorker, ToWorker, from_worker, to_worker};

/// What gRPC puts before a message: not compressed, and its length.
const PREFIX_BYTES: usize = 1 + 4;

/// A message that may hold a part of a tensor.
pub trait Bulk: Message {
    /// Takes the part out.
    fn take_data(&mut self) -> Option<Part>;
}

/// The field of a message that holds a part of a tensor, its data apart.
#[derive(Debug)]
pub struct Part {
    /// The field's number in the message.
    number: u32,
    /// The field without its data.
    fields: Vec<u8>,
    /// The data's number in the field.
    data_number: u32,
    data: Bytes,
}

impl Bulk for FromWorker {
    fn take_data(&mut self) -> Option<Part> {
        Some(match &mut self.message {
            Some(from_worker::Message::Gradient(gradient)) => {
                let data = std::mem::take(&mut gradient.data);
                Part { number: 3, fields: gradient.encode_to_vec(), data_number: 5, data }
            }
            Some(from_worker::Message::State(part)) => {
                let data = std::mem::take(&mut part.data);
                Part { number: 10, fields: part.encode_to_vec(), data_number: 5, data }
            }
            _ => return None,
        })
    }
}

impl Bulk for ToWorker {
    fn take_data(&mut self) -> Option<Part> {
        let Some(to_worker::Message::Parameters(parameters)) = &mut self.message else { return None };
        let data = std::mem::take(&mut parameters.data);
        Some(Part { number: 3, fields: parameters.encode_to_vec(), data_number: 4, data })
    }
}

/// A message as it travels, in pieces.
fn pieces<M: Bulk>(mut message: M) -> impl Iterator<Item = Bytes> {
    let (mut head, data) = (Vec::new(), message.take_data());
    let data = match data {
        Some(Part { number, fields, data_number, data }) => {
            let mut inner = fields;
            encode_key(data_number, WireType::LengthDelimited, &mut inner);
            encode_varint(data.len() as u64, &mut inner);
            encode_key(number, WireType::LengthDelimited, &mut head);
            encode_varint((inner.len() + data.len()) as u64, &mut head);
            head.extend(inner);
            data
        }
        None => {
            head = message.encode_to_vec();
            Bytes::new()
        }
    };
    let mut hash = Xxh3::new();
    hash.update(&head);
    hash.update(&data);
    let mut first = BytesMut::with_capacity(PREFIX_BYTES + head.len() + SEAL_BYTES);
    first.put_u8(0);
    first.put_u32((head.len() + data.len() + SEAL_BYTES) as u32);
    first.put_slice(&head);
    let seal = seal::field(hash.digest());
    let rest = if data.is_empty() {
        first.put_slice(&seal);
        [Bytes::new(), Bytes::new()]
    } else {
        [data, Bytes::copy_from_slice(&seal)]
    };
    std::iter::once(first.freeze()).chain(rest.into_iter().filter(|piece| !piece.is_empty()))
}

/// The body of a call that sends `messages`.
#[derive(Debug)]
pub struct Frames<S> {
    messages: S,
    /// Pieces of the message that is going out.
    waiting: VecDeque<Bytes>,
    /// A server says at the end how the call went.
    last_word: Option<Status>,
}

impl<S> Frames<S> {
    /// What a client sends.
    pub fn of_client(messages: S) -> Self {
        Self { messages, waiting: VecDeque::new(), last_word: None }
    }

    /// What a server answers.
    pub fn of_server(messages: S) -> Self {
        Self { messages, waiting: VecDeque::new(), last_word: Some(Status::ok("")) }
    }
}

impl<M: Bulk, S: Stream<Item = Result<M, Status>> + Unpin> http_body::Body for Frames<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(piece) = self.waiting.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let status = match std::task::ready!(Pin::new(&mut self.messages).poll_next(cx)) {
            Some(Ok(message)) => {
                self.waiting.extend(pieces(message));
                return Poll::Ready(self.waiting.pop_front().map(|piece| Ok(Frame::data(piece))));
            }
            Some(Err(status)) => Some(status),
            None => None,
        };
        Poll::Ready(match (self.last_word.take(), status) {
            (Some(well), status) => {
                let mut trailers = HeaderMap::new();
                Some(status.unwrap_or(well).add_header(&mut trailers).map(|()| Frame::trailers(trailers)))
            }
            (None, Some(status)) => Some(Err(status)),
            (None, None) => None,
        })
    }
}

/// A body on its way to [`Direct`]. Extensions want to be cloned and shared, which a body can't be; taken once.
#[derive(Clone)]
struct Attached(Arc<Mutex<Option<Body>>>);

/// Has `frames` sent instead of the body that goes with `extensions`.
pub fn attach<M, S>(extensions: &mut Extensions, frames: Frames<S>)
where
    M: Bulk,
    S: Stream<Item = Result<M, Status>> + Unpin + Send + 'static,
{
    extensions.insert(Attached(Arc::new(Mutex::new(Some(Body::new(frames))))));
}

fn take(extensions: &mut Extensions) -> Option<Body> {
    let Attached(body) = extensions.remove()?;
    body.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// A channel, or a server, whose calls may have a body attached.
#[derive(Clone, Debug)]
pub struct Direct<S>(pub S);

impl<S: NamedService> NamedService for Direct<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Direct<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(body) = take(request.extensions_mut()) {
            *request.body_mut() = body;
        }
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            if let Some(body) = take(response.extensions_mut()) {
                *response.body_mut() = body;
            }
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::SealedCodec;
    use crate::wire::{Gradient, GradientSummary, Hello, Parameters};
    use http_body::Body as _;
    use tonic::Streaming;
    use tonic::codec::Codec as _;

    fn gradient(data: Bytes) -> FromWorker {
        let summary = Some(GradientSummary { digest: 9, ..GradientSummary::default() });
        let gradient = Gradient { lease: 3, offset: 70_000, data, summary, bf16: true, ..Gradient::default() };
        FromWorker { message: Some(from_worker::Message::Gradient(gradient)) }
    }

    fn parameters(data: Bytes) -> ToWorker {
        let parameters = Parameters { version: 5, data, digest: 7, slot: Some(0), ..Parameters::default() };
        ToWorker { message: Some(to_worker::Message::Parameters(parameters)) }
    }

    fn hello() -> FromWorker {
        FromWorker { message: Some(from_worker::Message::Hello(Hello { protocol: 2, ..Hello::default() })) }
    }

    fn ok<M>(messages: Vec<M>) -> impl Stream<Item = Result<M, Status>> + Unpin {
        tokio_stream::iter(messages.into_iter().map(Ok))
    }

    #[tokio::test]
    async fn tonic_reads_what_was_written() {
        let data = Bytes::from(vec![7; 100_000]);
        let sent = vec![hello(), gradient(data.clone()), gradient(Bytes::new()), hello()];
        let opener = SealedCodec::<ToWorker, FromWorker>::default().decoder();
        let mut read = Streaming::new_request(opener, Frames::of_client(ok(sent.clone())), None, None);
        for message in sent {
            assert_eq!(read.message().await.expect("whole"), Some(message));
        }
        assert_eq!(read.message().await.expect("the end"), None);

        let sent = vec![parameters(data), parameters(Bytes::new())];
        let opener = SealedCodec::<FromWorker, ToWorker>::default().decoder();
        let mut read = Streaming::new_request(opener, Frames::of_server(ok(sent.clone())), None, None);
        for message in sent {
            assert_eq!(read.message().await.expect("whole"), Some(message));
        }
    }

    #[test]
    fn protobuf_reads_it_and_nothing_of_the_tensor_is_copied() {
        let data = Bytes::from(vec![7; 1000]);
        let pieces: Vec<Bytes> = pieces(gradient(data.clone())).collect();
        assert_eq!(pieces[1].as_ptr(), data.as_ptr());
        let whole = pieces.concat();
        let length = u32::from_be_bytes(whole[1..PREFIX_BYTES].try_into().expect("four bytes"));
        assert_eq!((whole[0], length as usize), (0, whole.len() - PREFIX_BYTES));
        assert_eq!(FromWorker::decode(&whole[PREFIX_BYTES..]).expect("protobuf"), gradient(data));
    }

    #[tokio::test]
    async fn a_server_says_how_it_went() {
        let fails = vec![Ok(parameters(Bytes::new())), Err(Status::unavailable("gone"))];
        for (messages, code) in [(fails, "14"), (Vec::new(), "0")] {
            let mut frames = Frames::of_server(tokio_stream::iter(messages));
            let trailers = loop {
                let frame = std::future::poll_fn(|cx| Pin::new(&mut frames).poll_frame(cx)).await;
                if let Ok(trailers) = frame.expect("trailers come last").expect("no error").into_trailers() {
                    break trailers;
                }
            };
            assert_eq!(trailers["grpc-status"], code);
            assert!(std::future::poll_fn(|cx| Pin::new(&mut frames).poll_frame(cx)).await.is_none());
        }
    }
}
