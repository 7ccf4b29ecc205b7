//! Who may what: logins, topics and whose they become.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use futures_util::future::try_join_all;
use http::{
    HeaderMap, Uri,
    header::{AUTHORIZATION, ORIGIN},
};
use ring::hmac;

use super::{
    Failure, NAME, NtfyRoom,
    config::{AWAITED_MAX, AWAITED_MESSAGES, SOURCE_WINDOW, SOURCES_MAX},
    feed::Heard,
    path::{Topic, query},
};
use crate::{
    config::AnonymousPublish,
    model::{DeviceId, EndpointToken, NetworkName, PathToken, Registration},
    transport::{
        Claim, EnrolRefusal, Enrolment, Login, RegisterRefusal,
        web::{Audience, Visitor},
    },
};

/// Counts the topics that each source has made up of late.
#[derive(Debug, Default)]
pub(super) struct Newcomers(Mutex<HashMap<NetworkName, (Instant, usize)>>);

impl Newcomers {
    /// Whether this source may have so many new ones more.
    fn take(&self, source: IpAddr, wanted: usize, most: usize, now: Instant) -> bool {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |since: Instant| now.saturating_duration_since(since) >= SOURCE_WINDOW;
        let network = NetworkName::of(source);
        if sources.len() >= SOURCES_MAX && !sources.contains_key(&network) {
            sources.retain(|_, (since, _)| !is_over(*since));
            if sources.len() >= SOURCES_MAX {
                return false;
            }
        }
        let (since, count) = sources.entry(network).or_insert((now, 0));
        if is_over(*since) {
            (*since, *count) = (now, 0);
        }
        if *count + wanted > most {
            return false;
        }
        *count += wanted;
        true
    }
}

impl NtfyRoom {
    /// Where a topic's messages are kept: nobody who does not know the topic can name it.
    pub(super) fn endpoint(&self, topic: &Topic) -> EndpointToken {
        let mut token = [0; 20];
        token.copy_from_slice(&hmac::sign(&self.topic_key, topic.as_str().as_bytes()).as_ref()[..20]);
        EndpointToken(token)
    }

    /// Where the messages of a topic are kept that a URL's path names, with a device's own path or without.
    #[must_use]
    pub fn topic_at(&self, path: &str) -> Option<EndpointToken> {
        let (before, topic) = path.strip_prefix('/')?.rsplit_once('/').unwrap_or_else(|| ("", &path[1..]));
        let is_topic =
            before.is_empty() || before.strip_prefix("d/").is_some_and(|token| !token.contains('/'));
        let topic = topic.parse().ok().filter(|_| is_topic)?;
        Some(self.endpoint(&topic))
    }

    /// Whether nobody has subscribed to this topic yet.
    #[must_use]
    pub fn is_awaited(&self, registration: &Registration) -> bool {
        registration.device == self.house
    }

