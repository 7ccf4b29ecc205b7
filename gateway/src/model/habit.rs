//! What was learnt of the networks that a device connects through.

use serde::{Deserialize, Serialize};

use super::NetworkName;

/// Networks that are remembered of one device. Whoever travels more forgets the one visited longest ago.
const NETWORKS_MAX: usize = 16;

/// The networks of one device, the latest first.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Habit {
    /// Never two of one name, never more than `NETWORKS_MAX`.
    networks: Vec<(NetworkName, Learnt)>,
}

/// How long a silence one network bears, in whole seconds.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Learnt {
    /// The keep-alive to ask for: settled, or the next one to be tried.
    pub ask_s: u32,
    /// The longest silence after which the device was still heard on the same connection; 0: none yet.
    pub borne_s: u32,
    /// The shortest silence above [`borne_s`](Self::borne_s) that cost a connection.
    pub failed_s: Option<u32>,
    /// Nothing is tried any more until it breaks.
    pub settled: bool,
    /// Connections that were lost in a row at a silence that had been borne before.
    pub strikes: u8,
}

impl Learnt {
    /// What is asked for in a network of which nothing is known: the third rung of the ladder that begins
    /// at 60 s. From here nine probes reach every rung.
    pub const FIRST_S: u32 = 135;
}

impl Default for Learnt {
    fn default() -> Self {
        Self { ask_s: Self::FIRST_S, borne_s: 0, failed_s: None, settled: false, strikes: 0 }
    }
}

impl Habit {
    /// What is known of a network; nothing, of a new one.
    #[must_use]
    pub fn of(&self, network: &NetworkName) -> Learnt {
        self.networks.iter().find(|(name, _)| name == network).map(|(_, learnt)| *learnt).unwrap_or_default()
    }

    /// Remembers a network as the latest.
    pub fn learn(&mut self, network: NetworkName, learnt: Learnt) {
        self.networks.retain(|(name, _)| *name != network);
        self.networks.insert(0, (network, learnt));
        self.networks.truncate(NETWORKS_MAX);
    }

    /// All networks, the latest first.
    pub fn networks(&self) -> impl Iterator<Item = (&NetworkName, &Learnt)> {
        self.networks.iter().map(|(name, learnt)| (name, learnt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u8) -> NetworkName {
        NetworkName::of([10, 0, number, 1].into())
    }

    #[test]
    fn the_network_visited_longest_ago_is_forgotten() {
        let mut habit = Habit::default();
        for number in 0..=16 {
            habit.learn(network(number), Learnt { borne_s: u32::from(number) + 1, ..Learnt::default() });
        }
        habit.learn(network(16), Learnt { borne_s: 99, ..Learnt::default() });
        assert_eq!(habit.networks().count(), NETWORKS_MAX);
        assert_eq!(habit.of(&network(0)), Learnt::default(), "forgotten");
        assert_eq!(habit.of(&network(1)).borne_s, 2);
        assert_eq!(habit.of(&network(16)).borne_s, 99, "once only");
    }
}
