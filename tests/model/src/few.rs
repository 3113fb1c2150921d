//! A list of a few items without a heap: states are copied and hashed by the million.

use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};

/// At most N items. Unused places hold the default, so that equal lists compare equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Few<T, const N: usize> {
    length: u8,
    items: [T; N],
}

impl<T: Copy + Default, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Few { length: 0, items: [T::default(); N] }
    }
}

impl<T: Copy + Default, const N: usize> Few<T, N> {
    /// Adds an item.
    ///
    /// # Panics
    /// Where there are N already: the bounds of a run admit no more.
    pub fn push(&mut self, item: T) {
        self.items[usize::from(self.length)] = item;
        self.length += 1;
    }

    /// Keeps the first `keep` items.
    pub fn truncate(&mut self, keep: usize) {
        while self.len() > keep {
            self.length -= 1;
            self.items[usize::from(self.length)] = T::default();
        }
    }
}

impl<T: Hash, const N: usize> Hash for Few<T, N> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self[..].hash(hasher);
    }
}

impl<T, const N: usize> Deref for Few<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items[..usize::from(self.length)]
    }
}

impl<T, const N: usize> DerefMut for Few<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items[..usize::from(self.length)]
    }
}
