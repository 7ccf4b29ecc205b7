//! Messages that a room was given: the same way in, without HTTP.

use std::sync::Arc;

use crate::{
    admission::{Meter, Rate},
    clock::SharedClock,
    model::{Coding, Phase, Ttl},
    store::{Intake, NewPush, NotStored},
    telemetry::Telemetry,
    transport::{Future, Later, Post, Posted},
};

/// Takes in what rooms are given.
#[derive(Debug)]
pub struct Counter {
    clock: SharedClock,
    intake: Intake,
    meter: Meter,
    telemetry: Arc<Telemetry>,
}

impl Counter {
    /// A counter at which each registration may get so much.
    #[must_use]
    pub fn new(intake: Intake, rate: Rate, clock: SharedClock, telemetry: Arc<Telemetry>) -> Self {
        Self { clock, intake, meter: Meter::new(rate), telemetry }
    }

    async fn take(&self, posted: Posted) -> Result<(), Later> {
        let Posted { body, registration, topic, urgency } = posted;
        let (id, now) = (registration.id, self.clock.moment());
        if self.meter.charge(id, now.instant).is_err() {
            self.telemetry.limited(id);
            return Err(Later);
        }
        let registration = Arc::new(registration);
        let push =
            NewPush { body, coding: Coding::default(), registration, topic, ttl: Ttl::DEFAULT, urgency };
        let appended = self.intake.append(push, now).map_err(|error| {
            if error == NotStored::Full {
                self.telemetry.limited(id);
            }
            Later
        })?;
        self.telemetry.count(Phase::Accepted, 1);
        appended.commit.await.map_err(|_| Later)?;
        self.telemetry.count(Phase::Stored, 1);
        Ok(())
    }
}

impl Post for Counter {
    fn post(&self, posted: Posted) -> Future<'_, Result<(), Later>> {
        Box::pin(async move {
            let taken = self.take(posted).await;
            if taken.is_err() {
                self.telemetry.count(Phase::Refused, 1);
            }
            taken
        })
    }
}
