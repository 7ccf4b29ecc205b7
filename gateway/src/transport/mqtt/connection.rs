//! One connection's task: the shell around a [`Session`] that reads, writes, waits and reports.

use std::{
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
};

use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::{Sleep, sleep_until, timeout},
};

use super::{
    MqttRoom,
    io::{self, Allowance},
    router::Link,
    seat::{Ending, Mail, Occupant, Seat},
    session::{Admission, Admitted, Answered, Ask, Session},
};
use crate::{
    model::{DeviceId, MessageId, NetworkName, Session as Durable},
    transport::{Directory, Event, Joined, Parting, Pulse, Report, Turned},
};

/// Bytes read at once: what devices send is short, and this is held by every idle connection.
const READ: usize = 1024;

type Asking = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// Serves a connection from its first byte to its last. `stream` is ready after the TLS handshake.
pub(super) async fn serve<S>(
    room: &Arc<MqttRoom>,
    source: IpAddr,
    allowance: Allowance,
    stream: impl Future<Output = std::io::Result<S>>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let now = room.clock.moment().instant;
    let session = Box::new(Session::new(source, room.max_keep_alive_s, room.limits.unacked, now));
    let greeting = room.greetings.begin(source);
    let greeted = async {
        let mut connection =
            Connection { buffer: Box::new([0; READ]), room, session, stream: stream.await.ok()? };
        let admission = connection.greet().await?;
        Some((connection, admission))
    };
    let greeted = tokio::select! {
        greeted = timeout(room.limits.greeting, Box::pin(greeted)) => greeted.ok().flatten(),
        () = greeting.ended() => None,
    };
    drop(greeting);
    allowance.lift();
    if let Some((connection, (admission, expulsions))) = greeted {
        connection.seated(admission, expulsions).await;
    }
}

struct Connection<'a, S> {
    buffer: Box<[u8; READ]>,
    room: &'a Arc<MqttRoom>,
    /// Not within the task, which would hold a place for it at each step of its way.
    session: Box<Session>,
    stream: S,
}

/// A seat with its link. Dropping it gives both up, in this order.
struct Place {
    link: Option<Link>,
    room: Arc<MqttRoom>,
    seat: Arc<Seat>,
}

impl Place {
    /// Gives the seat up in good order.
    async fn leave(self, parting: Parting) {
        if self.seat.set_joined(false) {
            self.room.report(self.seat.device, Event::Left(parting)).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The link first: the next connection's link is to be built after this one has been left.
        self.link = None;
        if self.seat.set_joined(false) {
            // Only when the task has panicked. A full channel cannot be waited for here.
            let at = self.room.clock.moment().instant;
            let left = Report { at, device: self.seat.device, event: Event::Left(Parting::Ended) };
            if self.room.reports.try_send(left).is_err() {
                tracing::error!(device = %self.seat.device, "that a device has left could not be reported");
            }
        }
        self.room.seats.leave(&self.seat);
    }
}

/// How a connection came to its end: whether its stream is at the end of a packet, so that last words
/// make sense, and whose doing it was where the house has not ended it.
enum Over {
    Broken(Parting),
    Intact(Parting),
}

/// What woke the task.
enum Step {
    Answered(Answered),
    End,
    Mail(Option<Mail>),
    Read(std::io::Result<usize>),
    Ticket(Vec<MessageId>),
    Time,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// Up to a good CONNECT. Comes with how many devices had been put out when the login was judged:
    /// one that is put out between its login and its seat would otherwise be overlooked.
    async fn greet(&mut self) -> Option<(Admission, u64)> {
        loop {
            let read = self.stream.read(&mut self.buffer[..]).await.ok().filter(|&read| read > 0)?;
            let expulsions = self.room.expulsions.load(Ordering::SeqCst);
            let now = self.room.clock.moment().instant;
            self.session.receive(&*self.room.directory, &self.buffer[..read], now);
            let out = self.session.take();
            if !out.bytes.is_empty() {
                self.stream.write_all(&out.bytes).await.ok()?;
                self.stream.flush().await.ok()?;
            }
            if out.close {
                self.hang_up().await;
                return None;
            }
            if let Some(admission) = self.session.admission() {
                return Some((admission, expulsions));
            }
        }
    }

