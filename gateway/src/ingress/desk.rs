//! Serves requests: finds the endpoint, asks admission, gives the message to the store and waits
//! until it is safe.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, request};
use hyper::body::Body;
use tokio::time::timeout;

use super::{
    Limits,
    answer::Answer,
    body::{self, Unread},
    matrix::Recent,
    named::Named,
    queue::Queue,
    route::Route,
};
use crate::{
    admission::{Admission, Checked, MAX_BODY, Meter, Parts, Refusal, Unchecked},
    clock::SharedClock,
    model::{EndpointToken, MessageId, MessageToken, Moment, Phase, Registration, Ttl},
    store::{Lookup, NewPush, NotStored},
    telemetry::Telemetry,
    transport::ntfy::NtfyRoom,
};

/// How strictly a request is judged.
type Admit = fn(&Admission, Unchecked<'_>, Arc<Registration>, Moment) -> Result<Checked, Refusal>;

/// What every connection shares.
#[derive(Debug)]
pub(super) struct Desk<Q> {
    pub(super) admission: Admission,
    /// The origin of endpoints and messages, without a slash at its end.
    pub(super) base: String,
    pub(super) clock: SharedClock,
    pub(super) limits: Limits,
    pub(super) meter: Meter,
    /// What homeservers have said already.
    pub(super) notified: Recent,
    /// For ntfy's dialect, in which nobody says how long a message may wait.
    pub(super) ntfy: Admission,
    pub(super) queue: Q,
    pub(super) telemetry: Arc<Telemetry>,
    /// Whose topics are endpoints too.
    pub(super) topics: Option<Arc<NtfyRoom>>,
}

impl<Q: Queue> Desk<Q> {
    /// Serves one request; reads its body only if it is wanted.
    pub(super) async fn serve<B>(&self, head: &request::Parts, body: &mut B) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        match Route::find(&head.method, head.uri.path()) {
            Route::About => Answer::About,
            Route::Aesgcm => match self.named_endpoint(head.uri.query()) {
                Ok(registration) => {
                    self.push(registration, &head.headers, body, Admission::admit_aesgcm).await
                }
                Err(answer) => answer,
            },
            Route::AesgcmDiscovery => Answer::Gateway(r#"{"unifiedpush":{"gateway":"aesgcm"}}"#),
            Route::Cancel(token) => self.cancel(&token).await,
            Route::Discover(endpoint) => match self.endpoint(&endpoint) {
                Ok(_) => Answer::Endpoint,
                Err(answer) => answer,
            },
            Route::Health => Answer::Healthy,
            Route::MatrixDiscovery => Answer::Gateway(r#"{"unifiedpush":{"gateway":"matrix"}}"#),
            Route::MatrixUnknown => Answer::PathUnknown,
            Route::Method(methods) => Answer::MethodUnknown(methods),
            Route::Notify => self.notify(body).await,
            Route::Preflight(methods) => Answer::Preflight(methods),
            Route::Push(endpoint) => match self.endpoint(&endpoint) {
                Ok(registration) => self.push(registration, &head.headers, body, Admission::admit).await,
                Err(answer) => answer,
            },
            Route::Unknown => Answer::PathUnknown,
            Route::WebPush(endpoint) => match self.endpoint(&endpoint) {
                Ok(registration) => {
                    self.push(registration, &head.headers, body, Admission::admit_strictly).await
                }
                Err(answer) => answer,
            },
            Route::WebPushUnknown => Answer::EndpointUnknown,
        }
    }

    /// The registration that owns an endpoint, or what to say to one who thinks that there is one.
    /// Comes before the body: a stranger who guesses endpoints costs no memory.
    fn endpoint(&self, endpoint: &EndpointToken) -> Result<Arc<Registration>, Answer> {
        match self.queue.lookup(endpoint) {
            Lookup::Gone => Err(Answer::EndpointGone),
            Lookup::Live(registration) => Ok(registration),
            Lookup::Unknown => Err(Answer::EndpointUnknown),
        }
    }

    /// The registration whose endpoint the query names as `e`, as in `endpoint`.
    fn named_endpoint(&self, query: Option<&str>) -> Result<Arc<Registration>, Answer> {
        match Named::in_query(query.unwrap_or_default(), &self.base) {
            Named::Endpoint { is_here: true, token } => self.endpoint(&token),
            Named::Endpoint { is_here: false, .. } | Named::Elsewhere => Err(Answer::EndpointNotOurs),
            Named::Here | Named::Nothing => Err(Answer::EndpointMissing),
        }
    }

    async fn push<B>(
        &self,
        registration: Arc<Registration>,
        headers: &HeaderMap,
        body: &mut B,
        admit: Admit,
    ) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let id = registration.id;
        // Before the body and its signature: what is too much is to cost nothing.
        if let Err(too_many) = self.meter.charge(id, self.clock.moment().instant) {
            self.telemetry.limited(id);
            return self.refuse(Answer::Limited(too_many));
        }
        let answer = match self.check(registration, headers, body, admit).await {
            Ok(checked) => self.store(checked).await,
            Err(answer) => self.refuse(answer),
        };
        if !matches!(answer, Answer::Stored { .. }) {
            tracing::debug!(registration = %id, status = %answer.status(), reason = ?answer, "no push message");
        }
        answer
    }

    /// Reads the body and asks admission.
    async fn check<B>(
        &self,
        registration: Arc<Registration>,
        headers: &HeaderMap,
        body: &mut B,
        admit: Admit,
    ) -> Result<Checked, Answer>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let request = Unchecked { body: self.read(body).await?, headers };
        admit(&self.admission, request, registration, self.clock.moment()).map_err(Answer::Refused)
    }

    /// Reads the body.
    pub(super) async fn read<B>(&self, body: &mut B) -> Result<Bytes, Answer>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        body::read(body, MAX_BODY, self.limits.body).await.map_err(|unread| match unread {
            Unread::Broken => Answer::BodyBroken,
            Unread::TooLarge => Answer::Refused(Refusal::BodyTooLarge),
            Unread::TooSlow => Answer::BodyTooSlow,
        })
    }

    /// Queues a message and waits until it is safe.
    pub(super) async fn store(&self, checked: Checked) -> Answer {
        let parts = checked.into_parts();
        let ttl = parts.ttl;
        match self.keep(parts).await {
            Ok((_, token)) => Answer::Stored { location: format!("{}/m/{token}", self.base), ttl },
            Err(answer) => answer,
        }
    }

    /// Queues what was checked and waits until it is safe.
    pub(super) async fn keep(&self, parts: Parts) -> Result<(MessageId, MessageToken), Answer> {
        let Parts { body, coding, registration, topic, ttl, urgency } = parts;
        let registration_id = registration.id;
        let push = NewPush { body, coding, registration, topic, ttl, urgency };
        let (id, token, commit) = match self.queue.append(push, self.clock.moment()) {
            Ok(appended) => appended,
            Err(error) => {
                if error == NotStored::Full {
                    self.telemetry.limited(registration_id);
                }
                return Err(self.refuse(Answer::NotStored(error)));
            }
        };
        self.telemetry.count(Phase::Accepted, 1);
        self.committed(commit).await?;
        if ttl != Ttl::ZERO {
            self.telemetry.count(Phase::Stored, 1);
        }
        Ok((id, token))
    }

    /// Counts a message that was never accepted.
    pub(super) fn refuse(&self, answer: Answer) -> Answer {
        self.telemetry.count(Phase::Refused, 1);
        answer
    }

    /// Takes a message back (RFC 8030 §5: `DELETE` of its resource).
    async fn cancel(&self, token: &MessageToken) -> Answer {
        let commit = match self.queue.cancel(token) {
            Ok(Some(commit)) => commit,
            Ok(None) => return Answer::MessageUnknown,
            Err(error) => return Answer::NotStored(error),
        };
        match self.committed(commit).await {
            Ok(()) => {
                self.telemetry.count(Phase::Cancelled, 1);
                Answer::Cancelled
            }
            Err(answer) => answer,
        }
    }

    /// Waits for the disk, not for ever: a write that is confirmed later is at worst one message twice.
    async fn committed(&self, commit: impl Future<Output = Result<(), NotStored>>) -> Result<(), Answer> {
        match timeout(self.limits.commit, commit).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Answer::NotStored(error)),
            Err(_) => Err(Answer::CommitTooSlow),
        }
    }
}
