//! The rows of one table by id, and at each id the links by which other rows are found from it.
//!
//! A link may be there before the row it hangs on: partitions hold children whose parents were loaded later. So a node
//! is there while it holds a row or a link, and nobody asks in which order the rows came.
//!
//! Ids are found by hash, not in a tree: authorising follows a dozen of them. The map is never iterated; whoever needs
//! an order sorts the slots.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use penstock_wire::position::Position;
use uuid::Uuid;

/// A row and the position of its version.
#[derive(Clone, Debug)]
pub(crate) struct Held<R> {
    pub(crate) row: R,
    pub(crate) position: Position,
}

/// What hangs on an id of one table.
pub(crate) trait Links: Default {
    /// Nothing hangs on it.
    fn is_empty(&self) -> bool;
}

#[derive(Debug)]
pub(crate) struct Node<R, L> {
    pub(crate) held: Option<Held<R>>,
    pub(crate) links: L,
}

/// See the module's documentation.
pub(crate) struct Nodes<R, L> {
    slot_of: SlotOf,
    slots: Vec<Option<(Uuid, Node<R, L>)>>,
    free: Vec<u32>,
    rows: usize,
}

// Looked up, never iterated: see the module's documentation.
#[allow(clippy::disallowed_types)]
type SlotOf = std::collections::HashMap<Uuid, u32, BuildHasherDefault<IdHasher>>;

impl<R, L: Links> Nodes<R, L> {
    /// The row with its position.
    #[inline]
    pub(crate) fn held(&self, id: Uuid) -> Option<&Held<R>> {
        self.node(id)?.held.as_ref()
    }

    /// The row.
    #[inline]
    pub(crate) fn row(&self, id: Uuid) -> Option<&R> {
        Some(&self.held(id)?.row)
    }

    #[inline]
    pub(crate) fn held_mut(&mut self, id: Uuid) -> Option<&mut Held<R>> {
        let slot = *self.slot_of.get(&id)?;
        self.slots[slot as usize].as_mut()?.1.held.as_mut()
    }

    /// The links, where there are any or a row is.
    #[inline]
    pub(crate) fn links(&self, id: Uuid) -> Option<&L> {
        Some(&self.node(id)?.links)
    }

    /// Row and links together.
    #[inline]
    pub(crate) fn node(&self, id: Uuid) -> Option<&Node<R, L>> {
        let slot = *self.slot_of.get(&id)?;
        self.slots[slot as usize].as_ref().map(|(_, node)| node)
    }

    /// How many rows are held.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Puts a row in the place of the one that was there.
    pub(crate) fn put(&mut self, id: Uuid, row: R, position: Position) -> Option<Held<R>> {
        let old = self.node_mut(id).held.replace(Held { row, position });
        self.rows += usize::from(old.is_none());
        old
    }

    /// Takes a row out; its links stay.
    pub(crate) fn take(&mut self, id: Uuid) -> Option<Held<R>> {
        let slot = *self.slot_of.get(&id)?;
        let old = self.slots[slot as usize].as_mut()?.1.held.take();
        self.rows -= usize::from(old.is_some());
        self.release(id, slot);
        old
    }

    /// Changes the links of an id, whether its row is there or not.
    pub(crate) fn change_links(&mut self, id: Uuid, change: impl FnOnce(&mut L)) {
        change(&mut self.node_mut(id).links);
        let slot = self.slot_of[&id];
        self.release(id, slot);
    }

    /// The rows in id order.
    pub(crate) fn in_order(&self) -> Vec<(Uuid, &Held<R>)> {
        let mut rows: Vec<_> =
            self.slots.iter().flatten().filter_map(|(id, node)| Some((*id, node.held.as_ref()?))).collect();
        rows.sort_unstable_by_key(|(id, _)| *id);
        rows
    }