    /// From the login to the end.
    async fn seated(mut self, admission: Admission, expulsions: u64) {
        let device = admission.device;
        let room = Arc::clone(self.room);
        let taken = room.seats.take(device, self.session.window(), admission.maximum_packet_size);
        let Ok((seat, mut occupant)) = timeout(room.limits.write, taken).await else {
            tracing::error!(%device, "an earlier connection does not leave");
            return self.turn_away().await;
        };
        let mut place = Place { link: None, room: Arc::clone(&room), seat };
        let admitted = async {
            let link = room.post.link(device).await.ok()?;
            if room.expulsions.load(Ordering::SeqCst) != expulsions {
                return None;
            }
            Some((link, restore(&room, &admission).await?))
        };
        let Some((link, admitted)) = admitted.await else {
            place.leave(Parting::Ended).await;
            return self.turn_away().await;
        };
        let link = place.link.insert(link);
        let now = room.clock.moment().instant;
        self.session.admit(&*room.directory, &admission, admitted, now);
        let (intact, gone) = match self.run(&place.seat, link, &mut occupant).await {
            Over::Intact(parting) => (true, parting),
            Over::Broken(parting) => (false, parting),
        };
        let ending = *occupant.ending.borrow();
        if let Some(why) = ending {
            self.session.goodbye(match why {
                Ending::Expelled => DisconnectReasonCode::AdministrativeAction,
                Ending::Stopping => DisconnectReasonCode::ServerShuttingDown,
                Ending::TakenOver => DisconnectReasonCode::SessionTakenOver,
            });
        }
        let last_words = self.session.take().bytes;
        let Self { session, mut stream, .. } = self;
        let leftover = session.finish();
        if ending != Some(Ending::Expelled) {
            room.seats.remember(device, leftover.packet_ids);
        }
        if let Some(state) = leftover.will {
            room.report(device, Event::State(state)).await;
            if let Some(floor) = state.urgency {
                // Nobody is there to be told when that fails.
                let _ = room.directory.save_floor(device, floor).await;
            }
        }
        if leftover.forget && room.directory.save_session(device, None).await.is_err() {
            tracing::warn!(%device, "an ended session could not be forgotten");
        }
        // The seat first, then the last words: nobody waits for a peer that does not read.
        place
            .leave(match ending {
                // It had given this connection up without a word: for it, the network has lost it.
                Some(Ending::TakenOver) => Parting::Lost,
                Some(Ending::Expelled | Ending::Stopping) => Parting::Ended,
                None => gone,
            })
            .await;
        if intact && !last_words.is_empty() {
            let _ = timeout(room.limits.farewell, stream.write_all(&last_words)).await;
        }
        io::hang_up(&mut stream, room.limits.farewell).await;
    }

    async fn turn_away(mut self) {
        self.session.turn_away();
        let out = self.session.take();
        let _ = timeout(self.room.limits.farewell, self.stream.write_all(&out.bytes)).await;
        self.hang_up().await;
    }

    async fn hang_up(&mut self) {
        io::hang_up(&mut self.stream, self.room.limits.farewell).await;
    }

    async fn run(&mut self, seat: &Seat, link: &mut Link, occupant: &mut Occupant) -> Over {
        let room = Arc::clone(self.room);
        let directory = &*room.directory;
        let mut asking: Option<Asking> = None;
        let mut timer = Box::pin(sleep_until(self.due()));
        let mut armed = self.session.deadline();
        loop {
            if let Err(over) = self.flush(seat, occupant).await {
                return over;
            }
            if asking.is_none() {
                asking = self.session.ask().map(|ask| ask_house(&room, self.session.device(), ask));
            }
            let due = self.session.deadline();
            // Deadlines mostly move away, with every packet: only an earlier one is worth a new timer.
            if due < armed {
                armed = due;
                timer.as_mut().reset(self.due());
            }
            let step = self.step(link, occupant, &mut asking, timer.as_mut()).await;
            let now = room.clock.moment().instant;
            match step {
                None => return Over::Intact(Parting::Ended),
                Some(Step::Answered(answered)) => self.session.answered(directory, answered, now),
                Some(Step::End | Step::Mail(None)) => return Over::Intact(Parting::Ended),
                Some(Step::Mail(Some(Mail::TooLarge(ids)))) => {
                    room.report(seat.device, Event::Turned(ids, Turned::TooLarge)).await;
                }
                Some(Step::Mail(Some(Mail::Plan(plan)))) => self.session.plan(plan, now),
                Some(Step::Mail(Some(Mail::News))) => {
                    self.session.tell(directory.news(seat.device), now);
                }
                Some(Step::Read(Ok(0))) => return Over::Broken(Parting::Closed),
                // TLS or WebSocket without its own good-bye; many clients leave that out.
                Some(Step::Read(Err(error))) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Over::Broken(Parting::Closed);
                }
                // What lies around MQTT is broken: the gateway ends it.
                Some(Step::Read(Err(error))) if error.kind() == std::io::ErrorKind::InvalidData => {
                    return Over::Broken(Parting::Ended);
                }
                // A reset: nobody that says good-bye sends one.
                Some(Step::Read(Err(_))) => return Over::Broken(Parting::Lost),
                Some(Step::Read(Ok(read))) => self.session.receive(directory, &self.buffer[..read], now),
                Some(Step::Ticket(ids)) => self.session.deliver(seat.collect(ids.into_iter()), now),
                Some(Step::Time) => {
                    self.session.on_time(now);
                    armed = self.session.deadline();
                    timer.as_mut().reset(self.due());
                }
            }
        }
    }

