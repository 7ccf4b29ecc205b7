//! A phone with Sunup, as strict as its parser: a message without each of its fields is dropped.

use std::{collections::VecDeque, net::SocketAddr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Bytes, Message, Utf8Bytes, client::IntoClientRequest as _},
};

use crate::wait::within;

/// What Sunup's parser takes: no field has a default, extra ones are ignored.
#[derive(Debug, Deserialize)]
#[serde(tag = "messageType", rename_all = "snake_case")]
enum Told {
    Hello {
        uaid: String,
        status: u16,
        use_webpush: bool,
    },
    Register {
        #[serde(rename = "channelID")]
        channel: String,
        status: u16,
        #[serde(rename = "pushEndpoint")]
        endpoint: String,
    },
    Unregister {
        #[serde(rename = "channelID")]
        channel: String,
        status: u16,
    },
    Urgency {
        status: u16,
    },
    Notification {
        #[serde(rename = "channelID")]
        channel: String,
        version: String,
        data: String,
        headers: Value,
    },
}

/// A push as Sunup passes it on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notification {
    /// For which app.
    pub channel: String,
    /// The body.
    pub data: Vec<u8>,
    /// Its encryption headers.
    pub headers: Value,
    /// What it is acknowledged by.
    pub version: String,
}

/// The phone.
#[derive(Debug)]
pub struct Sunup {
    /// What came before a pong that was waited for.
    heard: VecDeque<Utf8Bytes>,
    socket: WebSocketStream<TcpStream>,
    /// What it has been given as a name.
    pub uaid: String,
}

impl Sunup {
    /// Connects to the URL that the owner has entered, and says hello. `None` when it is not let in.
    pub async fn try_connect(address: SocketAddr, path: &str, uaid: Option<&str>) -> Option<Self> {
        let stream = TcpStream::connect(address).await.expect("the gateway listens");
        let request = format!("ws://{address}{path}").into_client_request().expect("a URL");
        let (socket, _) = within("the handshake", client_async(request, stream)).await.ok()?;
        let mut phone = Self { heard: VecDeque::new(), socket, uaid: String::new() };
        phone.say(json!({"messageType": "hello", "uaid": uaid, "use_webpush": true})).await;
        let told = phone.hear().await?;
        let Told::Hello { uaid, status: 200, use_webpush: true } = told else {
            panic!("expected hello, got {told:?}");
        };
        phone.uaid = uaid;
        Some(phone)
    }

    /// Connects where it must be let in.
    pub async fn connect(address: SocketAddr, path: &str, uaid: Option<&str>) -> Self {
        Self::try_connect(address, path, uaid).await.expect("the phone is let in")
    }

    /// Asks for an endpoint.
    pub async fn register(&mut self, channel: &str) -> String {
        self.register_bound(channel, None).await
    }

    /// Asks for an endpoint for whoever has this VAPID key.
    pub async fn register_bound(&mut self, channel: &str, key: Option<&str>) -> String {
        self.say(json!({"messageType": "register", "channelID": channel, "key": key})).await;
        match self.hear().await {
            Some(Told::Register { channel: told, status: 200, endpoint }) if told == channel => endpoint,
            other => panic!("expected an endpoint, got {other:?}"),
        }
    }

    /// Gives an endpoint back.
    pub async fn unregister(&mut self, channel: &str) {
        self.say(json!({"messageType": "unregister", "channelID": channel})).await;
        self.expect_unregistered(channel).await;
    }

    /// Waits until it is told that a registration has ended.
    pub async fn expect_unregistered(&mut self, channel: &str) {
        match self.hear().await {
            Some(Told::Unregister { channel: told, status: 200 }) if told == channel => {}
            other => panic!("expected unregister, got {other:?}"),
        }
    }

    /// Says what the least urgent is that it wants, as the builds do that know it.
    pub async fn floor(&mut self, urgency: &str) {
        self.say(json!({"messageType": "urgency", "min": urgency})).await;
        loop {
            match within("an answer", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(Told::Urgency { status: 200 }) => return,
                    // What the new floor lets pass may come first.
                    _ => self.heard.push_back(text),
                },
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("expected an answer, got {other:?}"),
            }
        }
    }

    /// Waits for the next push.
    pub async fn expect_push(&mut self) -> Notification {
        match self.hear().await {
            Some(Told::Notification { channel, version, data, headers }) => {
                let data = URL_SAFE_NO_PAD.decode(data).expect("base64url without padding");
                Notification { channel, data, headers, version }
            }
            other => panic!("expected a push, got {other:?}"),
        }
    }

    /// Acknowledges a push, as Sunup does: one by one, without a code.
    pub async fn ack(&mut self, push: &Notification) {
        let update = json!({"channelID": push.channel, "version": push.version});
        self.say(json!({"messageType": "ack", "updates": [update]})).await;
    }

    /// Waits until the gateway has ended the connection, without a Close frame.
    pub async fn expect_end(&mut self) {
        let heard = self.hear().await;
        assert!(heard.is_none(), "expected the end, got {heard:?}");
    }

    /// Closes the connection, and waits until the gateway has noticed.
    pub async fn leave(mut self) {
        within("the gateway reads", self.socket.close(None)).await.expect("connected");
        while let Some(Ok(_)) = within("the end", self.socket.next()).await {}
    }

    /// Says something and waits for the answer to a ping, which comes after whatever was said before.
    pub async fn fence(&mut self) {
        self.say(json!({})).await;
        let answer = within("the answer to a ping", self.socket.next()).await;
        assert_eq!(answer.expect("connected").expect("a message"), Message::text("{}"));
    }

    /// Pings as OkHttp does, by a frame, and waits for the pong; what comes before that is left for later.
    pub async fn ping(&mut self) {
        within("the gateway reads", self.socket.send(Message::Ping(Bytes::new()))).await.expect("connected");
        loop {
            match within("a pong", self.socket.next()).await {
                Some(Ok(Message::Pong(_))) => return,
                Some(Ok(Message::Text(text))) => self.heard.push_back(text),
                Some(Ok(Message::Ping(_))) => {}
                other => panic!("expected a pong, got {other:?}"),
            }
        }
    }

    async fn say(&mut self, message: Value) {
        within("the gateway reads", self.socket.send(Message::text(message.to_string())))
            .await
            .expect("connected");
    }

    async fn hear(&mut self) -> Option<Told> {
        loop {
            let next = match self.heard.pop_front() {
                Some(text) => Some(Ok(Message::Text(text))),
                None => within("a message of the gateway", self.socket.next()).await,
            };
            match next {
                Some(Ok(Message::Text(text))) => {
                    let told = serde_json::from_str(&text);
                    return Some(told.unwrap_or_else(|error| panic!("Sunup drops {text}: {error}")));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("Sunup does not bear {other:?}"),
                Some(Err(_)) | None => return None,
            }
        }
    }
}
