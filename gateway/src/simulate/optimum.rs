//! The fewest wakes that a trace can do with, found with the whole trace at hand and without the planner.
//!
//! Between two packets that the phone sends by itself, each wake is put as late as it can be: at the
//! first of the deadlines that nothing has covered yet, or where the silence would become too long. A
//! later wake covers whatever an earlier one does that could still be covered, and its tail reaches
//! further, so no other choice comes to fewer (interval stabbing).

use std::collections::HashMap;

use super::{
    Policy, end_us,
    trace::{Happening, Kind},
};
use crate::model::{Topic, Urgency};

struct Open<'a> {
    deadline_us: u64,
    expires_us: u64,
    topic: Option<&'a Topic>,
    urgency: Urgency,
}

/// The fewest wakes with a keep-alive of `keep_alive_us`.
#[must_use]
pub fn wakes(happenings: &[Happening], policy: &Policy, keep_alive_us: u64) -> u64 {
    let end = end_us(happenings);
    let (mut wakes, mut packet, mut floor, mut next) = (0, 0, Urgency::VeryLow, 0);
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut by_topic: HashMap<&Topic, ()> = HashMap::new();
    loop {
        let needed = |push: &&Open<'_>| push.urgency >= floor && push.expires_us > packet;
        let deadline = open.iter().filter(needed).map(|push| push.deadline_us).min();
        let silent = packet.saturating_add(keep_alive_us);
        // What the floor has held may be overdue: it leaves now, not in the past.
        let wake = deadline.map_or(silent, |deadline| deadline.max(packet).min(silent));
        let Some(happening) = happenings.get(next).filter(|it| it.at_us <= wake) else {
            if wake >= end {
                return wakes;
            }
            wakes += u64::from(wake >= packet + policy.tau_us);
            packet = wake;
            open.retain(|push| push.urgency < floor && push.expires_us > wake);
            continue;
        };
        next += 1;
        let at = happening.at_us;
        match &happening.kind {
            Kind::Contact => packet = at,
            Kind::State(said) => (packet, floor) = (at, *said),
            Kind::Push { topic, ttl, urgency } => {
                if let Some(topic) = topic {
                    if by_topic.insert(topic, ()).is_some() {
                        open.retain(|push| push.topic != Some(topic));
                    }
                }
                if *urgency >= floor && at < packet + policy.tau_us {
                    packet = at;
                } else if ttl.as_secs() > 0 || *urgency >= floor {
                    let ttl_s = ttl.as_secs();
                    // TTL 0 leaves at its birth.
                    let expires_us = at + (u64::from(ttl_s) * 1_000_000).max(1);
                    let deadline_us = policy.deadline_us(at, *urgency, ttl_s);
                    open.push(Open { deadline_us, expires_us, topic: topic.as_ref(), urgency: *urgency });
                }
            }
        }
        // Once all of this instant have come, whatever is allowed leaves with the packet that goes anyway.
        if packet == at && happenings.get(next).is_none_or(|following| following.at_us > at) {
            open.retain(|push| push.urgency < floor && push.expires_us > at);
        }
    }
}
