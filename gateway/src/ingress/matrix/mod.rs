//! The Push Gateway API of Matrix: `POST /_matrix/push/v1/notify`.
//!
//! A homeserver tries again what fails as a whole, for a day, and forgets the pushers that are
//! `rejected`. So a key is rejected only if it is no endpoint any more or can never have been one, and any
//! other trouble with one device is trouble with the request: when it comes again, the devices that have
//! had the event are left out.

mod notification;
mod recent;
mod wire;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Uri;
use hyper::body::Body;

use self::notification::Notification;
pub(super) use self::{recent::Recent, wire::into_response};
use super::{answer::Answer, desk::Desk, named::Named, queue::Queue};
use crate::{model::Registration, store::Lookup};

impl<Q: Queue> Desk<Q> {
    /// Gives the notification, as it is, to each device that it names.
    pub(super) async fn notify<B>(&self, body: &mut B) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        match self.notify_all(body).await {
            Ok(rejected) => Answer::Notified { rejected },
            Err(answer) => {
                tracing::debug!(status = %answer.status(), reason = ?answer, "no notification");
                answer
            }
        }
    }

    async fn notify_all<B>(&self, body: &mut B) -> Result<Vec<String>, Answer>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let body = self.read(body).await.map_err(|answer| self.refuse(answer))?;
        let notification = Notification::read(&body)
            .map_err(|malformed| self.refuse(Answer::NotificationMalformed(malformed.expected)))?;
        let (mut addressees, mut rejected) = (Vec::<Arc<Registration>>::new(), Vec::new());
        for key in &notification.pushkeys {
            match self.addressee(key)? {
                None => rejected.push(key.clone()),
                Some(addressee) if addressees.iter().any(|other| other.id == addressee.id) => {}
                Some(addressee) => addressees.push(addressee),
            }
        }
        // All at once, so that one write to the disk makes them all safe.
        let notified =
            addressees.into_iter().map(|addressee| self.notify_one(&notification, &body, addressee));
        let troubles = join_all(notified).await.into_iter().filter_map(Result::err);
        // What passes is said first: until it has passed, the rest does not matter.
        match troubles.max_by_key(Answer::retry_after) {
            None => Ok(rejected),
            Some(trouble) => Err(trouble),
        }
    }

    /// Whose key it is; nobody's, if it is to be rejected.
    fn addressee(&self, pushkey: &str) -> Result<Option<Arc<Registration>>, Answer> {
        match Named::read(pushkey, &self.base) {
            Named::Endpoint { token, .. } => Ok(match self.queue.lookup(&token) {
                Lookup::Live(registration) => Some(registration),
                Lookup::Gone | Lookup::Unknown => None,
            }),
            Named::Here => self.subscriber(pushkey),
            Named::Elsewhere | Named::Nothing => Ok(None),
        }
    }

    /// Whose topic of ntfy's it is. One that nobody has subscribed to yet may have a subscriber soon.
    fn subscriber(&self, pushkey: &str) -> Result<Option<Arc<Registration>>, Answer> {
        let uri = pushkey.parse::<Uri>().ok();
        let topic = self.topics.as_ref().zip(uri).and_then(|(room, uri)| room.topic_at(uri.path()));
        match topic.map(|endpoint| self.queue.lookup(&endpoint)) {
            Some(Lookup::Gone) => Ok(None),
            Some(Lookup::Live(registration))
                if self.topics.as_ref().is_some_and(|room| !room.is_awaited(&registration)) =>
            {
                Ok(Some(registration))
            }
            Some(Lookup::Live(_) | Lookup::Unknown) | None => Err(self.refuse(Answer::PushkeyUnserved)),
        }
    }

    async fn notify_one(
        &self,
        notification: &Notification,
        body: &Bytes,
        addressee: Arc<Registration>,
    ) -> Result<(), Answer> {
        let (id, now) = (addressee.id, self.clock.moment().instant);
        let event = notification.event_id.as_deref();
        if event.is_some_and(|event| self.notified.knows(id, event, now)) {
            return Ok(());
        }
        if let Err(too_many) = self.meter.charge(id, now) {
            self.telemetry.limited(id);
            return Err(self.refuse(Answer::Limited(too_many)));
        }
        let Notification { topic, urgency, .. } = notification;
        let checked = self
            .admission
            .admit_notification(body.clone(), *urgency, topic.clone(), addressee)
            .map_err(|refusal| self.refuse(Answer::Refused(refusal)))?;
        let answer = self.store(checked).await;
        if !matches!(answer, Answer::Stored { .. }) {
            return Err(answer);
        }
        // Only what is safe is known: a second request must not be told so because of the first.
        if let Some(event) = event {
            self.notified.remember(id, event, now);
        }
        Ok(())
    }
}
