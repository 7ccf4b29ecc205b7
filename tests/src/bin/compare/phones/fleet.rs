//! Phones: connected, subscribed, acknowledging.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::rustls::pki_types::ServerName;

use super::house::House;
use crate::{
    Result,
    mqtt::{self, Incoming, Login},
    servers::text,
};

/// How many connect at once where haste is not measured.
const ABREAST: usize = 50;

/// How a phone connects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wire {
    Tcp,
    Tls,
}

/// A byte stream of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Phone {
    pub(super) name: String,
    filter: String,
    login: Option<Login>,
    /// Where its app is pushed to: a path, or a topic.
    pub(super) push: String,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) phones: Vec<Phone>,
}

/// A connection after its CONNACK.
pub(super) struct Line {
    buffer: Vec<u8>,
    pub(super) stream: Box<dyn Stream>,
}

/// Those that are connected, and how long each push took to arrive.
#[derive(Debug)]
pub(super) struct Connected {
    arrivals: Arc<Mutex<Vec<f64>>>,
    epoch: Instant,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Connected {
    /// Nanoseconds since the beginning: what a body carries.
    pub(super) fn stamp(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// What has arrived so far, in milliseconds each; forgotten here.
    pub(super) fn take(&self) -> Vec<f64> {
        std::mem::take(&mut self.arrivals.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How much has arrived since the last [`take`](Self::take).
    pub(super) fn count(&self) -> usize {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How many have lost their connection.
    pub(super) fn lost(&self) -> usize {
        self.tasks.iter().filter(|task| task.is_finished()).count()
    }
}

impl Fleet {
    /// Pairs phones and gives each an app; mosquitto takes anybody.
    pub(super) async fn pair(house: &House, count: usize) -> Result<Self> {
        let mut phones = Vec::with_capacity(count);
        for number in 0..count {
            let name = format!("phone-{number}");
            let Some(_) = &house.gateway else {
                let filter = format!("up/{name}/inbox/#");
                phones.push(Phone { push: format!("up/{name}/inbox/push/app"), filter, login: None, name });
                continue;
            };
            let (user, secret) = house.pair()?;
            let filter = format!("up/{user}/inbox/#");
            let mut phone = Phone { push: String::new(), filter, login: Some(Login { user, secret }), name };
            phone.push = phone.register(house).await?;
            phones.push(phone);
        }
        Ok(Self { phones })
    }

    /// Shares endpoints among the phones, so many each: what is pushed to one goes to all of its members.
    pub(super) fn group(&mut self, house: &House, members: usize) -> Result<()> {
        for (number, some) in self.phones.chunks_mut(members).enumerate() {
            if house.gateway.is_none() {
                for phone in some {
                    phone.filter = format!("up/group-{number}/inbox/#");
                    phone.push = format!("up/group-{number}/inbox/push/app");
                }
                continue;
            }
            let group = text(&house.ask(&["group", "add", "family"])?, "group")?;
            let user = |phone: &Phone| phone.login.as_ref().map(|login| login.user.clone());
            for member in some.iter().filter_map(user) {
                house.tell(&["group", "join", &group, &member])?;
            }
            let endpoint = text(&house.ask(&["registration", "add", &group, "shared"])?, "endpoint")?;
            let (_, token) = endpoint.split_once("/p/").ok_or("an endpoint without /p/")?;
            some.iter_mut().for_each(|phone| phone.push = format!("/p/{token}"));
        }
        Ok(())
    }

    /// Connects all of them, and subscribes.
    pub(super) async fn connect_all(&self, house: &House, wire: Wire) -> Result<Connected> {
        let (arrivals, epoch) = (Arc::default(), Instant::now());
        let mut connected = Connected { arrivals, epoch, tasks: Vec::with_capacity(self.phones.len()) };
        for some in self.phones.chunks(ABREAST) {
            let mut joining = JoinSet::new();
            for phone in some {
                let (phone, dial) = (phone.clone(), Dial::new(house, wire)?);
                joining.spawn(async move { phone.subscribe(dial).await });
            }
            while let Some(line) = joining.join_next().await {
                let arrivals = Arc::clone(&connected.arrivals);
                connected.tasks.push(tokio::spawn(listen(line??, arrivals, epoch)));
            }
        }
        Ok(connected)
    }
}

/// Where to connect, and how.
#[derive(Clone)]
pub(super) struct Dial {
    address: SocketAddr,
    connector: Option<tokio_rustls::TlsConnector>,
}

impl Dial {
    pub(super) fn new(house: &House, wire: Wire) -> Result<Self> {
        Ok(match wire {
            Wire::Tcp => Self { address: house.mqtt, connector: None },
            Wire::Tls => {
                let own = house.own()?;
                Self { address: own.mqtts, connector: Some(own.connector.clone()) }
            }
        })
    }

    pub(super) async fn open(&self) -> Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.connector {
            None => Box::new(stream),
            Some(connector) => Box::new(connector.connect(ServerName::try_from("localhost")?, stream).await?),
        })
    }
}

impl Phone {
    /// CONNECT.
    pub(super) async fn connect(&self, dial: &Dial) -> Result<Line> {
        let mut line = Line { buffer: Vec::new(), stream: dial.open().await? };
        line.stream.write_all(&mqtt::hello(&self.name, self.login.as_ref())?).await?;
        line.stream.flush().await?;
        line.until(|incoming| matches!(incoming, Incoming::Connack { code: 0 })).await?;
        Ok(line)
    }

    /// CONNECT and SUBSCRIBE.
    pub(super) async fn subscribe(&self, dial: Dial) -> Result<Line> {
        let mut line = self.connect(&dial).await?;
        line.stream.write_all(&mqtt::subscribe(&self.filter)?).await?;
        line.stream.flush().await?;
        line.until(|incoming| matches!(incoming, Incoming::Suback { code: 0..=1 })).await?;
        Ok(line)
    }

    /// Asks for an endpoint as a distributor does; its path.
    async fn register(&self, house: &House) -> Result<String> {
        let user = &self.login.as_ref().ok_or("only the gateway is asked for this")?.user;
        let mut line = self.subscribe(Dial::new(house, Wire::Tcp)?).await?;
        let topic = format!("up/{user}/outbox/register");
        line.stream.write_all(&mqtt::publish(&topic, br#"{"token":"app"}"#)?).await?;
        let mut path = None;
        line.until(|incoming| {
            if let Incoming::Publish { payload, .. } = incoming {
                path = serde_json::from_slice::<serde_json::Value>(payload)
                    .ok()
                    .and_then(|answer| Some(answer["endpoint"].as_str()?.split_once("/p/")?.1.to_owned()));
            }
            path.is_some()
        })
        .await?;
        Ok(format!("/p/{}", path.ok_or("no endpoint")?))
    }
}

impl Line {
    /// Reads until a packet is wanted; acknowledges each PUBLISH on the way.
    pub(super) async fn until(&mut self, mut wanted: impl FnMut(Incoming<'_>) -> bool) -> Result<()> {
        loop {
            let (mut used, mut found, mut answers) = (0, false, Vec::new());
            while let Some((incoming, length)) = mqtt::first(&self.buffer[used..])? {
                if let Incoming::Publish { id: Some(id), .. } = incoming {
                    answers.extend(mqtt::puback(id));
                }
                used += length;
                if wanted(incoming) {
                    found = true;
                    break;
                }
            }
            self.buffer.drain(..used);
            if !answers.is_empty() {
                self.stream.write_all(&answers).await?;
                self.stream.flush().await?;
            }
            if found {
                return Ok(());
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server closed the connection".into());
            }
        }
    }
}

/// Takes pushes until the connection ends.
async fn listen(mut line: Line, arrivals: Arc<Mutex<Vec<f64>>>, epoch: Instant) {
    // An idle phone holds no buffer worth speaking of.
    line.buffer.shrink_to_fit();
    let took = line.until(|incoming| {
        if let Incoming::Publish { payload, .. } = incoming {
            if let Some(sent) = super::flow::stamp_in(payload) {
                let now = u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
                let took = crate::load::precise(now.saturating_sub(sent)) / 1e6;
                arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(took);
            }
        }
        false
    });
    let _ended = took.await;
}
