//! MQTT over WebSocket (MQTT 5.0 §6) at `/mqtt` of the HTTP listeners: for networks that let nothing else
//! through. 3.1.1 and 5.0, as everywhere.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Request, StatusCode, header::SEC_WEBSOCKET_PROTOCOL};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, error::ProtocolError},
};

use super::{
    MqttRoom,
    config::{GREETING_MAX, HANDSHAKE_MAX},
    connection,
    io::{Allowance, Metered, place},
};
use crate::transport::web::{Crowded, Hosted, Visit, Visitor, answer, shake_hands, web_socket};

/// Where the room is visited.
const PATH: &str = "/mqtt";
/// The subprotocol, which a client has to offer (MQTT 5.0 §6.0).
const PROTOCOL: &str = "mqtt";
/// The longest frame, and the longest message of several. Packets may span frames, so this bounds no packet;
/// it is checked before any of it is kept, so that a length that lies costs nothing.
const FRAME_MAX: usize = HANDSHAKE_MAX;

impl Hosted for MqttRoom {
    fn visit(self: Arc<Self>, mut request: Request<Incoming>, visitor: &Visitor) -> Visit {
        if visitor.path.is_some() || request.uri().path() != PATH {
            return Visit::Elsewhere(request);
        }
        let stay = visitor.stay();
        let source = visitor.source;
        Visit::here(async move {
            let stay = match stay {
                Ok(stay) => stay,
                Err(Crowded::Source) => return answer(StatusCode::TOO_MANY_REQUESTS, "too many from here\n"),
                Err(Crowded::Total) => return answer(StatusCode::SERVICE_UNAVAILABLE, "too many\n"),
            };
            let (response, upgrade) = match shake_hands(&mut request, &[PROTOCOL]) {
                Ok(agreed) => agreed,
                Err(bad) => return bad.into_response(),
            };
            if !response.headers().contains_key(SEC_WEBSOCKET_PROTOCOL) {
                return answer(StatusCode::BAD_REQUEST, "offer the subprotocol `mqtt`\n");
            }
            let Ok(place) = place(&self, source).await else {
                return answer(StatusCode::SERVICE_UNAVAILABLE, "too many\n");
            };
            tokio::spawn(async move {
                let allowance = Allowance::new(GREETING_MAX);
                let stream = async {
                    let socket =
                        web_socket(upgrade, FRAME_MAX).await.ok_or(io::ErrorKind::ConnectionReset)?;
                    Ok(Metered::new(Frames::new(socket), allowance.clone()))
                };
                connection::serve(&self, source, allowance.clone(), stream).await;
                drop((place, stay));
            });
            response
        })
    }
}

/// The bytes inside the binary messages, whatever their borders.
#[derive(Debug)]
pub(super) struct Frames<S> {
    socket: WebSocketStream<S>,
    unread: Bytes,
}

impl<S> Frames<S> {
    pub(super) fn new(socket: WebSocketStream<S>) -> Self {
        Self { socket, unread: Bytes::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Frames<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match ready!(this.socket.poll_next_unpin(cx)) {
                Some(Ok(Message::Binary(bytes))) => this.unread = bytes,
                // Answered by the library.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    let text = io::Error::new(io::ErrorKind::InvalidData, "MQTT is binary (MQTT 5.0 §6.0)");
                    return Poll::Ready(Err(text));
                }
                Some(Err(error)) => return Poll::Ready(Err(failed(error))),
            }
        }
        let taken = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.unread[..taken]);
        this.unread.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.socket.poll_ready_unpin(cx)).map_err(failed)?;
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        this.socket.start_send_unpin(message).map_err(failed)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket.poll_flush_unpin(cx).map_err(failed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket.poll_close_unpin(cx).map_err(failed)
    }
}

/// What the socket said stays what it was: how a connection ends tells whether its device was lost.
fn failed(error: Error) -> io::Error {
    // The stream has ended without a Close frame: as good an end as that of TLS without its good-bye.
    let ended = matches!(
        error,
        Error::AlreadyClosed
            | Error::ConnectionClosed
            | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
    );
    if let Error::Io(error) = error {
        error
    } else if ended {
        io::Error::from(io::ErrorKind::UnexpectedEof)
    } else {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

    use super::*;

    async fn pair() -> (WebSocketStream<DuplexStream>, Frames<DuplexStream>) {
        let (client, server) = duplex(64 * 1024);
        let limits =
            WebSocketConfig::default().max_frame_size(Some(FRAME_MAX)).max_message_size(Some(FRAME_MAX));
        let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let server = WebSocketStream::from_raw_socket(server, Role::Server, Some(limits)).await;
        (client, Frames::new(server))
    }

    #[tokio::test]
    async fn packets_may_span_frames_and_share_one() {
        let (mut client, mut frames) = pair().await;
        for part in [&b"ab"[..], b"", b"cde"] {
            client.send(Message::Binary(Bytes::copy_from_slice(part))).await.expect("sent");
            client.send(Message::Ping(Bytes::new())).await.expect("sent");
        }
        let mut bytes = [0; 5];
        frames.read_exact(&mut bytes).await.expect("all of it");
        assert_eq!(&bytes, b"abcde");
        frames.write_all(b"back").await.expect("written");
        frames.flush().await.expect("flushed");
        loop {
            let message = client.next().await.expect("open").expect("a message");
            if !message.is_pong() {
                break assert_eq!(message, Message::Binary(Bytes::from_static(b"back")));
            }
        }
        client.close(None).await.expect("closed");
        assert_eq!(frames.read(&mut bytes).await.expect("the end"), 0);
    }

    #[tokio::test]
    async fn text_is_refused() {
        let (mut client, mut frames) = pair().await;
        client.send(Message::text("x")).await.expect("sent");
        let error = frames.read(&mut [0; 5]).await.expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_length_that_lies_is_refused_before_anything_is_kept() {
        let (mut client, server) = duplex(64 * 1024);
        let limits =
            WebSocketConfig::default().max_frame_size(Some(FRAME_MAX)).max_message_size(Some(FRAME_MAX));
        let server = WebSocketStream::from_raw_socket(server, Role::Server, Some(limits)).await;
        // FIN, binary; masked, a length of 2^62.
        let header = [0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        client.write_all(&header).await.expect("sent");
        let error = Frames::new(server).read(&mut [0; 5]).await.expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
