//! How much is on its way to one device, for rooms whose clients say no window of their own.

use std::collections::HashMap;

use super::{Item, Window};
use crate::model::MessageId;

/// The messages on their way to one device, and how many bytes of bodies they are.
#[derive(Debug, Default)]
pub(super) struct Flying {
    bytes: usize,
    sizes: HashMap<MessageId, usize>,
}

impl Flying {
    /// Whether all of `items` fit into what `window` leaves.
    pub(super) fn has_room(&self, window: Window, items: &[Item]) -> bool {
        let added: usize = items.iter().map(|item| item.message.body.len()).sum();
        // One message always goes, however large, or it would wait for ever.
        let alone = self.sizes.is_empty() && items.len() == 1;
        self.sizes.len() + items.len() <= usize::from(window.messages)
            && (alone || self.bytes + added <= window.bytes as usize)
    }

    /// A message starts, or starts again.
    pub(super) fn start(&mut self, item: &Item) {
        let size = item.message.body.len();
        self.bytes += size;
        self.bytes -= self.sizes.insert(item.message.id, size).unwrap_or_default();
    }

    /// These take no room any more.
    pub(super) fn land(&mut self, ids: &[MessageId]) {
        for id in ids {
            self.bytes -= self.sizes.remove(id).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::DeviceId, transport::battery::item};

    const WINDOW: Window = Window { bytes: 10, messages: 2 };

    #[test]
    fn one_message_larger_than_the_window_goes_alone() {
        let large = [item(DeviceId(1), 1, &[0; 11])];
        let small = [item(DeviceId(1), 2, b"x")];
        let mut flying = Flying::default();
        assert!(flying.has_room(WINDOW, &large));
        flying.start(&small[0]);
        assert!(!flying.has_room(WINDOW, &large));
        flying.land(&[MessageId(2)]);
        assert!(flying.has_room(WINDOW, &large));
        flying.start(&large[0]);
        assert!(!flying.has_room(WINDOW, &small));
    }

    #[test]
    fn what_starts_again_is_counted_once() {
        let item = item(DeviceId(1), 1, &[0; 5]);
        let mut flying = Flying::default();
        flying.start(&item);
        flying.start(&item);
        assert!(flying.has_room(WINDOW, &[item]));
        flying.land(&[MessageId(1), MessageId(1)]);
        assert_eq!(flying.bytes, 0);
    }
}
