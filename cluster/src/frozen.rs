//! The state of a group as it was at one moment, to be encoded later: see [`nightjar_broker::shard::Frozen`].

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use nightjar_broker::shard::{Frozen, FrozenRetained};

use crate::inner::Core;
use crate::log::Groups;
use crate::meta::Meta;

/// The state of one group.
#[derive(Debug)]
pub(crate) enum FrozenGroup {
    Sessions(Frozen),
    Retained(FrozenRetained),
    /// Named values are few: here they are encoded.
    Meta(Vec<u8>),
}

impl FrozenGroup {
    /// Of named values.
    pub fn of_meta(meta: &Meta) -> Self {
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        Self::Meta(bytes)
    }

    /// What the group encodes, in parts that follow each other.
    pub fn into_parts(self) -> Vec<Vec<u8>> {
        match self {
            Self::Sessions(shard) => shard.parts().into(),
            Self::Retained(shard) => {
                let mut bytes = Vec::new();
                shard.encode(&mut bytes);
                vec![bytes]
            }
            Self::Meta(bytes) => vec![bytes],
        }
    }

    /// A digest, the same on all replicas that applied the same entries.
    pub fn digest(&self) -> u64 {
        match self {
            Self::Sessions(shard) => shard.digest(),
            Self::Retained(shard) => shard.digest(),
            Self::Meta(bytes) => FixedState::default().hash_one(&bytes[..]),
        }
    }
}

impl Core {
    /// The state of a group as it is now.
    pub fn freeze_group(&self, group: u16) -> FrozenGroup {
        let Groups { sessions, .. } = self.groups;
        if group < sessions {
            let state = self.sessions[usize::from(group)].state.lock();
            FrozenGroup::Sessions(state.shard.freeze())
        } else if group < self.groups.meta() {
            let state = self.retained[usize::from(group - sessions)].state.read();
            FrozenGroup::Retained(state.0.freeze())
        } else {
            FrozenGroup::of_meta(&self.meta.read().0)
        }
    }

    /// The state of all groups. All of it is of one moment if the caller is the only one who applies entries.
    pub fn freeze(&self) -> Vec<FrozenGroup> {
        let groups = 0..self.groups.count() as u16;
        groups.map(|group| self.freeze_group(group)).collect()
    }
}
