//! One connection: carries between the socket, the session and the house.

use std::{net::IpAddr, pin::Pin, sync::Arc};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    sync::{mpsc, watch},
    time::{Sleep, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use super::{
    AutopushRoom,
    config::WINDOW,
    seat::{Mail, Seat, Seats},
    session::{Access, Answered, Ask, Session},
};
use crate::{
    model::{AppToken, DeviceId, NetworkName},
    transport::{Directory, Event, Joined, Parting, RegisterRefusal, Turned, web::WebSocket},
};

type Asking = Pin<Box<dyn Future<Output = Answered> + Send>>;
type Occupied = (Arc<Seat>, mpsc::UnboundedReceiver<Mail>);

/// What happens next.
enum Step {
    Answered(Answered),
    Heard(Message),
    Mail(Option<Mail>),
    Over(Parting),
    Stopped,
    Time,
}

/// One client's connection.
struct Connection {
    asking: Option<Asking>,
    occupied: Option<Occupied>,
    parting: Parting,
    room: Arc<AutopushRoom>,
    session: Session,
    socket: WebSocket,
}

/// Serves a client to the end of its connection, and drops that without a Close frame.
pub(super) async fn serve(
    room: Arc<AutopushRoom>,
    socket: WebSocket,
    access: Access,
    source: IpAddr,
    stop: watch::Receiver<bool>,
) {
    let now = room.clock.moment().instant;
    let session = Session::new(access, source, room.base.clone(), room.limits, now);
    let mut connection =
        Connection { asking: None, occupied: None, parting: Parting::Ended, room, session, socket };
    // Boxed, so that a connection that waits in silence costs what the waiting needs.
    Box::pin(connection.run(stop)).await;
    let Connection { occupied, parting, room, .. } = connection;
    if let Some((seat, _)) = occupied {
        room.seats.close(&seat);
        room.report(seat.device, Event::Left(parting)).await;
        Seats::leave(&seat);
    }
}

impl Connection {
    async fn run(&mut self, mut stop: watch::Receiver<bool>) {
        let mut timer = Box::pin(sleep_until(self.due()));
        let mut armed = self.session.deadline();
        loop {
            if !self.flush().await {
                return;
            }
            if let (None, Some((device, ask))) = (&self.asking, self.session.next_ask()) {
                self.asking = Some(ask_house(Arc::clone(&self.room.directory), device, ask));
            }
            // Deadlines mostly move away: only another one is worth a new timer.
            let due = self.session.deadline();
            if due != armed {
                armed = due;
                timer.as_mut().reset(self.due());
            }
            let step = self.step(timer.as_mut(), due.is_some(), &mut stop).await;
            let now = self.room.clock.moment().instant;
            match step {
                Step::Answered(answered) => {
                    self.asking = None;
                    self.session.answered(answered);
                }
                Step::Heard(message) => self.hear(message),
                Step::Mail(Some(Mail::Deliver(items))) => {
                    self.session.deliver(&*self.room.directory, items, now);
                }
                Step::Mail(Some(Mail::Ping)) => self.session.ping(now),
                Step::Mail(Some(Mail::Unregistered(token))) => self.session.unregistered(token.as_str(), 200),
                Step::Mail(Some(Mail::End) | None) | Step::Stopped => return,
                // Had the client ended this one, the seat would have been free.
                Step::Mail(Some(Mail::TakenOver)) => return self.parting = Parting::Lost,
                Step::Over(parting) => return self.parting = parting,
                Step::Time => self.session.on_time(now),
            }
        }
    }

    async fn step(&mut self, timer: Pin<&mut Sleep>, timed: bool, stop: &mut watch::Receiver<bool>) -> Step {
        let answered = async {
            match &mut self.asking {
                Some(asking) => asking.await,
                None => std::future::pending().await,
            }
        };
        let mail = async {
            match &mut self.occupied {
                Some((_, mailbox)) => mailbox.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Step::Stopped,
            answered = answered => Step::Answered(answered),
            mail = mail => Step::Mail(mail),
            heard = self.socket.next(), if self.session.hungry() => match heard {
                Some(Ok(message)) => Step::Heard(message),
                Some(Err(Error::Io(_))) => Step::Over(Parting::Lost),
                // An error is an end, whatever the client did to cause it.
                Some(Err(_)) | None => Step::Over(Parting::Closed),
            },
            () = timer, if timed => Step::Time,
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Text(text) => self.session.receive(&*self.room.directory, text.as_str()),
            Message::Ping(_) => self.session.pinged(self.room.clock.moment().instant),
            Message::Pong(_) => self.session.ponged(),
            Message::Close(_) => {
                self.parting = Parting::Closed;
                self.session.close();
            }
            // The protocol is text (RFC 6455 §7.4.1: 1003 would be the word, if there were one).
            Message::Binary(_) | Message::Frame(_) => self.session.close(),
        }
    }

    /// The session's next deadline, as the timer wants it; any time will do where there is none.
    fn due(&self) -> tokio::time::Instant {
        self.session.deadline().unwrap_or_else(|| self.room.clock.moment().instant).into()
    }

    /// Does what the session wants done; `false` when the connection is to end.
    async fn flush(&mut self) -> bool {
        let out = self.session.take();
        if let Some(device) = out.seat {
            self.occupied = Some(self.room.seats.take(device).await);
        }
        // What is acknowledged leaves the window before anything else can fail.
        if let Some((seat, _)) = &self.occupied {
            let (device, room) = (seat.device, &self.room);
            for ids in [&out.acked, &out.parked] {
                seat.settle(ids);
            }
            if !out.acked.is_empty() {
                room.report(device, Event::Acked(out.acked)).await;
            } else if out.stirred && out.seat.is_none() {
                room.report(device, Event::Stirred).await;
            }
            for state in out.states {
                room.report(device, Event::State(state)).await;
            }
            if !out.parked.is_empty() {
                room.report(device, Event::Turned(out.parked, Turned::Parked)).await;
            }
        }
        if !self.write(out.texts, out.ping).await {
            self.parting = Parting::Lost;
            return false;
        }
        if let Some((seat, _)) = &self.occupied {
            let (device, room) = (seat.device, &self.room);
            if out.seat.is_some() {
                let network = NetworkName::of(self.session.source());
                let joined = Joined { heard: true, network, pulse: self.session.pulse(), window: WINDOW };
                room.report(device, Event::Joined(joined)).await;
            }
            if let Some(pulse) = out.pulse {
                room.report(device, Event::Pulse(pulse)).await;
            }
            if !out.sent.is_empty() {
                room.report(device, Event::Taken(out.sent)).await;
            }
        }
        if out.lost {
            self.parting = Parting::Lost;
        }
        !out.close
    }

    /// Whether all of it was written, in time.
    async fn write(&mut self, texts: Vec<String>, ping: bool) -> bool {
        let writing = async {
            for text in texts {
                self.socket.feed(Message::text(text)).await?;
            }
            if ping {
                self.socket.feed(Message::Ping(Bytes::new())).await?;
            }
            // Also what the library owes: a pong, for example.
            self.socket.flush().await
        };
        matches!(timeout(self.room.limits.write, writing).await, Ok(Ok(())))
    }
}

fn ask_house(directory: Arc<dyn Directory>, device: Option<DeviceId>, ask: Ask) -> Asking {
    Box::pin(async move {
        match (ask, device) {
            (Ask::Enroll(_), Some(_)) => Answered::Enrolled(Ok(())),
            (Ask::Enroll(enrolment), None) => Answered::Enrolled(directory.enroll(enrolment).await),
            (Ask::Floor(floor), Some(device)) => Answered::Floor(directory.save_floor(device, floor).await),
            // Nobody who is not a device is sent anything.
            (Ask::Floor(_), None) => Answered::Floor(Ok(())),
            (Ask::Register(request), Some(device)) => {
                let token: AppToken = request.token.clone();
                Answered::Registered(token, directory.register(device, request).await)
            }
            (Ask::Register(request), None) => {
                Answered::Registered(request.token, Err(RegisterRefusal::ActionRequired))
            }
            (Ask::Unregister(token), Some(device)) => {
                let outcome = directory.unregister(device, token.clone()).await;
                Answered::Unregistered(token, outcome)
            }
            // Nobody who is not a device has a registration that could be left.
            (Ask::Unregister(token), None) => Answered::Unregistered(token, Ok(())),
        }
    })
}
