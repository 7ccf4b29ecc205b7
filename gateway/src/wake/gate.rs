//! What may leave now: the device's word, the owner's quiet hours, and the device's circumstances.

use crate::model::{DeviceState, Network, Power, Urgency};

/// Whether messages of one urgency may leave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Gate {
    /// They may.
    Open,
    /// They may not, whatever comes of them.
    Shut,
    /// They wait for better circumstances, but leave before they expire.
    UntilExpiry,
}

/// Whether messages of this urgency may leave for a device that has said this of itself.
pub(super) fn gate(urgency: Urgency, state: &DeviceState, quiet: bool) -> Gate {
    if quiet && urgency < Urgency::High {
        return Gate::Shut;
    }
    match state.urgency {
        Some(floor) if urgency < floor => Gate::Shut,
        // It has said what it wants: there is nothing to derive.
        Some(_) => Gate::Open,
        None if suits(urgency, state) => Gate::Open,
        None => Gate::UntilExpiry,
    }
}

/// RFC 8030 §5.3, table 1. What the device has not said is not held against a message.
fn suits(urgency: Urgency, state: &DeviceState) -> bool {
    let (power, network) = (state.power, state.network);
    if power == Some(Power::Low) {
        return urgency == Urgency::High;
    }
    let charging = power == Some(Power::Charging);
    let wifi = network == Some(Network::Wifi);
    match urgency {
        Urgency::High | Urgency::Normal => true,
        Urgency::Low => charging || wifi || (power.is_none() && network.is_none()),
        Urgency::VeryLow => (charging || power.is_none()) && (wifi || network.is_none()),
    }
}

/// What a device says adds to what it has said: `outbox/state` carries any part of it.
pub(super) fn merge(known: &mut DeviceState, said: DeviceState) {
    let DeviceState { network, power, screen, urgency } = said;
    *known = DeviceState {
        network: network.or(known.network),
        power: power.or(known.power),
        screen: screen.or(known.screen),
        urgency: urgency.or(known.urgency),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Urgency; 4] = [Urgency::High, Urgency::Normal, Urgency::Low, Urgency::VeryLow];

    fn gates(state: DeviceState, quiet: bool) -> [Gate; 4] {
        ALL.map(|urgency| gate(urgency, &state, quiet))
    }

    #[test]
    fn circumstances_are_those_of_the_table() {
        use Gate::{Open, UntilExpiry as Wait};
        let (charging, battery, low) = (Some(Power::Charging), Some(Power::Battery), Some(Power::Low));
        let (wifi, mobile) = (Some(Network::Wifi), Some(Network::Mobile));
        for (power, network, expected) in [
            (None, None, [Open, Open, Open, Open]),
            (charging, wifi, [Open, Open, Open, Open]),
            (charging, mobile, [Open, Open, Open, Wait]),
            (battery, wifi, [Open, Open, Open, Wait]),
            (battery, mobile, [Open, Open, Wait, Wait]),
            (battery, None, [Open, Open, Wait, Wait]),
            (None, mobile, [Open, Open, Wait, Wait]),
            (None, wifi, [Open, Open, Open, Open]),
            (low, wifi, [Open, Wait, Wait, Wait]),
        ] {
            let state = DeviceState { network, power, ..DeviceState::default() };
            assert_eq!(gates(state, false), expected, "{power:?} {network:?}");
        }
    }

    #[test]
    fn a_floor_goes_before_circumstances_and_quiet_hours_before_both() {
        use Gate::{Open, Shut};
        let power = Some(Power::Low);
        let floor = |urgency| DeviceState { power, urgency: Some(urgency), ..DeviceState::default() };
        assert_eq!(gates(floor(Urgency::Normal), false), [Open, Open, Shut, Shut]);
        assert_eq!(gates(floor(Urgency::VeryLow), false), [Open, Open, Open, Open]);
        assert_eq!(gates(floor(Urgency::VeryLow), true), [Open, Shut, Shut, Shut]);
        assert_eq!(gates(DeviceState::default(), true), [Open, Shut, Shut, Shut]);
    }

    #[test]
    fn what_is_not_said_again_still_holds() {
        let mut known = DeviceState { urgency: Some(Urgency::High), ..DeviceState::default() };
        merge(&mut known, DeviceState { power: Some(Power::Charging), ..DeviceState::default() });
        assert_eq!((known.urgency, known.power), (Some(Urgency::High), Some(Power::Charging)));
    }
}