    /// `None` when the router has died.
    async fn step(
        &mut self,
        link: &mut Link,
        occupant: &mut Occupant,
        asking: &mut Option<Asking>,
        timer: Pin<&mut Sleep>,
    ) -> Option<Step> {
        let answer = async {
            match asking {
                Some(future) => future.await,
                None => std::future::pending().await,
            }
        };
        let step = tokio::select! {
            biased;
            _ = occupant.ending.changed() => Step::End,
            ticket = link.next() => Step::Ticket(ticket.ok()?),
            answered = answer => Step::Answered(answered),
            mail = occupant.mail.recv() => Step::Mail(mail),
            read = self.stream.read(&mut self.buffer[..]), if self.session.hungry() => Step::Read(read),
            () = timer => Step::Time,
        };
        if matches!(step, Step::Answered(_)) {
            *asking = None;
        }
        Some(step)
    }

    /// The session's next deadline, as the timer wants it.
    fn due(&self) -> tokio::time::Instant {
        let idle = || self.room.clock.moment().instant + self.room.limits.unacked;
        self.session.deadline().unwrap_or_else(idle).into()
    }

    /// Does what the session wants done. `Err` when the connection is to end.
    async fn flush(&mut self, seat: &Seat, occupant: &mut Occupant) -> Result<(), Over> {
        let out = self.session.take();
        let (room, device) = (self.room, seat.device);
        if !out.acked.is_empty() {
            seat.settle(&out.acked);
            room.report(device, Event::Acked(out.acked)).await;
        } else if out.stirred {
            room.report(device, Event::Stirred).await;
        }
        if out.obeys {
            room.report(device, Event::Pulse(Pulse::Device(self.session.keep_alive()))).await;
        }
        if !out.told.is_empty() {
            room.directory.told(device, &out.told);
        }
        for state in out.states {
            room.report(device, Event::State(state)).await;
        }
        if out.joined == Some(false) && seat.set_joined(false) {
            room.report(device, Event::Left(Parting::Closed)).await;
        }
        if !out.bytes.is_empty() && !self.write(&out.bytes, occupant).await {
            return Err(Over::Broken(Parting::Lost));
        }
        if out.joined == Some(true) {
            // Whatever was in flight before is to be handed over again.
            seat.set_joined(false);
            seat.set_joined(true);
            let joined = Joined {
                heard: true,
                network: NetworkName::of(self.session.source()),
                pulse: Pulse::Device(self.session.keep_alive()),
                window: seat.window(),
            };
            room.report(device, Event::Joined(joined)).await;
            seat.tell(Mail::News);
        }
        if !out.sent.is_empty() {
            room.report(device, Event::Taken(out.sent)).await;
        }
        if !out.settled.is_empty() {
            seat.settle(&out.settled);
            room.report(device, Event::Acked(out.settled)).await;
        }
        for (ids, why) in [(out.absent, Turned::Absent), (out.too_large, Turned::TooLarge)] {
            if !ids.is_empty() {
                seat.settle(&ids);
                room.report(device, Event::Turned(ids, why)).await;
            }
        }
        if out.close { Err(Over::Intact(self.session.parting())) } else { Ok(()) }
    }

    /// Whether all of it was written, in time and before the connection was to end.
    async fn write(&mut self, bytes: &[u8], occupant: &mut Occupant) -> bool {
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        tokio::select! {
            biased;
            written = timeout(self.room.limits.write, writing) => matches!(written, Ok(Ok(()))),
            _ = occupant.ending.changed() => false,
        }
    }
}

/// What the house knows of the device's session; `None` when it cannot say or write.
async fn restore(room: &MqttRoom, admission: &Admission) -> Option<Admitted> {
    let device = admission.device;
    let stored = room.directory.session(device);
    if admission.clean {
        room.seats.remember(device, Vec::new());
        let fresh = admission.durable.then(Durable::default);
        if stored != fresh {
            room.directory.save_session(device, fresh).await.ok()?;
        }
        return Some(Admitted::default());
    }
    let Some(session) = stored else {
        room.directory.save_session(device, Some(Durable::default())).await.ok()?;
        return Some(Admitted::default());
    };
    Some(Admitted { filters: session.filters, packet_ids: room.seats.recall(device), present: true })
}

fn ask_house(room: &MqttRoom, device: DeviceId, ask: Ask) -> Asking {
    let directory: Arc<dyn Directory> = Arc::clone(&room.directory);
    Box::pin(async move {
        match ask {
            Ask::Floor(floor) => Answered::Done(directory.save_floor(device, floor).await),
            Ask::Register(request) => Answered::Registered(directory.register(device, request).await),
            Ask::Save(session) => Answered::Done(directory.save_session(device, Some(session)).await),
            Ask::Unregister(token) => Answered::Done(directory.unregister(device, token).await),
        }
    })
}