    /// Which device it is, by its path, its user and password, or its token. Credentials for other
    /// systems, VAPID's for one, say nothing here.
    ///
    /// # Errors
    /// [`Failure::Unauthorized`], [`Failure::TooManyLogins`], or [`Failure::NotFound`] for a wrong path.
    pub fn login(
        &self,
        visitor: &Visitor,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Result<Option<DeviceId>, Failure> {
        match visitor.login(&*self.directory) {
            Some(Login::Welcome(device)) => return Ok(Some(device)),
            // Whether there is such a device is nobody's business.
            Some(Login::Refused) => return Err(Failure::NotFound),
            Some(Login::Throttled) => return Err(Failure::TooManyLogins),
            None => {}
        }
        let said = match query(uri, &["auth"]) {
            Some(auth) => URL_SAFE_NO_PAD
                .decode(auth.trim_end_matches('='))
                .or_else(|_| STANDARD.decode(&auth))
                .map_err(|_| Failure::Unauthorized)?,
            None => match headers.get(AUTHORIZATION) {
                Some(value) => value.as_bytes().to_vec(),
                None => return Ok(None),
            },
        };
        let said = String::from_utf8(said).map_err(|_| Failure::Unauthorized)?;
        let (scheme, rest) = said.trim().split_once(' ').unwrap_or((&said, ""));
        let (id, secret) = if scheme.eq_ignore_ascii_case("basic") {
            let decoded = STANDARD.decode(rest.trim()).map_err(|_| Failure::Unauthorized)?;
            let decoded = String::from_utf8(decoded).map_err(|_| Failure::Unauthorized)?;
            match decoded.split_once(':') {
                Some(("", token)) => read_token(token)?,
                Some((user, password)) => (user.to_owned(), password.to_owned()),
                None => return Err(Failure::Unauthorized),
            }
        } else if scheme.eq_ignore_ascii_case("bearer") {
            read_token(rest.trim())?
        } else {
            return Ok(None);
        };
        match self.directory.login(&id, secret.as_bytes(), visitor.source) {
            Login::Welcome(device) => Ok(Some(device)),
            Login::Refused => Err(Failure::Unauthorized),
            Login::Throttled => Err(Failure::TooManyLogins),
        }
    }

    /// Whether somebody may listen.
    pub(super) fn may_subscribe(
        &self,
        visitor: &Visitor,
        headers: &HeaderMap,
        login: Option<DeviceId>,
    ) -> Result<(), Failure> {
        // A page in a browser at home may be anybody's.
        let is_page = headers.contains_key(ORIGIN);
        let is_home = visitor.audience == Audience::Home && self.config.anonymous_subscribe && !is_page;
        if login.is_some() || is_home { Ok(()) } else { Err(Failure::Forbidden) }
    }

    /// Finds where a message to this topic goes. A topic that nobody has is kept in the waiting room for
    /// its first subscriber; with a login, others than an app's become the device's at once.
    ///
    /// # Errors
    /// [`Failure`]: who publishes may not, or too much waits already.
    pub async fn addressee(
        &self,
        visitor: &Visitor,
        login: Option<DeviceId>,
        topic: &Topic,
    ) -> Result<Registration, Failure> {
        let anonymous = match self.config.anonymous_publish {
            AnonymousPublish::None => false,
            AnonymousPublish::UnifiedPush => topic.as_str().starts_with("up"),
            AnonymousPublish::All => true,
        };
        if login.is_none() && !anonymous {
            return Err(Failure::Forbidden);
        }
        let endpoint = self.endpoint(topic);
        let held = self.directory.holder(&endpoint);
        let registration = match (held, login) {
            (Some(held), _) if held.device != self.house => return Ok(held),
            (Some(held), None) => held,
            (Some(held), Some(_)) if topic.is_unified_push() => held,
            (None | Some(_), Some(device)) if !topic.is_unified_push() => {
                return self.claim(device, topic).await;
            }
            (None | Some(_), login) => {
                let now = self.clock.moment().instant;
                let most = self.config.max_new_topics_per_source;
                if login.is_none() && !self.newcomers.take(visitor.source, 1, most, now) {
                    return Err(Failure::TooManyTopics);
                }
                if self.directory.registrations(self.house).len() >= AWAITED_MAX {
                    return Err(Failure::NobodySubscribed);
                }
                self.claim(self.house, topic).await?
            }
        };
        if registration.device == self.house {
            let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
            let count = awaited.entry(registration.id).or_default();
            if *count >= AWAITED_MESSAGES {
                return Err(Failure::TooManyAwaited);
            }
            *count += 1;
        }
        Ok(registration)
    }

    /// What a subscriber to these topics hears; topics that are nobody's become its device's.
    pub(super) async fn claim_all(
        &self,
        visitor: &Visitor,
        login: Option<DeviceId>,
        topics: &[Topic],
    ) -> Result<Vec<Heard>, Failure> {
        let held: Vec<_> = topics.iter().map(|topic| self.directory.holder(&self.endpoint(topic))).collect();
        let owned = |held: &Option<Registration>| held.as_ref().is_some_and(|held| held.device != self.house);
        let new = held.iter().filter(|held| !owned(held)).count();
        let mut device = login;
        if new > 0 && login.is_none() {
            let now = self.clock.moment().instant;
            if !self.newcomers.take(visitor.source, new, self.config.max_new_topics_per_source, now) {
                return Err(Failure::TooManyTopics);
            }
            let known = held.iter().filter(|held| owned(held)).flatten().map(|held| held.device).next();
            device = Some(match known {
                Some(device) => device,
                None => self.enrol(visitor).await?,
            });
        }
        let claims = topics.iter().zip(held).map(async |(topic, held)| match (held, device) {
            (Some(held), _) if held.device != self.house => Ok(heard(topic, &held)),
            (_, Some(device)) => Ok(heard(topic, &self.claim(device, topic).await?)),
            (_, None) => Err(Failure::Forbidden),
        });
        try_join_all(claims).await
    }

    /// What there is of these topics now.
    pub(super) fn known(&self, topics: &[Topic]) -> Vec<Heard> {
        let known = |topic: &Topic| Some(heard(topic, &self.directory.holder(&self.endpoint(topic))?));
        topics.iter().filter_map(known).collect()
    }

    async fn claim(&self, device: DeviceId, topic: &Topic) -> Result<Registration, Failure> {
        let token = topic.as_str().parse().map_err(|_| Failure::TopicInvalid)?;
        let claim =
            Claim { device, endpoint: self.endpoint(topic), house: self.house, transport: NAME, token };
        let registration = self.directory.claim(claim).await.map_err(|why| match why {
            RegisterRefusal::ActionRequired => Failure::TooManyTopics,
            RegisterRefusal::InternalError => Failure::Unavailable,
            RegisterRefusal::Unauthorized => Failure::Forbidden,
        })?;
        if registration.device != self.house {
            self.awaited.lock().unwrap_or_else(PoisonError::into_inner).remove(&registration.id);
        }
        Ok(registration)
    }

    /// A client without a name becomes a device.
    async fn enrol(&self, visitor: &Visitor) -> Result<DeviceId, Failure> {
        let invitation = self.directory.invite().ok_or(Failure::Unavailable)?;
        let device = invitation.device;
        let source = visitor.source;
        let name = format!("ntfy {source}").into();
        let enrolment = Enrolment { invitation, name, source: Some(source), transport: NAME };
        match self.directory.enroll(enrolment).await {
            Ok(()) => Ok(device),
            Err(EnrolRefusal::Full | EnrolRefusal::TooMany) => Err(Failure::TooManyTopics),
            Err(EnrolRefusal::InternalError) => Err(Failure::Unavailable),
        }
    }
}

fn heard(topic: &Topic, registration: &Registration) -> Heard {
    Heard { owner: registration.device, registration: registration.id, topic: topic.clone() }
}

/// A device's token is the end of its own path, also in ntfy's clothes.
fn read_token(token: &str) -> Result<(String, String), Failure> {
    let path = |text: &str| text.parse::<PathToken>().ok();
    let token = path(token).or_else(|| path(token.strip_prefix("tk_")?)).ok_or(Failure::Unauthorized)?;
    Ok((token.device().to_string(), token.secret()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{Clock as _, ManualClock},
        model::UnixTime,
    };

    #[test]
    fn a_source_makes_up_so_many_topics_within_the_hour() {
        let newcomers = Newcomers::default();
        let now = ManualClock::new(UnixTime(0)).moment().instant;
        let source = |last| IpAddr::from([192, 0, last, 1]);
        assert!(newcomers.take(source(1), 90, 100, now));
        assert!(!newcomers.take(source(1), 11, 100, now));
        assert!(newcomers.take(source(1), 10, 100, now));
        assert!(!newcomers.take(source(1), 1, 100, now));
        assert!(newcomers.take(source(2), 1, 100, now), "others notice nothing");
        assert!(newcomers.take(source(1), 1, 100, now + SOURCE_WINDOW));
    }
}
