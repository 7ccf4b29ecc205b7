//! The stream to the XMPP server: one task owns the socket, connects, and connects again.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, watch},
    time::{sleep, sleep_until, timeout},
};

use super::{
    NAME, XmppRoom,
    config::{ASKS_MAX, NAME_MAX, OUTBOX_FULL, OUTBOX_MAX},
    seat::Mail,
    session::{Answered, Ask, End, Out, Registering, Session},
    wire,
    xml::Reader,
};
use crate::{
    model::{DeviceId, MessageId, RegistrationId},
    transport::{Directory, EnrolRefusal, Enrolment, Event, Invitation, RegisterRefusal, RegisteredAs},
};

/// How much is read at once.
const CHUNK: usize = 16 * 1024;
/// A stream that was up for so long was a good one: the next pause is the shortest again.
const GOOD: Duration = Duration::from_secs(60);

type Asking = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// What happens next.
enum Step {
    Answered(Answered),
    Heard(io::Result<usize>),
    Mail(Option<Mail>),
    Stopped,
    Time,
    Wrote(io::Result<usize>),
}

/// What is to be written.
#[derive(Default)]
struct Outbox {
    bytes: VecDeque<u8>,
    /// Whose pushes have been written when so many bytes more are.
    sent: VecDeque<(u64, DeviceId, Vec<MessageId>)>,
    /// Since when nothing could be written.
    stuck: Option<Instant>,
    total: u64,
}

/// The task.
pub(super) struct Stream {
    asking: FuturesUnordered<Asking>,
    mailbox: mpsc::UnboundedReceiver<Mail>,
    /// What was said last of why there is no stream, so that it is said once.
    said: Option<String>,
    room: Arc<XmppRoom>,
    session: Session,
    stop: watch::Receiver<bool>,
}

impl Stream {
    pub(super) fn new(
        room: Arc<XmppRoom>,
        session: Session,
        mailbox: mpsc::UnboundedReceiver<Mail>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { asking: FuturesUnordered::new(), mailbox, said: None, room, session, stop }
    }

    /// Connects, again and again, until the gateway stops.
    pub(super) async fn run(mut self) {
        let (shortest, longest) = self.room.limits.back_off;
        let mut pause = shortest;
        loop {
            // `None`: the gateway stops.
            let Some(end) = self.once().await else { return };
            if self.session.up_since().is_some_and(|since| self.now() >= since + GOOD) {
                (pause, self.said) = (shortest, None);
            }
            self.session.disconnected();
            self.report().await;
            // What somebody has to mend first is not mended within seconds.
            if matches!(end, End::Refused(_, true)) {
                pause = longest;
            }
            let wait = jittered(pause);
            self.complain(&end, wait);
            pause = (pause * 2).min(longest);
            if !self.rest(wait).await {
                return;
            }
        }
    }

    fn now(&self) -> Instant {
        self.room.house.clock.moment().instant
    }

    fn complain(&mut self, end: &End, wait: Duration) {
        let why = match end {
            End::Refused(why, _) => {
                format!("the server says {why}; {}", remedy(why, self.session.component()))
            }
            End::Broken(why) => why.clone(),
        };
        let (server, again_s) = (self.session.server(), wait.as_secs());
        if self.said.as_ref() == Some(&why) {
            tracing::debug!(%server, again_s, "XMPP: {why}");
        } else {
            tracing::warn!(%server, again_s, "XMPP: {why}");
        }
        self.said = Some(why);
    }

