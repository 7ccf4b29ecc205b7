//! Who may want a topic, without asking everybody.

use std::collections::{BTreeSet, HashMap};

/// Clients by what their filters begin with: the levels before the first wildcard.
#[derive(Debug, Default)]
pub(super) struct Interest(HashMap<Box<str>, HashMap<Box<str>, usize>>);

impl Interest {
    /// A client has subscribed.
    pub(super) fn add(&mut self, filter: &str, name: &str) {
        let clients = self.0.entry(beginning(filter).into()).or_default();
        *clients.entry(name.into()).or_default() += 1;
    }

    /// A client's subscription has ended.
    pub(super) fn remove(&mut self, filter: &str, name: &str) {
        let Some(clients) = self.0.get_mut(beginning(filter)) else { return };
        if let Some(subscriptions) = clients.get_mut(name) {
            *subscriptions -= 1;
            if *subscriptions == 0 {
                clients.remove(name);
            }
        }
        if clients.is_empty() {
            self.0.remove(beginning(filter));
        }
    }

    /// Each client with a filter that begins as this topic does.
    pub(super) fn of(&self, topic: &str) -> BTreeSet<&str> {
        let levels = topic.match_indices('/').map(|(end, _)| &topic[..end]);
        let beginnings = std::iter::once("").chain(levels).chain([topic]);
        beginnings
            .filter_map(|beginning| self.0.get(beginning))
            .flat_map(HashMap::keys)
            .map(|name| &**name)
            .collect()
    }
}

/// `a/b` of `a/b/+/c` and of `a/b/#`, nothing of `#`; all of a filter without wildcards.
fn beginning(filter: &str) -> &str {
    match filter.find(['+', '#']) {
        Some(wildcard) => filter[..wildcard].trim_end_matches('/'),
        None => filter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_want_a_topic_is_found_as_long_as_it_is_subscribed() {
        let filters = ["#", "+", "+/b", "/+", "//#", "a", "a/#", "a/+", "a/b", "a/b/#", "b/#", "a//+"];
        let mut interest = Interest::default();
        for filter in filters {
            interest.add(filter, filter);
            interest.add(filter, filter);
        }
        let found = |interest: &Interest, topic| {
            interest.of(topic).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            found(&interest, "a/b"),
            ["#", "+", "+/b", "/+", "//#", "a", "a/#", "a/+", "a//+", "a/b", "a/b/#"]
        );
        assert_eq!(found(&interest, "b"), ["#", "+", "+/b", "/+", "//#", "b/#"]);
        for topic in ["", "/", "/a", "a", "a/", "a//b", "a/b/c", "b/a"] {
            let found = interest.of(topic);
            for filter in filters {
                assert!(
                    !crate::transport::mqtt::wire::overlaps(filter, topic) || found.contains(filter),
                    "{filter} {topic}"
                );
            }
        }
        for filter in filters {
            interest.remove(filter, filter);
        }
        assert!(interest.of("a").contains("a"), "it had subscribed twice");
        for filter in filters {
            interest.remove(filter, filter);
        }
        assert!(interest.0.is_empty(), "nothing is kept of it");
    }
}
