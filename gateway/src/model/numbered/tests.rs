//! Against the standard library's map, step by step.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// The least value of a block.
#[derive(Clone, Debug, PartialEq)]
struct Least(u32);

impl Sum<u32> for Least {
    fn of(entries: &[(u64, u32)]) -> Self {
        Self(entries.iter().map(|(_, value)| *value).min().expect("no block is empty"))
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// One more at the end.
    Append(u32),
    Change(u64, u32),
    Insert(u64, u32),
    Remove(u64),
    /// Numbers from here on, so many.
    RemoveRun(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any::<u32>().prop_map(Step::Append),
        1 => (0..1500_u64, any::<u32>()).prop_map(|(number, value)| Step::Change(number, value)),
        4 => (0..1500_u64, any::<u32>()).prop_map(|(number, value)| Step::Insert(number, value)),
        4 => (0..1500_u64).prop_map(Step::Remove),
        1 => (0..1500_u64, 0..200_u64).prop_map(|(first, count)| Step::RemoveRun(first, count)),
    ]
}

fn check(map: &Numbered<u32, Least>, truth: &BTreeMap<u64, u32>) {
    assert!(map.iter().map(|(number, value)| (number, *value)).eq(truth.iter().map(|(n, v)| (*n, *v))));
    assert_eq!(map.is_empty(), truth.is_empty());
    for (sum, entries) in map.blocks() {
        assert!((1..=BLOCK).contains(&entries.len()), "{} entries", entries.len());
        assert_eq!(*sum, Least::of(entries));
    }
}

proptest! {
    #[test]
    fn it_is_a_sorted_map(steps in prop::collection::vec(step(), 1..1500)) {
        let (mut map, mut truth) = (Numbered::<u32, Least>::default(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Append(value) => {
                    let number = truth.last_key_value().map_or(0, |(last, _)| last + 1);
                    prop_assert_eq!(map.insert(number, value), truth.insert(number, value));
                }
                Step::Change(number, value) => {
                    let changed = truth.get_mut(&number).map(|known| std::mem::replace(known, value));
                    prop_assert_eq!(map.change(number, |known| std::mem::replace(known, value)), changed);
                }
                Step::Insert(number, value) => {
                    prop_assert_eq!(map.insert(number, value), truth.insert(number, value));
                    prop_assert_eq!(map.get(number), Some(&value));
                }
                Step::Remove(number) => {
                    prop_assert_eq!(map.remove(number), truth.remove(&number));
                    prop_assert!(!map.contains(number));
                }
                Step::RemoveRun(first, count) => {
                    for number in first..first + count {
                        prop_assert_eq!(map.remove(number), truth.remove(&number));
                    }
                }
            }
            check(&map, &truth);
        }
        map.change_all(|value| *value /= 2);
        truth.values_mut().for_each(|value| *value /= 2);
        check(&map, &truth);
    }
}

fn ten_thousand() -> Numbered<u32, Least> {
    let mut map = Numbered::default();
    for number in 0..10_000 {
        assert!(map.insert(number, 0).is_none());
    }
    map
}

/// Room for entries that are not there, and entries.
fn room(map: &Numbered<u32, Least>) -> (usize, usize) {
    let spare = |block: &Block<u32, Least>| block.entries.capacity() - block.entries.len();
    (map.blocks.iter().map(spare).sum(), map.iter().count())
}

#[test]
fn what_comes_in_order_leaves_no_room_in_between() {
    let map = ten_thousand();
    let (spare, _) = room(&map);
    assert!(spare < BLOCK, "room for {spare} more");
}

#[test]
fn what_has_gone_here_and_there_leaves_little_room() {
    let mut map = ten_thousand();
    for number in (0..10_000).filter(|number| number % 50 != 0) {
        assert!(map.remove(number).is_some());
    }
    let (spare, left) = room(&map);
    assert_eq!(left, 200);
    assert!(spare < 4 * left && map.blocks.len() < 20, "room for {spare}, in {} blocks", map.blocks.len());
}
