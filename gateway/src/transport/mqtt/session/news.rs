//! What the device is told of its registrations without having asked.

use std::{collections::VecDeque, time::Instant};

use super::Session;
use crate::transport::{
    About, News, Tell,
    mqtt::wire::{Answer, ReplyTo},
};

/// What is being told. It yields to pushes and answers, and is not counted among them: there may be more
/// of it than a client that takes no answers is allowed to let pile up.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// Not written yet, in order.
    queue: VecDeque<(About, Tell)>,
    /// About what, and how many messages of it the device has not taken.
    open: Vec<(About, usize)>,
}

impl Session {
    /// The device is to hear these. What is being told already is not told twice.
    pub(in crate::transport::mqtt) fn tell(&mut self, news: Vec<News>, now: Instant) {
        for News { about, tell } in news {
            if self.telling.open.iter().any(|(known, _)| *known == about) {
                continue;
            }
            if tell.is_empty() {
                self.out.told.push(about);
            } else {
                self.telling.open.push((about, tell.len()));
                self.telling.queue.extend(tell.into_iter().map(|tell| (about, tell)));
            }
        }
        self.flush(now);
    }

    /// The next of it.
    pub(super) fn next_news(&mut self) -> Option<(About, Answer)> {
        let (about, tell) = self.telling.queue.pop_front()?;
        let (device, reply) = (self.device, ReplyTo::default());
        let answer = match tell {
            Tell::Endpoint(registered) => {
                let channel = registered.registration.id.to_string();
                let token = registered.registration.token.as_str();
                reply.endpoint(device, token, channel, &registered.endpoint)
            }
            Tell::Unregistered(token) => reply.unregistered(device, token.as_str()),
        };
        Some((about, answer))
    }

    /// No subscription wants it: it stays untold, and is asked for again when one does.
    pub(super) fn news_unheard(&mut self, about: About) {
        self.telling.open.retain(|(known, _)| *known != about);
        self.telling.queue.retain(|(known, _)| *known != about);
    }

    /// The device has taken a message of it.
    pub(super) fn news_taken(&mut self, about: About) {
        let open = &mut self.telling.open;
        let Some(at) = open.iter().position(|(known, _)| *known == about) else { return };
        open[at].1 -= 1;
        if open[at].1 == 0 {
            open.remove(at);
            self.out.told.push(about);
        }
    }
}
