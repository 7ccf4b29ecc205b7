//! A map by message number that takes hardly more memory than what is in it.
//!
//! Numbers are given out in order, so that what comes is nearly always the last. A B-tree of the standard
//! library leaves each node half empty then; here every block is full but the last. Tens of thousands of
//! messages may wait on a board that has little memory, and each of them is in several such maps.

#[cfg(test)]
mod tests;

use std::{cmp::Ordering, collections::VecDeque};

/// Entries of a full block.
const BLOCK: usize = 128;

/// A sorted map. `S` is what is known of each block without looking at its entries.
#[derive(Clone, Debug)]
pub struct Numbered<T, S = ()> {
    /// In order, none of them empty.
    blocks: VecDeque<Block<T, S>>,
}

#[derive(Clone, Debug)]
struct Block<T, S> {
    /// In order.
    entries: Vec<(u64, T)>,
    sum: S,
}

/// What is known of a block of entries, computed anew whenever they change.
pub trait Sum<T> {
    /// Of these, which are at least one.
    fn of(entries: &[(u64, T)]) -> Self;
}

impl<T> Sum<T> for () {
    fn of(_: &[(u64, T)]) {}
}

impl<T, S> Default for Numbered<T, S> {
    fn default() -> Self {
        Self { blocks: VecDeque::new() }
    }
}

impl<T: PartialEq, S> PartialEq for Numbered<T, S> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: Eq, S> Eq for Numbered<T, S> {}

impl<T, S> Numbered<T, S> {
    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Whether something has this number.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    /// What has this number.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&T> {
        let entries = &self.blocks.get(self.block_of(number)?)?.entries;
        let place = entries.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        entries.get(place).map(|(_, value)| value)
    }

    /// Everything, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.blocks.iter().flat_map(|block| &block.entries).map(|(number, value)| (*number, value))
    }

    /// The blocks, in order: what is known of each, and its entries.
    pub fn blocks(&self) -> impl Iterator<Item = (&S, &[(u64, T)])> {
        self.blocks.iter().map(|block| (&block.sum, block.entries.as_slice()))
    }

    /// The last block that begins at or before a number: the only one in which it can be.
    fn block_of(&self, number: u64) -> Option<usize> {
        let begins_by =
            |block: &Block<T, S>| block.entries.first().is_some_and(|(first, _)| *first <= number);
        match self.blocks.back() {
            // Nearly always: what comes is the last.
            Some(last) if begins_by(last) => Some(self.blocks.len() - 1),
            Some(_) | None => self.blocks.partition_point(begins_by).checked_sub(1),
        }
    }
}

impl<T, S: Sum<T>> Numbered<T, S> {
    /// Puts something in the place of whatever had this number, which is returned.
    pub fn insert(&mut self, number: u64, value: T) -> Option<T> {
        let at = self.block_of(number).unwrap_or_default();
        let Some(block) = self.blocks.get_mut(at) else {
            self.blocks.push_back(Block::new(vec![(number, value)]));
            return None;
        };
        let place = match block.entries.binary_search_by_key(&number, |(number, _)| *number) {
            Ok(place) => {
                let (_, old) = std::mem::replace(&mut block.entries[place], (number, value));
                block.sum = S::of(&block.entries);
                return Some(old);
            }
            Err(place) => place,
        };
        if block.entries.len() < BLOCK {
            block.entries.insert(place, (number, value));
            block.sum = S::of(&block.entries);
        } else if place == BLOCK {
            self.blocks.insert(at + 1, Block::new(vec![(number, value)]));
        } else {
            let mut upper = block.entries.split_off(BLOCK / 2);
            match place.cmp(&(BLOCK / 2)) {
                Ordering::Less | Ordering::Equal => block.entries.insert(place, (number, value)),
                Ordering::Greater => upper.insert(place - BLOCK / 2, (number, value)),
            }
            block.sum = S::of(&block.entries);
            self.blocks.insert(at + 1, Block::new(upper));
        }
        None
    }

    /// Takes out what has this number.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let at = self.block_of(number)?;
        let entries = &mut self.blocks.get_mut(at)?.entries;
        let place = entries.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        let (_, value) = entries.remove(place);
        self.tidy(at);
        Some(value)
    }

    /// Changes what has this number; `None`: nothing has it.
    pub fn change<R>(&mut self, number: u64, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        let at = self.block_of(number)?;
        let block = self.blocks.get_mut(at)?;
        let place = block.entries.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        let changed = change(&mut block.entries.get_mut(place)?.1);
        block.sum = S::of(&block.entries);
        Some(changed)
    }

    /// Changes everything.
    pub fn change_all(&mut self, mut change: impl FnMut(&mut T)) {
        for block in &mut self.blocks {
            block.entries.iter_mut().for_each(|(_, value)| change(value));
            block.sum = S::of(&block.entries);
        }
    }

    /// Gives back the memory of what has gone from a block: an empty one goes, and what is left of two
    /// neighbours is one.
    fn tidy(&mut self, at: usize) {
        let left = self.blocks[at].entries.len();
        if left == 0 {
            self.blocks.remove(at);
            return;
        }
        let is_small = |other: usize| {
            self.blocks.get(other).is_some_and(|other| other.entries.len() + left <= BLOCK / 2)
        };
        let before = at.checked_sub(1).filter(|before| is_small(*before));
        let into = before.or_else(|| is_small(at + 1).then_some(at)).filter(|_| left <= BLOCK / 4);
        if let Some(mut upper) = into.and_then(|into| self.blocks.remove(into + 1)) {
            self.blocks[into.unwrap_or(at)].entries.append(&mut upper.entries);
        }
        let block = &mut self.blocks[into.unwrap_or(at)];
        if block.entries.len() <= block.entries.capacity() / 4 {
            block.entries.shrink_to(block.entries.len() * 2);
        }
        block.sum = S::of(&block.entries);
    }
}

impl<T, S: Sum<T>> Block<T, S> {
    fn new(entries: Vec<(u64, T)>) -> Self {
        Self { sum: S::of(&entries), entries }
    }
}
