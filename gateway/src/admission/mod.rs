//! Admission: from the request of an application server to a checked push message.
//!
//! Pure: no I/O, no async, and the time is an argument. A [`Checked`] can be made nowhere else, so a
//! message that the gateway queues cannot have skipped a check. What is refused is a [`Refusal`].

mod credential;
mod headers;
mod origin;
mod rate;
mod refusal;
mod vapid;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use self::{origin::Origin, vapid::Verifier};
pub use self::{
    rate::{Meter, Rate, TooMany},
    refusal::Refusal,
};
use crate::model::{Coding, Moment, Registration, Topic, Ttl, Urgency};

/// The largest body, in bytes: 4096 of plain text, encrypted and in base64 (as much as other push
/// services take). RFC 8030 §7.2 forbids to refuse 4096.
pub const MAX_BODY: usize = 5630;

/// Where the public key lies in an `aes128gcm` body (RFC 8188 §2.1, RFC 8291 §4): after salt, record
/// size and the length of the key.
const BODY_KEY_LENGTH_AT: usize = 20;

/// What the owner has decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// What a request without `TTL` gets.
    pub missing_ttl: MissingTtl,
    /// The origin of endpoints, for example `https://push.example.org`.
    pub origin: String,
}

/// What a request without `TTL` gets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MissingTtl {
    /// One day: UnifiedPush senders exist that send none.
    #[default]
    OneDay,
    /// A refusal, as RFC 8030 §5.2 asks.
    Refuse,
}

/// A request to an endpoint, as it came.
#[derive(Clone, Debug)]
pub struct Unchecked<'r> {
    /// All of the body.
    pub body: Bytes,
    /// All of the headers.
    pub headers: &'r HeaderMap,
}

/// A push message in which everything has been checked.
#[derive(Clone, Debug)]
pub struct Checked(Parts);

/// The parts of a [`Checked`] message, for the one who queues it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parts {
    /// Exactly what was sent.
    pub body: Bytes,
    /// Its encryption headers.
    pub coding: Coding,
    /// Where it goes.
    pub registration: Arc<Registration>,
    /// Its name, if a later message may replace it.
    pub topic: Option<Topic>,
    /// What the application server is promised.
    pub ttl: Ttl,
    /// How much it matters.
    pub urgency: Urgency,
}

impl Checked {
    /// Takes the message apart.
    #[must_use]
    pub fn into_parts(self) -> Parts {
        self.0
    }
}

/// Judges requests by one policy.
#[derive(Debug)]
pub struct Admission {
    missing_ttl: MissingTtl,
    verifier: Verifier,
}

impl Admission {
    /// Judges by `policy`.
    #[must_use]
    pub fn new(policy: &Policy) -> Self {
        Self { missing_ttl: policy.missing_ttl, verifier: Verifier::new(Origin::new(&policy.origin)) }
    }

    /// Judges one request as Autopush does: the body is encrypted and says how, and who names himself
    /// must be who he says, also where nobody asks.
    ///
    /// # Errors
    /// As [`admit`](Self::admit).
    pub fn admit_strictly(
        &self,
        request: Unchecked<'_>,
        registration: Arc<Registration>,
        now: Moment,
    ) -> Result<Checked, Refusal> {
        if registration.vapid.is_none() {
            self.verifier.judge_if_sent(request.headers, now)?;
        }
        if !request.body.is_empty() && !headers::is_encrypted(request.headers) {
            // Who it is comes first, here as there.
            if let Some(bound) = &registration.vapid {
                self.verifier.judge(request.headers, bound, now)?;
            }
            return Err(Refusal::EncryptionParameters);
        }
        self.admit(request, registration, now)
    }

    /// Judges one request in the legacy coding `aesgcm` and puts what its headers say before the body, as
    /// the common-proxies gateway does: that is all that the app needs. The headers themselves go no
    /// further, or a transport would write them a second time.
    ///
    /// # Errors
    /// As [`admit`](Self::admit), and [`Refusal::CodingNotLegacy`].
    pub fn admit_aesgcm(
        &self,
        request: Unchecked<'_>,
        registration: Arc<Registration>,
        now: Moment,
    ) -> Result<Checked, Refusal> {
        let is_encrypted = headers::is_encrypted(request.headers);
        let Checked(mut parts) = self.admit(request, registration, now)?;
        let prefix = parts.coding.aesgcm_prefix().filter(|_| is_encrypted).ok_or(Refusal::CodingNotLegacy)?;
        parts.body = [prefix.as_bytes(), &parts.body].concat().into();
        parts.coding = Coding::default();
        Ok(Checked(parts))
    }

    /// Judges a message that a homeserver gave to the Matrix gateway for the endpoint of `registration`.
    /// No header says anything about it, so it waits a day, and is nobody's where a key is asked for.
    ///
    /// # Errors
    /// [`Refusal::BodyTooLarge`] and [`Refusal::VapidAbsent`].
    pub fn admit_notification(
        &self,
        body: Bytes,
        urgency: Urgency,
        topic: Option<Topic>,
        registration: Arc<Registration>,
    ) -> Result<Checked, Refusal> {
        if body.len() > MAX_BODY {
            return Err(Refusal::BodyTooLarge);
        }
        if registration.vapid.is_some() {
            return Err(Refusal::VapidAbsent);
        }
        let (coding, ttl) = (Coding::default(), Ttl::DEFAULT);
        Ok(Checked(Parts { body, coding, registration, topic, ttl, urgency }))
    }

    /// Judges one request to the endpoint of `registration`.
    ///
    /// # Errors
    /// [`Refusal`], with exactly one reason: who it is comes before what it says.
    pub fn admit(
        &self,
        request: Unchecked<'_>,
        registration: Arc<Registration>,
        now: Moment,
    ) -> Result<Checked, Refusal> {
        let Unchecked { body, headers } = request;
        if body.len() > MAX_BODY {
            return Err(Refusal::BodyTooLarge);
        }
        // Without a bound key nobody is asked who they are, and credentials for other systems
        // (a reverse proxy's, for example) do no harm.
        if let Some(bound) = &registration.vapid {
            self.verifier.judge(headers, bound, now)?;
        }
        let coding = headers::coding(headers)?;
        if coding.content_encoding.as_deref() == Some("aes128gcm") {
            if let Some(bound) = &registration.vapid {
                if encryption_key(&body) == Some(bound.as_bytes()) {
                    return Err(Refusal::VapidKeyReused);
                }
            }
        }
        Ok(Checked(Parts {
            ttl: headers::ttl(headers, self.missing_ttl)?,
            topic: headers::topic(headers)?,
            urgency: headers::urgency(headers)?,
            body,
            coding,
            registration,
        }))
    }
}

/// The sender's public key in an `aes128gcm` body, if it has one where RFC 8291 §4 puts it. Plain
/// text that only says that it is encrypted has none.
fn encryption_key(body: &[u8]) -> Option<&[u8]> {
    let (&length, rest) = body.get(BODY_KEY_LENGTH_AT..)?.split_first()?;
    rest.get(..usize::from(length))
}
