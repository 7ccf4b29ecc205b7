//! How long a batch waits for what its messages may not need.
//!
//! What a device acknowledges before it was written is never written. How soon devices acknowledge, and how long
//! a write takes, is learnt from what happens: the head start doubles when an acknowledgement came during the write
//! that followed it, so that waiting a little longer would have saved something, and is halved when none did. Who is
//! away, or acknowledges later than a write would have taken, is not waited for.

use std::time::Duration;

/// The least: delivery has begun and needs the same few cores as the write.
const LEAST: Duration = Duration::from_micros(100);
/// The most.
const MOST: Duration = Duration::from_millis(10);
/// For how many messages, one after the other, a batch waits: each was acknowledged in its time but the last.
const TURNS: u32 = 4;

/// The head start of delivery before the write.
#[derive(Debug)]
pub(super) struct HeadStart {
    length: Duration,
    turns: u32,
    /// The oldest message that waited for the batch when its turn began.
    waited_for: Option<u64>,
}

impl Default for HeadStart {
    fn default() -> Self {
        Self { length: LEAST, turns: 0, waited_for: None }
    }
}

impl HeadStart {
    /// How long a batch whose oldest message is `first` is to wait (again). Only after a rest: under load, what
    /// comes during one write is the next batch.
    pub(super) fn next(&mut self, rested: bool, first: Option<u64>) -> Option<Duration> {
        let goes_on = self.turns > 0 && self.turns < TURNS && first.is_some() && first != self.waited_for;
        if !rested && !goes_on {
            return None;
        }
        self.turns = if rested { 1 } else { self.turns + 1 };
        self.waited_for = first;
        Some(if first.is_some() { self.length } else { LEAST })
    }

    /// A batch was written; `acked`: something of it was acknowledged meanwhile.
    pub(super) fn written(&mut self, acked: bool) {
        // Without a head start there is nothing to learn about it; nor where no message had one.
        if std::mem::take(&mut self.turns) > 0 && self.waited_for.is_some() {
            self.length = (if acked { self.length * 2 } else { self.length / 2 }).clamp(LEAST, MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One message after a rest, by a device and a disk that take so long; whether it was written.
    fn push(head: &mut HeadStart, acked_after: Duration, write: Duration) -> bool {
        let waited = head.next(true, Some(1)).expect("after a rest");
        if acked_after <= waited {
            return false;
        }
        assert_eq!(head.next(false, Some(1)), None, "it has had its time");
        head.written(acked_after <= waited + write);
        true
    }

    fn after_a_while(acked_after: Duration, write: Duration) -> (HeadStart, bool) {
        let mut head = HeadStart::default();
        let written = (0..20).map(|_| push(&mut head, acked_after, write)).last().expect("20");
        (head, written)
    }

    #[test]
    fn what_is_acknowledged_within_a_write_is_not_written_any_more() {
        for (acked, write) in [(50, 200), (250, 200), (5_000, 8_000), (9_000, 30_000)] {
            let [acked, write] = [acked, write].map(Duration::from_micros);
            let (head, written) = after_a_while(acked, write);
            assert!(!written, "{acked:?} {write:?}");
            assert!(head.length < acked.max(LEAST) * 2, "no longer than it helps: {:?}", head.length);
        }
    }

    #[test]
    fn who_acknowledges_late_or_never_is_not_waited_for() {
        for (acked, write) in [(20_000, 200), (80_000, 30_000), (u64::MAX, 30_000)] {
            let [acked, write] = [acked, write].map(Duration::from_micros);
            let (head, written) = after_a_while(acked, write);
            assert!(written && head.length == LEAST, "{acked:?} {write:?}: {:?}", head.length);
        }
    }

    #[test]
    fn a_batch_waits_on_for_the_next_message_while_the_first_are_acknowledged() {
        let mut head = HeadStart::default();
        assert_eq!(head.next(true, Some(1)), Some(LEAST));
        assert_eq!(head.next(false, Some(2)), Some(LEAST), "1 was acknowledged");
        assert_eq!(head.next(false, Some(2)), None);
        head.written(false);
        assert_eq!(head.next(false, Some(3)), None, "what came during a write is the next batch");
        let turns = (1..).map_while(|first| head.next(first == 1, Some(first))).count();
        assert_eq!(turns, usize::try_from(TURNS).expect("small"), "nobody waits for ever");
    }

    #[test]
    fn what_is_no_message_waits_only_a_moment() {
        let (mut head, _) = after_a_while(Duration::from_millis(5), Duration::from_millis(8));
        let learnt = head.length;
        assert!(learnt > LEAST);
        assert_eq!(head.next(true, None), Some(LEAST));
        assert_eq!(head.next(false, None), None);
        head.written(false);
        assert_eq!(head.length, learnt, "nothing is learnt of it");
    }
}