    /// The links of all ids in id order, whether their rows are there or not.
    pub(crate) fn all_links(&self) -> Vec<(Uuid, &L)> {
        let mut nodes: Vec<_> = self.slots.iter().flatten().map(|(id, node)| (*id, &node.links)).collect();
        nodes.sort_unstable_by_key(|(id, _)| *id);
        nodes
    }

    fn node_mut(&mut self, id: Uuid) -> &mut Node<R, L> {
        let slot = match self.slot_of.get(&id) {
            Some(slot) => *slot,
            None => {
                let slot = self.free.pop().unwrap_or_else(|| {
                    // Growing by an eighth, not by twice: tables are large, and grow seldom.
                    if self.slots.len() == self.slots.capacity() {
                        self.slots.reserve_exact(4 + self.slots.len() / 8);
                    }
                    self.slots.push(None);
                    u32::try_from(self.slots.len() - 1).expect("fewer than four billion rows of an account")
                });
                self.slots[slot as usize] = Some((id, Node { held: None, links: L::default() }));
                self.slot_of.insert(id, slot);
                slot
            }
        };
        let (_, node) = self.slots[slot as usize].as_mut().expect("a slot that an id has is taken");
        node
    }

    fn release(&mut self, id: Uuid, slot: u32) {
        let vacant =
            matches!(&self.slots[slot as usize], Some((_, node)) if node.held.is_none() && node.links.is_empty());
        if vacant {
            self.slots[slot as usize] = None;
            self.slot_of.remove(&id);
            self.free.push(slot);
        }
    }
}

impl<R, L> Default for Nodes<R, L> {
    fn default() -> Self {
        Self { slot_of: SlotOf::default(), slots: Vec::new(), free: Vec::new(), rows: 0 }
    }
}

impl<R, L> fmt::Debug for Nodes<R, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes").field("rows", &self.rows).field("nodes", &self.slot_of.len()).finish()
    }
}

impl Links for () {
    fn is_empty(&self) -> bool {
        true
    }
}

impl<T: Ord> Links for BTreeSet<T> {
    fn is_empty(&self) -> bool {
        BTreeSet::is_empty(self)
    }
}

impl<K: Ord, V> Links for BTreeMap<K, V> {
    fn is_empty(&self) -> bool {
        BTreeMap::is_empty(self)
    }
}

/// Random ids need little hashing; version 7 ids share their first half, so both halves count.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let mixed = (self.0.rotate_left(29) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    // The length in front of an id says nothing.
    fn write_usize(&mut self, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Nodes<u8, BTreeSet<Uuid>> {
        Nodes::default()
    }

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    #[test]
    fn links_come_before_rows_and_stay_behind_them() {
        let mut nodes = nodes();
        nodes.change_links(id(1), |links| assert!(links.insert(id(9))));
        assert!(nodes.row(id(1)).is_none());
        nodes.put(id(1), 7, Position::ZERO);
        assert!(nodes.links(id(1)).unwrap().contains(&id(9)));
        nodes.take(id(1));
        assert_eq!(nodes.len(), 0);
        assert!(nodes.links(id(1)).unwrap().contains(&id(9)));
    }

    #[test]
    fn nothing_is_left_of_an_id_that_has_neither_row_nor_link() {
        let mut nodes = nodes();
        for n in 0..1000 {
            nodes.put(id(n), 1, Position::ZERO);
            nodes.change_links(id(n), |links| assert!(links.insert(id(n))));
            nodes.take(id(n));
            nodes.change_links(id(n), |links| assert!(links.remove(&id(n))));
        }
        assert_eq!((nodes.slots.len(), nodes.slot_of.len(), nodes.len()), (1, 0, 0));
    }

    #[test]
    fn rows_are_listed_in_id_order() {
        let mut nodes = nodes();
        for n in [5, 1, 4, 2, 3] {
            nodes.put(id(n), u8::try_from(n).unwrap(), Position::ZERO);
        }
        let listed: Vec<u8> = nodes.in_order().iter().map(|(_, held)| held.row).collect();
        assert_eq!(listed, [1, 2, 3, 4, 5]);
    }
}
