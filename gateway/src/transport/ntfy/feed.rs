//! What one connection is told, in order: `open`, what waited, then what comes.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{mpsc, watch};

use super::{
    NtfyRoom,
    config::CHUNK,
    hub::{Mail, Seat, Written},
    path::{Form, Topic},
    since::Since,
    wire,
};
use crate::{
    model::{DeviceId, MessageId, RegistrationId},
    transport::{Item, Parting, web::Stay},
};

/// A topic that is listened to.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) owner: DeviceId,
    pub(super) registration: RegistrationId,
    pub(super) topic: Topic,
}

/// What to do next.
pub(super) enum Step {
    /// It is over.
    End,
    /// Write this.
    Lines(Vec<String>),
    /// The planner wants the connection to speak.
    Ping,
}

enum Told {
    End,
    Mail(Mail),
    Nothing,
}

/// Resolves when the flag is up.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could say so: then it is so.
    drop(stop.wait_for(|stop| *stop).await);
}

/// One connection's lines.
pub(super) struct Feed {
    /// Held for as long as the connection lasts.
    _alive: mpsc::Sender<std::convert::Infallible>,
    form: Form,
    /// Told to the connection while it was still reading what waited.
    fresh: VecDeque<Arc<Item>>,
    /// Written with the last lines, unless the connection is gone.
    handed: Vec<Written>,
    /// Sorted by registration.
    heard: Vec<Heard>,
    mail: Option<mpsc::Receiver<Mail>>,
    /// As the client wrote them.
    names: Box<str>,
    open: bool,
    replay: VecDeque<MessageId>,
    room: Arc<NtfyRoom>,
    /// Told, or to be told, from what waited.
    seen: HashSet<MessageId>,
    /// `None`: a poll, which ends with what waited.
    seat: Option<Seat>,
    since_s: u64,
    _stay: Stay,
    stop: watch::Receiver<bool>,
}

impl Feed {
    #[expect(clippy::too_many_arguments, reason = "all of it is what a connection consists of")]
    pub(super) fn new(
        room: Arc<NtfyRoom>,
        form: Form,
        names: Box<str>,
        mut heard: Vec<Heard>,
        since: &Since,
        seat: Option<(Seat, mpsc::Receiver<Mail>)>,
        alive: mpsc::Sender<std::convert::Infallible>,
        stay: Stay,
    ) -> Self {
        heard.sort_by_key(|heard| heard.registration);
        heard.dedup_by_key(|heard| heard.registration);
        let stop = room.stop.subscribe();
        let (seat, mail) = seat.unzip();
        let mut feed = Self {
            _alive: alive,
            form,
            fresh: VecDeque::new(),
            handed: Vec::new(),
            heard,
            mail,
            names,
            open: seat.is_some(),
            replay: VecDeque::new(),
            room,
            seen: HashSet::new(),
            seat,
            since_s: 0,
            _stay: stay,
            stop,
        };
        feed.look_back(since);
        feed
    }

    /// Finds what of the past is wanted.
    fn look_back(&mut self, since: &Since) {
        let poll = self.seat.is_none();
        let all: Vec<RegistrationId> = self.heard.iter().map(|heard| heard.registration).collect();
        // Before it has got anything at all, the app says `none`. What waits is new to it then.
        let unread = || {
            let topics = self.heard.iter().filter(|heard| heard.topic.is_unified_push());
            topics.map(|heard| heard.registration).collect()
        };
        let (wanted, after): (Vec<_>, _) = match since {
            Since::None if poll => return,
            Since::None => (unread(), None),
            Since::Id(text) => {
                let next = self.room.history.next();
                (all, self.room.ids.read(text).filter(|id| *id < next))
            }
            Since::Time(seconds) => {
                self.since_s = *seconds;
                (all, None)
            }
            Since::All | Since::Latest => (all, None),
        };
        if wanted.is_empty() {
            return;
        }
        let mut waiting = self.room.history.waiting(&wanted);
        if let Some(after) = after {
            self.acknowledge(after);
            waiting.retain(|id| *id > after);
        }
        if *since == Since::Latest {
            waiting = self.latest(&waiting);
        }
        self.seen = waiting.iter().copied().collect();
        self.replay = waiting.into();
    }

    /// A streaming client that names a message has it, and all before it. Topics that are not an app's
    /// may have other readers: nobody speaks for them.
    fn acknowledge(&self, last: MessageId) {
        if self.seat.is_none() {
            return;
        }
        let owners: HashSet<DeviceId> = self.heard.iter().map(|heard| heard.owner).collect();
        for owner in owners {
            let own = self.heard.iter().filter(|heard| heard.owner == owner && heard.topic.is_unified_push());
            let own: Vec<RegistrationId> = own.map(|heard| heard.registration).collect();
            if !own.is_empty() {
                let ids = self.room.history.waiting(&own).into_iter().filter(|id| *id <= last);
                self.room.hub.acknowledge(owner, ids);
            }
        }
    }

