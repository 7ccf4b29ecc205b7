//! What stands between: does it pass a WebSocket on, and for how long may that be silent?

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderValue;
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

use crate::doctor::{
    Finding,
    case::{Case, address_of},
    dial::{Stream, Target},
    temporary::Temporary,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// An upgraded connection, or why there is none.
type Upgraded = Result<WebSocketStream<Box<dyn Stream>>, String>;

pub(in crate::doctor) async fn check(case: &Case) -> Vec<Finding> {
    let (Some((public, addresses)), Ok(status)) = (case.reachable(), &case.gateway) else {
        return vec![Finding::skipped(
            "no WebSocket was tried, because no gateway answers there",
            "see `ports` and `name`",
        )];
    };
    let socket = match upgrade(case, &public.target, addresses).await {
        Ok(socket) => socket,
        Err(error) => return vec![not_upgraded(case, &status.public, error).await],
    };
    let mut findings = vec![Finding::good(format!("{} passes WebSockets on", public.url))];
    if case.options.idle_s == 0 {
        findings
            .push(Finding::skipped("how long a connection may be idle was not tried", "leave --idle 0 out"));
        return findings;
    }
    let device = match Temporary::pair(&case.config.state_dir, &*case.clock) {
        Ok(device) => device,
        Err(error) => {
            findings.push(Finding::skipped(format!("no device could be paired: {error}"), "see `push`"));
            return findings;
        }
    };
    findings.push(idle(case, socket, &device).await);
    findings
}

async fn upgrade(case: &Case, target: &Target, addresses: &[SocketAddr]) -> Upgraded {
    let stream = case.dialer.connect(target, addresses).await?;
    let url = format!("{}://{}/mqtt", if target.is_tls { "wss" } else { "ws" }, target.authority);
    let mut request = url.into_client_request().map_err(|error| error.to_string())?;
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("mqtt"));
    match timeout(PATIENCE, client_async(request, stream)).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(Error::Http(answer))) => Err(format!("it answers {}", answer.status())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// Is it the gateway's fault, or that of something in between?
async fn not_upgraded(case: &Case, direct: &str, error: String) -> Finding {
    let asked = match (direct.parse().ok().and_then(|uri| Target::of(&uri)), address_of(direct)) {
        (Some(target), Some(address)) => upgrade(case, &target, &[address]).await.map(drop),
        _ => Err(format!("{direct} is no address")),
    };
    match asked {
        Ok(()) => Finding::problem(
            format!(
                "the gateway takes WebSockets, but something before it does not pass them on: {error}. Firefox, Sunup, ntfy and MQTT over WebSocket cannot connect from outside"
            ),
            "nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\"; Apache: upgrade=websocket; Caddy and Traefik do it by themselves",
        ),
        Err(own) => Finding::problem(
            format!("no WebSocket can be opened: {error}; nor at {direct}: {own}"),
            "restart the gateway; its log says more",
        ),
    }
}

/// Logs in, is silent, and asks whether anybody is still there.
async fn idle(case: &Case, mut socket: WebSocketStream<Box<dyn Stream>>, device: &Temporary) -> Finding {
    let seconds = case.options.idle_s;
    let began = case.clock.moment().instant;
    if let Err(error) = exchange(&mut socket, connect(device), 0x20).await {
        return Finding::problem(
            format!("a device logs in by WebSocket in vain: {error}"),
            "see `push`; the gateway's log says more",
        );
    }
    let alive = match timeout(Duration::from_secs(seconds.into()), until_closed(&mut socket)).await {
        Ok(()) => false,
        Err(_) => exchange(&mut socket, vec![0xc0, 0], 0xd0).await.is_ok(),
    };
    let after = case.clock.moment().instant.saturating_duration_since(began).as_secs_f64();
    if alive {
        return Finding::good(format!("a WebSocket that was idle for {seconds} s still lives"));
    }
    Finding::warning(
        format!(
            "a WebSocket was cut after {after:.0} s of silence: phones must wake their radio more often than that, which costs battery"
        ),
        "let the proxy wait for 30 minutes at least: nginx proxy_read_timeout 1h; HAProxy timeout tunnel 1h; Apache ProxyTimeout 3600",
    )
}

async fn until_closed(socket: &mut WebSocketStream<Box<dyn Stream>>) {
    while let Some(Ok(message)) = socket.next().await {
        if message.is_close() {
            return;
        }
    }
}

/// Sends a packet, and waits for one that begins with `kind`.
async fn exchange(
    socket: &mut WebSocketStream<Box<dyn Stream>>,
    packet: Vec<u8>,
    kind: u8,
) -> Result<(), String> {
    let exchanged = async {
        socket.send(Message::binary(packet)).await.map_err(|error| error.to_string())?;
        while let Some(message) = socket.next().await {
            let message = message.map_err(|error| error.to_string())?;
            if message.is_binary() && message.into_data().first() == Some(&kind) {
                return Ok(());
            }
        }
        Err("it was closed".to_owned())
    };
    timeout(PATIENCE, exchanged).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

/// CONNECT of MQTT 3.1.1 (§3.1): clean session, login, and a keep-alive that is longer than we stay.
fn connect(device: &Temporary) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x04\xc2\xff\xff".to_vec();
    for text in [&device.pairing.device, &device.pairing.device, &device.pairing.secret] {
        body.extend(u16::try_from(text.len()).unwrap_or_default().to_be_bytes());
        body.extend(text.as_bytes());
    }
    let mut packet = vec![0x10];
    // The Remaining Length, seven bits a byte (§2.2.3).
    let mut left = body.len();
    loop {
        let more = if left >= 0x80 { 0x80 } else { 0 };
        packet.push(u8::try_from(left & 0x7f).unwrap_or_default() | more);
        left >>= 7;
        if left == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}