    /// Waits; `false` when the gateway stops. Mail is for nobody meanwhile.
    async fn rest(&mut self, wait: Duration) -> bool {
        let pause = sleep(wait);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => return false,
                () = &mut pause => return true,
                Some(answered) = self.asking.next() => {
                    self.session.answered(answered, self.room.house.clock.moment());
                }
                mail = self.mailbox.recv() => {
                    let Some(mail) = mail else { return false };
                    self.session.mail(&*self.room.house.directory, mail, self.room.house.clock.moment());
                }
            }
            self.report().await;
        }
    }

    /// One connection, from its beginning to its end; `None`: the gateway stops.
    async fn once(&mut self) -> Option<End> {
        let connecting = timeout(self.room.limits.greeting, TcpStream::connect(self.session.server()));
        let stream = tokio::select! {
            _ = self.stop.wait_for(|stop| *stop) => return None,
            stream = connecting => stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        };
        let mut stream =
            match stream.and_then(|stream| prepare(&stream, self.room.limits.write).map(|()| stream)) {
                Ok(stream) => stream,
                Err(error) => return Some(End::Broken(format!("cannot connect: {error}"))),
            };
        let now = self.now();
        self.session.connected(now);
        let end = self.converse(&mut stream).await;
        if end.is_none() {
            self.session.disconnected();
            self.report().await;
        }
        // In vain where nobody reads any more.
        let _ = timeout(self.room.limits.drain, stream.write_all(wire::GOOD_BYE.as_bytes())).await;
        end
    }

    async fn converse(&mut self, stream: &mut TcpStream) -> Option<End> {
        let (mut incoming, mut outgoing) = stream.split();
        let (mut reader, mut outbox) = (Reader::default(), Outbox::default());
        let mut chunk = vec![0; CHUNK];
        loop {
            let out = self.report().await;
            if let Some(end) = out.end {
                return Some(end);
            }
            outbox.push(out, self.now());
            while self.asking.len() < ASKS_MAX {
                let Some(ask) = self.session.next_ask() else { break };
                self.asking.push(perform(Arc::clone(&self.room), ask));
            }
            let due = [self.session.deadline(), outbox.stuck.map(|since| since + self.room.limits.write)];
            let due = due.into_iter().flatten().min().unwrap_or_else(|| self.now());
            let step = tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => Step::Stopped,
                Some(answered) = self.asking.next() => Step::Answered(answered),
                heard = incoming.read(&mut chunk), if outbox.bytes.len() < OUTBOX_MAX => Step::Heard(heard),
                wrote = outgoing.write(outbox.bytes.as_slices().0), if !outbox.bytes.is_empty() => Step::Wrote(wrote),
                mail = self.mailbox.recv(), if outbox.bytes.len() < OUTBOX_FULL => Step::Mail(mail),
                () = sleep_until(due.into()) => Step::Time,
            };
            let now = self.room.house.clock.moment();
            match step {
                Step::Stopped | Step::Mail(None) => return None,
                Step::Answered(answered) => self.session.answered(answered, now),
                Step::Heard(Ok(0)) => {
                    return Some(End::Broken("the server has closed the connection".to_owned()));
                }
                Step::Heard(Ok(length)) => {
                    let was_up = self.session.is_up();
                    if let Err(end) = self.hear(&mut reader, &chunk[..length]) {
                        return Some(end);
                    }
                    if !was_up && self.session.is_up() {
                        self.said = None;
                        tracing::info!(server = %self.session.server(), "XMPP: connected as {}", self.session.component());
                    }
                }
                Step::Wrote(Ok(length)) => {
                    self.session.wrote(now.instant);
                    for (device, ids) in outbox.wrote(length, now.instant) {
                        self.room.report(device, Event::Taken(ids)).await;
                    }
                }
                Step::Heard(Err(error)) | Step::Wrote(Err(error)) => {
                    return Some(End::Broken(format!("the connection has broken: {error}")));
                }
                Step::Mail(Some(mail)) => self.session.mail(&*self.room.house.directory, mail, now),
                Step::Time => {
                    if outbox.stuck.is_some_and(|since| now.instant >= since + self.room.limits.write) {
                        return Some(End::Broken("the server takes nothing any more".to_owned()));
                    }
                    self.session.on_time(&*self.room.house.directory, now);
                }
            }
        }
    }

    fn hear(&mut self, reader: &mut Reader, mut bytes: &[u8]) -> Result<(), End> {
        let now = self.room.house.clock.moment();
        self.session.stir(now.instant);
        loop {
            match reader.read(&mut bytes) {
                Ok(Some(heard)) => self.session.hear(&*self.room.house.directory, heard, now),
                Ok(None) => return Ok(()),
                Err(error) => return Err(End::Broken(format!("the server sends what is not XML: {error}"))),
            }
        }
    }

    /// Passes on what the session has to report; gives the rest of what it wants done.
    async fn report(&mut self) -> Out {
        let mut out = self.session.take();
        for (device, event) in std::mem::take(&mut out.reports) {
            self.room.report(device, event).await;
        }
        out
    }
}

