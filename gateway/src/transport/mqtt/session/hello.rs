//! CONNECT and what it is answered.

use mqtt_protocol_core::mqtt::packet::Qos;

use super::{Phase, Session};
use crate::{
    model::{DeviceId, MessageId, NetworkName},
    transport::{
        Directory, Login,
        mqtt::{
            config::window,
            frames::{self, Hello, Refusal, Terms, Version},
            wire,
        },
    },
};
use std::time::Instant;

/// A client has logged in and wants its seat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::transport::mqtt) struct Admission {
    /// An earlier session is to be forgotten.
    pub(in crate::transport::mqtt) clean: bool,
    pub(in crate::transport::mqtt) device: DeviceId,
    /// The session is to outlive the connection.
    pub(in crate::transport::mqtt) durable: bool,
    /// The largest packet that the client takes.
    pub(in crate::transport::mqtt) maximum_packet_size: Option<u32>,
    /// The client has no CONNACK properties to be told by (3.1.1), or a session expiry of its own.
    session_expiry: Option<u32>,
    nameless: bool,
}

/// What the house knows of an earlier session.
#[derive(Debug, Default)]
pub(in crate::transport::mqtt) struct Admitted {
    pub(in crate::transport::mqtt) filters: Vec<(Box<str>, u8)>,
    pub(in crate::transport::mqtt) packet_ids: Vec<(MessageId, u16)>,
    /// There was one.
    pub(in crate::transport::mqtt) present: bool,
}

impl Session {
    pub(super) fn hello(&mut self, directory: &dyn Directory, hello: Hello) {
        self.version = hello.version;
        let device = match self.judge(directory, &hello) {
            Ok(device) => device,
            Err(refusal) => {
                tracing::info!(source = %self.source, ?refusal, "a login was refused");
                return self.refuse(refusal);
            }
        };
        self.device = device;
        self.window = window(hello.receive_maximum);
        self.keep_alive_asked = hello.keep_alive;
        let learnt = || {
            let known = directory.keep_alive(device, &NetworkName::of(self.source))?;
            u16::try_from(known.as_secs()).ok().filter(|known| *known > 0)
        };
        self.keep_alive = match (hello.version, hello.keep_alive) {
            (Version::V5, asked) => learnt().unwrap_or(asked),
            (Version::V3, asked) => asked,
        };
        if self.keep_alive == 0 || self.keep_alive > self.max_keep_alive {
            self.keep_alive = self.max_keep_alive;
        }
        self.durable = !hello.clean || hello.session_expiry > 0;
        self.will = hello.will;
        self.admission = Some(Admission {
            clean: hello.clean,
            device,
            durable: self.durable,
            maximum_packet_size: hello.maximum_packet_size,
            nameless: hello.nameless,
            session_expiry: (self.durable && hello.session_expiry != u32::MAX).then_some(u32::MAX),
        });
        self.phase = Phase::Admission;
    }

    fn judge(&self, directory: &dyn Directory, hello: &Hello) -> Result<DeviceId, Refusal> {
        if hello.auth {
            return Err(Refusal::BadAuthenticationMethod);
        }
        let (Some(user), Some(password)) = (&hello.user, &hello.password) else {
            return Err(Refusal::NotAuthorized);
        };
        let device = match directory.login(user, password, self.source) {
            Login::Refused => return Err(Refusal::NotAuthorized),
            Login::Throttled => return Err(Refusal::Throttled),
            Login::Welcome(device) => device,
        };
        if let Some(will) = &hello.will {
            if wire::outbox(device, &will.topic).is_none() || will.topic.contains(['#', '+', '\0']) {
                return Err(Refusal::NotAuthorized);
            }
            if hello.version == Version::V5 && will.retain {
                return Err(Refusal::RetainNotSupported);
            }
            if hello.version == Version::V5 && will.qos == Qos::ExactlyOnce {
                return Err(Refusal::QosNotSupported);
            }
        }
        Ok(device)
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.send(frames::refusal(self.version, refusal));
        self.close();
    }

    /// The admission that the shell is to see to, once.
    pub(in crate::transport::mqtt) fn admission(&mut self) -> Option<Admission> {
        self.admission.take()
    }

    /// There is a seat: the client is welcomed.
    pub(in crate::transport::mqtt) fn admit(
        &mut self,
        directory: &dyn Directory,
        admission: &Admission,
        admitted: Admitted,
        now: Instant,
    ) {
        if self.phase != Phase::Admission {
            return;
        }
        self.filters = admitted.filters;
        for &(_, pid) in &admitted.packet_ids {
            // Reserved, so that nothing new goes by the number of what may come again.
            if self.core.register_packet_id(pid).is_err() {
                tracing::debug!(pid, "a packet id was remembered twice");
            }
        }
        self.remembered = admitted.packet_ids;
        let name = self.device.to_string();
        let terms = Terms {
            client_id: admission.nameless.then_some(name.as_str()),
            keep_alive: (self.keep_alive != self.keep_alive_asked).then_some(self.keep_alive),
            present: admitted.present,
            session_expiry: admission.session_expiry,
        };
        self.phase = Phase::Open;
        self.heard = now;
        self.send(frames::welcome(self.version, &terms));
        if wire::wants_pushes(&self.filters, self.device) {
            self.out.joined = Some(true);
        }
        self.resume(directory, now);
    }

    /// There is no seat: the house is not able to.
    pub(in crate::transport::mqtt) fn turn_away(&mut self) {
        self.refuse(Refusal::Unavailable);
    }
}
