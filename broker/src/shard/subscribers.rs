//! Who in a shard subscribed to one filter: a short list for most filters; for those with many, a place for each
//! session too, so that one of a hundred thousand leaves without a search.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::subscription::Subscription;

/// A longer list keeps places.
const LIST_MAX: usize = 64;

/// Slots with their subscription. The order is that of the entries applied, the same on every replica.
#[derive(Debug, Default)]
pub(super) enum Subscribers {
    #[default]
    None,
    /// Most filters have one: 16 bytes.
    One((u32, Subscription)),
    Many(Box<Many>),
}

/// More than one.
#[derive(Debug, Default)]
pub(super) struct Many {
    list: Vec<(u32, Subscription)>,
    places: Option<HashMap<u32, u32, FixedState>>,
}

impl Subscribers {
    pub const fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(u32, Subscription)> {
        match self {
            Self::None => [].iter(),
            Self::One(one) => std::slice::from_ref(one).iter(),
            Self::Many(many) => many.list.iter(),
        }
    }

    /// Adds or replaces; `new` if the slot is known not to be there.
    pub fn put(&mut self, slot: u32, sub: Subscription, new: bool) {
        match self {
            Self::None => *self = Self::One((slot, sub)),
            Self::One(one) if one.0 == slot => one.1 = sub,
            Self::One(one) => {
                *self = Self::Many(Box::new(Many {
                    list: vec![*one, (slot, sub)],
                    places: None,
                }));
            }
            Self::Many(many) => many.put(slot, sub, new),
        }
    }

    pub fn remove(&mut self, slot: u32) {
        match self {
            Self::One(one) if one.0 == slot => *self = Self::None,
            Self::None | Self::One(_) => {}
            Self::Many(many) => {
                many.remove(slot);
                if let [one] = *many.list {
                    *self = Self::One(one);
                }
            }
        }
    }
}

impl Many {
    fn place(&self, slot: u32) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(&slot).map(|at| *at as usize),
            None => self.list.iter().position(|(have, _)| *have == slot),
        }
    }

    fn put(&mut self, slot: u32, sub: Subscription, new: bool) {
        if !new && let Some(at) = self.place(slot) {
            self.list[at].1 = sub;
            return;
        }
        self.list.push((slot, sub));
        let last = self.list.len() - 1;
        if let Some(places) = &mut self.places {
            places.insert(slot, last as u32);
        } else if self.list.len() > LIST_MAX {
            let all = self.list.iter().enumerate();
            self.places = Some(all.map(|(at, (slot, _))| (*slot, at as u32)).collect());
        }
    }

    fn remove(&mut self, slot: u32) {
        let Some(at) = self.place(slot) else { return };
        self.list.swap_remove(at);
        if let Some(places) = &mut self.places {
            places.remove(&slot);
            if let Some((moved, _)) = self.list.get(at) {
                places.insert(*moved, at as u32);
            }
            if self.list.len() <= LIST_MAX / 2 {
                self.places = None;
                self.list.shrink_to_fit();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nightjar_mqtt::QoS;
    use proptest::prelude::*;

    use super::*;
    use crate::subscription::SubOptions;

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(steps in prop::collection::vec((0u32..150, any::<bool>(), 1u32..9), 0..600)) {
            let mut subscribers = Subscribers::default();
            let mut model = BTreeMap::new();
            for (slot, put, id) in steps {
                let sub = Subscription { options: SubOptions::new(QoS::AtLeastOnce), id };
                if put {
                    let new = model.insert(slot, sub).is_none();
                    subscribers.put(slot, sub, new && id % 2 == 0);
                } else {
                    model.remove(&slot);
                    subscribers.remove(slot);
                }
                prop_assert_eq!(subscribers.is_empty(), model.is_empty());
            }
            let mut found: Vec<_> = subscribers.iter().copied().collect();
            found.sort_by_key(|(slot, _)| *slot);
            prop_assert_eq!(found, model.into_iter().collect::<Vec<_>>());
        }
    }

    /// By steps, not by time: each of many that leave is found by its place.
    #[test]
    fn many_leave_one_filter_without_a_search() {
        let mut subscribers = Subscribers::default();
        let sub = Subscription {
            options: SubOptions::new(QoS::AtLeastOnce),
            id: 0,
        };
        for slot in 0..200_000 {
            subscribers.put(slot, sub, true);
        }
        let Subscribers::Many(many) = &subscribers else {
            panic!("it holds many");
        };
        assert!(many.places.is_some());
        // Forty thousand million comparisons, if each were searched for.
        for slot in 0..200_000 {
            subscribers.remove(slot);
        }
        assert!(subscribers.is_empty());
        assert_eq!(size_of::<Subscribers>(), 16);
    }
}
