//! How long a silence each device's network bears: learnt from what happens anyway.
//!
//! A NAT forgets a connection that was silent for too long, and nobody tells either end. So the
//! keep-alive climbs by half at a time until a connection is lost, then the gap between what was borne
//! and what failed is halved until it is within 10 %. What is learnt is kept per device and network.
//!
//! [`Learnt`] is one network's knowledge, and this module's functions are how evidence changes it.
//! [`Ear`] finds the evidence in the reports of one device. Nothing here closes a connection: a client
//! whose keep-alive can only change when it connects (MQTT 5.0) is asked for the next one then.
//!
//! To learn a network that bears 45 s or more takes at most 9 probes and 4 lost connections. One that
//! bears less is given [`FLOOR_S`].

mod ear;
mod keeper;
#[cfg(test)]
mod tests;

pub use keeper::{Keeper, Memory};

use crate::model::Learnt;

/// The longest keep-alive that is ever tried: 28 min, what the large push services use on mobile.
pub const LONGEST_S: u32 = 1680;
/// Below [`LOWEST_PROBE_S`] nothing is tried: this is asked for.
pub const FLOOR_S: u32 = 30;
/// The lowest keep-alive that is tried before giving in to [`FLOOR_S`]; the most impatient carrier that
/// we know of bears 45 to 60 s.
const LOWEST_PROBE_S: u32 = 45;
/// Connections lost in a row, at a silence that was borne before, until the network is believed to have
/// changed. One may be a tunnel.
const STRIKES: u8 = 2;

/// The device was heard after a silence of `silence_s`.
fn bear(learnt: &mut Learnt, silence_s: u32, cap_s: u32) {
    let silence_s = silence_s.min(LONGEST_S);
    if silence_s * 10 >= learnt.ask_s * 9 {
        learnt.strikes = 0;
    }
    if silence_s > learnt.borne_s {
        learnt.borne_s = silence_s;
        // Whatever it was that failed there, it was not the network.
        learnt.failed_s = learnt.failed_s.filter(|failed| *failed > silence_s);
    }
    decide(learnt, cap_s);
}

/// The connection was lost in a silence of `silence_s`.
fn fail(learnt: &mut Learnt, silence_s: u32, cap_s: u32) {
    // Beyond what is ever asked for, only that it failed somewhere there is of use.
    let silence_s = silence_s.min(2 * LONGEST_S);
    if silence_s > learnt.borne_s {
        learnt.failed_s = Some(learnt.failed_s.map_or(silence_s, |known| known.min(silence_s)));
        return decide(learnt, cap_s);
    }
    learnt.strikes += 1;
    if learnt.strikes >= STRIKES {
        // It is another network now. From the bottom again, where little can be lost.
        *learnt = Learnt { failed_s: Some(silence_s), ..Learnt::default() };
        decide(learnt, cap_s);
    } else {
        // A ping may come a little late, and the network may bear a little less than it seemed to.
        let lowest = learnt.borne_s * 94 / 100;
        learnt.ask_s = (learnt.ask_s * 97 / 100).max(lowest).min(learnt.ask_s).max(FLOOR_S);
    }
}

/// What to ask for, by what is known.
fn decide(learnt: &mut Learnt, cap_s: u32) {
    let cap = cap_s.clamp(1, LONGEST_S);
    // Whoever chats shows no more than what any network bears.
    let borne = if learnt.borne_s < LOWEST_PROBE_S { 0 } else { learnt.borne_s };
    let (ask, settled) = match (borne, learnt.failed_s) {
        (_, Some(failed)) if failed <= LOWEST_PROBE_S => (FLOOR_S.min(cap), true),
        (0, None) => (Learnt::FIRST_S.min(cap), false),
        (0, Some(failed)) => (Learnt::FIRST_S.min(failed / 2).max(LOWEST_PROBE_S).min(cap), false),
        (borne, _) if borne >= cap => (cap, true),
        (borne, Some(failed)) if borne * 10 >= failed * 9 => (borne.min(failed * 95 / 100).min(cap), true),
        (borne, failed) => {
            let rung = if failed.is_none() { (borne * 3 / 2).max(Learnt::FIRST_S) } else { borne * 3 / 2 };
            let probe = match failed {
                Some(failed) if rung >= failed => middle(borne, failed),
                Some(_) | None => rung,
            };
            // A rung for at least a second more, or a slow start would never end.
            (probe.max(borne + 1).max(FLOOR_S).min(cap), false)
        }
    };
    // Timers are never exact: what is settled does not move for a second or two.
    let close = ask <= learnt.ask_s + learnt.ask_s / 20 && ask >= learnt.ask_s - learnt.ask_s / 16;
    if !(settled && learnt.settled && close && learnt.ask_s <= cap) {
        (learnt.ask_s, learnt.settled) = (ask, settled);
    }
}

/// The geometric middle: both sides are the same factor apart, so that two halvings of a rung (×1.5)
/// always come to within 10 %.
fn middle(low: u32, high: u32) -> u32 {
    let product = u64::from(low) * u64::from(high);
    u32::try_from(product.isqrt()).unwrap_or(high)
}
