//! [`Routes`]: which connection a packet is for, by the connection ID that it carries.

use std::collections::HashMap;

use crate::cid::Cid;

/// The connection IDs in use on one worker, and the slots of their connections.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    slots: HashMap<Cid, usize>,
    /// The IDs of each connection, which are few: the end of one costs nothing of the others.
    ids: HashMap<usize, Vec<Cid>>,
}

impl Routes {
    /// The connection that has `id`.
    pub(crate) fn get(&self, id: &Cid) -> Option<usize> {
        self.slots.get(id).copied()
    }

    /// From here on `id` is one of the connection at `slot`.
    pub(crate) fn insert(&mut self, id: Cid, slot: usize) {
        // An ID that a client has chosen may be that of another connection already.
        self.remove(&id);
        self.slots.insert(id, slot);
        self.ids.entry(slot).or_default().push(id);
    }

    /// From here on `id` is nobody's.
    pub(crate) fn remove(&mut self, id: &Cid) {
        if let Some(slot) = self.slots.remove(id)
            && let Some(ids) = self.ids.get_mut(&slot)
        {
            ids.retain(|other| other != id);
        }
    }

    /// Forgets the connection at `slot`.
    pub(crate) fn forget(&mut self, slot: usize) {
        for id in self.ids.remove(&slot).unwrap_or_default() {
            self.slots.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_leaves_nothing_and_others_alone() {
        let mut routes = Routes::default();
        let ids: Vec<_> = (0..12).map(|_| Cid::random(0)).collect();
        for (index, id) in ids.iter().enumerate() {
            routes.insert(*id, index % 3);
        }
        routes.remove(&ids[0]);
        routes.insert(ids[1], 2);
        routes.forget(0);
        let found: Vec<_> = ids.iter().map(|id| routes.get(id)).collect();
        let (one, two) = (Some(1), Some(2));
        let expected = [
            None, two, two, None, one, two, None, one, two, None, one, two,
        ];
        assert_eq!(found, expected);
        // The slot is the next one's.
        routes.insert(ids[0], 0);
        routes.forget(1);
        routes.forget(2);
        assert_eq!((routes.slots.len(), routes.ids.len()), (1, 1));
        routes.forget(0);
        assert!(routes.slots.is_empty() && routes.ids.is_empty());
    }
}
