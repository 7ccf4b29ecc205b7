//! What a policy would cost one phone: the very planner that serves, over a recorded trace.
//!
//! # The rules of the count
//! - A packet is a *wake* when at least τ have passed since the packet before it, in either direction:
//!   at exactly τ it is one. The connection exists from 0, and counts as a packet at 0.
//! - A packet that the phone sends by itself (`contact`, `state`) is no wake of ours, and is a packet like
//!   any other to the next one. Both let what waits leave at once.
//! - The keep-alive is due at exactly the last packet + T. A packet that leaves then is the keep-alive,
//!   unless a deadline has come at the same instant: then it is a push.
//! - At one instant everything of the trace comes first, in the order of the lines; then what is due.
//! - Deliveries and their acknowledgements take no time.
//! - A push leaves at the latest when its budget ends, or a second before it expires, whichever is first;
//!   one that is below the floor waits until the floor falls. At its expiry it is gone. TTL 0 goes when
//!   it comes or never.
//! - A newer push of the same topic takes the place of one that waits, with a deadline of its own.
//! - The run is from 0 up to, and without, the end of the last day that holds an event. What waits then
//!   is `pending`. A trace without events lasts no time.
//!
//! [`trace`] reads and writes, [`reference`] makes one up, [`run`] drives the planner, [`optimum`] knows
//! the whole trace in advance, [`energy`] turns packets into mAh.

pub mod energy;
pub mod optimum;
pub mod reference;
pub mod run;
#[cfg(test)]
mod tests;
pub mod trace;

use std::time::Duration;

use crate::{
    model::{Profile, Urgency},
    wake::Settings,
};
use trace::Happening;

/// A day, in microseconds.
const DAY_US: u64 = 86_400_000_000;
/// How long before its expiry a push leaves at the latest, in microseconds.
const MARGIN_US: u64 = 1_000_000;

/// What is tried out.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The longest silence of the connection.
    pub keep_alive: KeepAlive,
    /// How long messages may wait for company.
    pub profile: Profile,
    /// How long a radio stays up after a packet, in microseconds.
    pub tau_us: u64,
}

/// How the connection is kept alive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeepAlive {
    /// After so many microseconds without a packet.
    Fixed(u64),
    /// As it is learnt, in a network that bears any silence.
    Learnt,
}

impl Policy {
    fn budget_us(&self, urgency: Urgency) -> u64 {
        micros(Settings::of_profile(self.profile).budgets.of(urgency))
    }

    /// When a push that came at `at_us` has to leave.
    fn deadline_us(&self, at_us: u64, urgency: Urgency, ttl_s: u32) -> u64 {
        let last = (at_us + u64::from(ttl_s) * 1_000_000).saturating_sub(MARGIN_US).max(at_us);
        at_us.saturating_add(self.budget_us(urgency)).min(last)
    }
}

/// When a trace ends.
#[must_use]
pub fn end_us(happenings: &[Happening]) -> u64 {
    happenings.last().map_or(0, |last| (last.at_us / DAY_US + 1) * DAY_US)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
