//! What a device has still to hear of its own registrations.

use serde::{Deserialize, Serialize};

use super::EndpointToken;

/// Ends that one device is told of when it comes back; beyond it the oldest are left out. A record of so
/// many fits the store's longest one.
const ENDS_MAX: usize = 250;

/// What a device has been told, and has not been told, of its registrations. It stays until the device has
/// acknowledged it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Untold {
    /// The origin of the endpoints that it knows.
    pub origin: Option<Box<str>>,
    /// Endpoints that have ended without its doing, oldest first.
    pub ended: Vec<EndpointToken>,
}

impl Untold {
    /// One more registration has ended.
    pub fn end(&mut self, endpoint: EndpointToken) {
        if !self.ended.contains(&endpoint) {
            self.ended.push(endpoint);
        }
        let over = self.ended.len().saturating_sub(ENDS_MAX);
        self.ended.drain(..over);
    }

    /// Nothing is to be remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.origin.is_none() && self.ended.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_ends_are_left_out_and_none_is_kept_twice() {
        let mut untold = Untold::default();
        for number in 0..=250 {
            untold.end(EndpointToken([number; 20]));
            untold.end(EndpointToken([number; 20]));
        }
        assert_eq!(untold.ended.len(), ENDS_MAX);
        assert_eq!(untold.ended[0], EndpointToken([1; 20]));
    }
}