impl Outbox {
    fn push(&mut self, out: Out, now: Instant) {
        if out.text.is_empty() {
            return;
        }
        self.stuck.get_or_insert(now);
        self.bytes.extend(out.text.as_bytes());
        let end = self.total + self.bytes.len() as u64;
        self.sent.extend(out.sent.into_iter().map(|(device, ids)| (end, device, ids)));
    }

    /// So much was written: says whose pushes have left by that.
    fn wrote(&mut self, length: usize, now: Instant) -> Vec<(DeviceId, Vec<MessageId>)> {
        self.bytes.drain(..length);
        self.total += length as u64;
        self.stuck = (!self.bytes.is_empty()).then_some(now);
        let mut sent = Vec::new();
        while self.sent.front().is_some_and(|(end, ..)| *end <= self.total) {
            sent.extend(self.sent.pop_front().map(|(_, device, ids)| (device, ids)));
        }
        sent
    }
}

fn prepare(stream: &TcpStream, user_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // What the other side does not take within this time it will not take: it is gone, or the way to it is.
    let milliseconds = u32::try_from(user_timeout.as_millis()).unwrap_or(u32::MAX);
    Ok(setsockopt(stream, sockopt::TcpUserTimeout, &milliseconds)?)
}

/// Between half of a pause and all of it, so that two of the same name do not meet for ever.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0; 1];
    let _ = getrandom::fill(&mut byte);
    pause / 2 + pause * u32::from(byte[0]) / 512
}

/// What helps where a server refuses a component.
fn remedy(why: &str, component: &str) -> String {
    if why.starts_with("not-authorized") {
        format!("give {component} the same secret there and in transport.xmpp.secret_file")
    } else if why.starts_with("host-unknown") {
        format!("make {component} a component there, or put its name right in transport.xmpp.component")
    } else if why.starts_with("conflict") {
        format!(
            "another connection is {component}: a second gateway, or this one's last connection (Prosody: component_conflict_resolve = \"kick_old\")"
        )
    } else {
        "connecting again may help".to_owned()
    }
}

fn perform(room: Arc<XmppRoom>, ask: Ask) -> Asking {
    Box::pin(async move {
        let directory = &*room.house.directory;
        match ask {
            Ask::End(device, registration, message) => {
                Answered::Ended(device, message, unregister(directory, device, registration).await)
            }
            Ask::Expire(device, registration) => {
                Answered::Expired(registration, unregister(directory, device, registration).await)
            }
            Ask::Post(posting) => {
                let taken = room.house.post.post(posting.posted.clone()).await.is_ok();
                Answered::Posted(posting, taken)
            }
            Ask::Register(asked) => {
                let registered = register(directory, &asked).await;
                Answered::Registered(asked, registered)
            }
        }
    })
}

/// Ends this registration, and not one that has come in its place.
async fn unregister(
    directory: &dyn Directory,
    device: DeviceId,
    registration: RegistrationId,
) -> Result<(), RegisterRefusal> {
    match directory.app_token(registration) {
        Some(token) => directory.unregister(device, token).await,
        // It has ended already.
        None => Ok(()),
    }
}

/// An account becomes a device with its first registration.
async fn register(directory: &dyn Directory, asked: &Registering) -> Result<RegisteredAs, RegisterRefusal> {
    let Some(Invitation { secret, .. }) = directory.invite() else {
        return Err(RegisterRefusal::InternalError);
    };
    let enrolment = Enrolment {
        // Nobody is told the secret: nobody logs in as this device.
        invitation: Invitation { device: asked.device, secret },
        name: wire::account_name(&asked.from, NAME_MAX),
        source: None,
        transport: NAME,
    };
    directory.enroll(enrolment).await.map_err(|why| match why {
        EnrolRefusal::Full | EnrolRefusal::TooMany => RegisterRefusal::ActionRequired,
        EnrolRefusal::InternalError => RegisterRefusal::InternalError,
    })?;
    directory.register_at(asked.device, asked.request.clone(), asked.address.clone(), asked.most).await
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;

    use super::*;

    /// Without it the kernel sends the last bytes to a server that has gone, again and again, for a quarter of an hour.
    #[tokio::test]
    async fn the_kernel_gives_up_a_server_that_takes_nothing() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        prepare(&stream, Duration::from_secs(60)).expect("set");
        assert_eq!(getsockopt(&stream, sockopt::TcpUserTimeout).expect("asked"), 60_000);
        assert!(stream.nodelay().expect("asked"));
    }
}
