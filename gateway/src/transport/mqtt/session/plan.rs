//! `inbox/plan`: how the device is treated, told without waking it.

use std::time::{Duration, Instant};

use super::{Phase, Session};
use crate::{
    model::Profile,
    transport::{
        Plan,
        mqtt::{frames::Version, wire},
    },
};

/// A device that has spoken so recently is awake: no radio has a shorter tail on a mobile network.
const AWAKE: Duration = Duration::from_secs(5);
/// A 3.1.1 client that asks for less has a reason that we do not know, and is left alone.
const LEFT_ALONE_S: u16 = 30;

/// What a client has been told, and is to be told.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// It keeps silent for as long as it was told to.
    obeys: bool,
    /// To be told when its radio is up.
    pending: Option<Hint>,
    told: Option<Hint>,
    /// The longest keep-alive that it was told of.
    longest_s: u16,
}

/// The plan as it is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Hint {
    keep_alive_s: u16,
    profile: Profile,
}

impl Hints {
    /// The longest keep-alive that the client was told of.
    pub(super) fn longest(&self) -> Duration {
        Duration::from_secs(self.longest_s.into())
    }

    /// The keep-alive that it has taken over, if it has.
    pub(super) fn obeyed(&self) -> Option<u16> {
        self.told.filter(|_| self.obeys).map(|told| told.keep_alive_s)
    }
}

impl Session {
    /// The device is treated like this from now on. It is told at once if it is awake anyway, else
    /// together with what goes to it next.
    pub(in crate::transport::mqtt) fn plan(&mut self, plan: Plan, now: Instant) {
        if self.version == Version::V3 && (1..LEFT_ALONE_S).contains(&self.keep_alive_asked) {
            return;
        }
        let seconds = u16::try_from(plan.keep_alive.as_secs()).unwrap_or(u16::MAX);
        let hint = Hint { keep_alive_s: seconds.clamp(1, self.max_keep_alive), profile: plan.profile };
        self.hints.pending = Some(hint).filter(|hint| self.hints.told != Some(*hint));
        if now.saturating_duration_since(self.heard) < AWAKE {
            self.hint(now);
        }
    }

    /// Tells what is to be told: the device is awake.
    pub(super) fn hint(&mut self, now: Instant) {
        let wanted = self.phase == Phase::Open
            && wire::granted(&self.filters, &wire::inbox(self.device, "plan")).is_some();
        // Not before what has its turn: an answer that waits for room in the window.
        if !wanted || !self.outbound.is_empty() {
            return;
        }
        if let Some(hint) = self.hints.pending.take() {
            self.hints.told = Some(hint);
            self.hints.longest_s = self.hints.longest_s.max(hint.keep_alive_s);
            self.answer(wire::plan(self.device, hint.keep_alive_s, hint.profile), now);
        }
    }

    /// Tells it along with pushes that were just written, if there are any.
    pub(super) fn hint_along(&mut self, now: Instant) {
        if !self.out.bytes.is_empty() {
            self.hint(now);
        }
    }

    /// Sees by its silence whether the client obeys: longer than it said itself, with time to spare.
    pub(super) fn watch(&mut self, now: Instant) {
        let own = Duration::from_secs(self.keep_alive.into());
        let silence = now.saturating_duration_since(self.heard);
        if !self.hints.obeys && self.hints.told.is_some() && silence > own * 5 / 4 {
            self.hints.obeys = true;
            self.out.obeys = true;
        }
    }
}
