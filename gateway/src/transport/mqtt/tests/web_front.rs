//! What ingress does for the room, in short, and a WebSocket client of it.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use http::{HeaderValue, StatusCode, header::SEC_WEBSOCKET_PROTOCOL};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{client_async, tungstenite::client::IntoClientRequest as _};

use super::{house::House, raw::PATIENCE};
use crate::transport::{
    mqtt::web::Frames,
    web::{self, Audience, Hosted as _, Stays, Visit, Visitor},
};

/// An HTTP listener that offers every request to the room, and where it is.
pub(super) fn start(house: &House) -> SocketAddr {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("binds");
    listener.set_nonblocking(true).expect("set");
    let address = listener.local_addr().expect("bound");
    let (listener, room) = (TcpListener::from_std(listener).expect("a listener"), Arc::clone(&house.room));
    tokio::spawn(async move {
        let stays = Stays::new(100, 100);
        while let Ok((stream, peer)) = listener.accept().await {
            let (room, stays) = (Arc::clone(&room), Arc::clone(&stays));
            let service = service_fn(move |request| {
                let (audience, stays) = (Audience::Public, Arc::clone(&stays));
                let visitor = Visitor { audience, path: None, source: peer.ip(), stays };
                let visit = Arc::clone(&room).visit(request, &visitor);
                async move {
                    Ok::<_, Infallible>(match visit {
                        Visit::Elsewhere(_) => web::answer(StatusCode::NOT_FOUND, ""),
                        Visit::Here(answer) => answer.await,
                    })
                }
            });
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(served.with_upgrades());
        }
    });
    address
}

/// The bytes of a WebSocket whose handshake is done.
pub(super) async fn upgrade(address: SocketAddr) -> Frames<TcpStream> {
    let stream = TcpStream::connect(address).await.expect("connects");
    let mut request = format!("ws://{address}/mqtt").into_client_request().expect("a URL");
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("mqtt"));
    let shaken = timeout(PATIENCE, client_async(request, stream)).await.expect("in time");
    let (socket, response) = shaken.expect("let in");
    assert_eq!(response.headers()[SEC_WEBSOCKET_PROTOCOL], "mqtt");
    Frames::new(socket)
}