    /// The last message of each topic.
    fn latest(&self, waiting: &[MessageId]) -> Vec<MessageId> {
        let mut found = Vec::new();
        let mut topics = HashSet::new();
        for chunk in waiting.rchunks(CHUNK) {
            for item in self.room.history.read(chunk).into_iter().rev() {
                if topics.insert(item.message.registration) {
                    found.push(item.message.id);
                }
            }
            if topics.len() == self.heard.len() {
                break;
            }
        }
        found.reverse();
        found
    }

    /// What comes next; `pause` is the longest silence, after which a `keepalive` comes.
    pub(super) async fn next(&mut self, pause: Duration) -> Step {
        self.confirm();
        if *self.stop.borrow() {
            return self.end(Parting::Ended);
        }
        if std::mem::take(&mut self.open) {
            return Step::Lines(vec![self.event("open")]);
        }
        while !self.replay.is_empty() {
            self.sort_mail();
            let count = self.replay.len().min(CHUNK);
            let chunk: Vec<MessageId> = self.replay.drain(..count).collect();
            let items = self.room.history.read(&chunk);
            let lines: Vec<String> = items.iter().filter_map(|item| self.line(item)).collect();
            if !lines.is_empty() {
                return Step::Lines(lines);
            }
        }
        while let Some(item) = self.fresh.pop_front() {
            if let Some(line) = self.line(&item) {
                return Step::Lines(vec![line]);
            }
        }
        self.live(pause).await
    }

    async fn live(&mut self, pause: Duration) -> Step {
        let mut sleep = std::pin::pin!(tokio::time::sleep(pause));
        loop {
            let Some(mail) = &mut self.mail else { return Step::End };
            let told = tokio::select! {
                biased;
                () = stopped(&mut self.stop) => Told::End,
                mail = mail.recv() => mail.map_or(Told::End, Told::Mail),
                () = sleep.as_mut() => Told::Nothing,
            };
            match told {
                Told::End => return self.end(Parting::Ended),
                Told::Nothing => return Step::Lines(vec![self.event("keepalive")]),
                Told::Mail(Mail::Ping) => return Step::Ping,
                Told::Mail(Mail::Item(item)) if self.seen.remove(&item.message.id) => {}
                Told::Mail(Mail::Item(item)) => {
                    let mut lines: Vec<String> = self.line(&item).into_iter().collect();
                    // What has come together leaves together: one wake, few segments.
                    self.sort_mail();
                    while let Some(item) = self.fresh.pop_front() {
                        lines.extend(self.line(&item));
                    }
                    if !lines.is_empty() {
                        return Step::Lines(lines);
                    }
                }
            }
        }
    }

    /// Empties the mailbox; what is read from the disk anyway is dropped.
    fn sort_mail(&mut self) {
        let Some(mail) = &mut self.mail else { return };
        while let Ok(mail) = mail.try_recv() {
            match mail {
                Mail::Item(item) if self.seen.contains(&item.message.id) => {}
                Mail::Item(item) => self.fresh.push_back(item),
                Mail::Ping => {}
            }
        }
    }

    fn end(&mut self, parting: Parting) -> Step {
        if let Some(seat) = &mut self.seat {
            seat.parting = parting;
        }
        Step::End
    }

    /// The connection broke: what was handed to it last may not have arrived.
    pub(super) fn lost(&mut self) {
        self.handed.clear();
        self.end(Parting::Lost);
    }

    /// The client has sent something.
    pub(super) fn seat(&self) -> Option<&Seat> {
        self.seat.as_ref()
    }

    /// Whoever asks for the next lines has written the last.
    fn confirm(&mut self) {
        if !self.handed.is_empty() && self.seat.is_some() {
            self.room.hub.written(&self.handed);
        }
        self.handed.clear();
    }

    fn line(&mut self, item: &Item) -> Option<String> {
        let message = &item.message;
        let at = self.heard.binary_search_by_key(&message.registration, |heard| heard.registration).ok()?;
        if message.accepted.0 / 1000 < self.since_s && self.seen.contains(&message.id) {
            return None;
        }
        let heard = &self.heard[at];
        self.handed.push(Written { id: message.id, line: message.device, owner: heard.owner });
        Some(wire::line(self.form, &self.room.ids, heard.topic.as_str(), item))
    }

    /// A line that is no message.
    pub(super) fn event(&self, event: &str) -> String {
        wire::event(self.form, event, &wire::idle_id(), &self.names, self.room.clock.moment().wall)
    }
}
