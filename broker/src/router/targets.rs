//! Who is behind one filter: kept at 16 bytes for the common case of one subscriber.

use std::sync::Arc;

use nightjar_mqtt::TopicFilter;

use super::group::Group;
use crate::handle::SessionHandle;
use crate::settings::SharedStrategy;
use crate::subscription::{SubOptions, Subscription};

/// One receiver behind a filter.
#[derive(Debug, Clone)]
pub enum Target {
    /// A session of this node. Of a durable session only deliveries of QoS 0 take this way.
    Session {
        /// Options of the subscription.
        options: SubOptions,
        /// Subscription Identifier; 0: none.
        id: u32,
        /// The session.
        handle: Arc<SessionHandle>,
    },
    /// A shard of the durable backend with subscriptions of QoS 1/2.
    Shard(u16),
    /// Subscribers of another node.
    Node {
        /// Does it want messages of QoS 1 and 2 by this way?
        acknowledged: bool,
        /// Its number.
        node: u64,
    },
    /// A shared subscription.
    Group(Arc<Group>),
}

/// All receivers behind one filter. Many are kept behind an `Arc`, so that a publisher takes them without copying
/// and without holding the router's lock.
#[derive(Debug, Clone, Default)]
pub enum Targets {
    /// Nobody.
    #[default]
    None,
    /// One.
    One(Target),
    /// More.
    Many(Arc<Vec<Target>>),
}

impl Targets {
    /// All of them.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[Target] {
        match self {
            Self::None => &[],
            Self::One(target) => std::slice::from_ref(target),
            Self::Many(targets) => targets,
        }
    }

    /// Is nobody left?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    fn push(&mut self, target: Target) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(target),
            Self::One(first) => Self::Many(Arc::new(vec![first, target])),
            Self::Many(mut targets) => {
                Arc::make_mut(&mut targets).push(target);
                Self::Many(targets)
            }
        };
    }

    fn remove_at(&mut self, index: usize) {
        *self = match std::mem::take(self) {
            Self::None | Self::One(_) => Self::None,
            Self::Many(mut targets) => {
                let list = Arc::make_mut(&mut targets);
                list.swap_remove(index);
                match list.len() {
                    0 => Self::None,
                    1 => Self::One(list.swap_remove(0)),
                    len => {
                        if list.capacity() > 64 && len * 4 < list.capacity() {
                            list.shrink_to(len * 2);
                        }
                        Self::Many(targets)
                    }
                }
            }
        };
    }

    fn position(&self, is: impl Fn(&Target) -> bool) -> Option<usize> {
        self.as_slice().iter().position(is)
    }

    fn set(&mut self, index: usize, target: Target) {
        match self {
            Self::Many(targets) => Arc::make_mut(targets)[index] = target,
            _ => *self = Self::One(target),
        }
    }

    /// Adds or replaces the subscription of a session.
    ///
    /// A session's place among thousands behind one filter is found by a scan; only a session that subscribes to a
    /// filter again, or leaves it, pays for that.
    pub(super) fn put_session(
        &mut self,
        handle: &Arc<SessionHandle>,
        sub: Subscription,
        existed: bool,
    ) {
        let target = Target::Session {
            options: sub.options,
            id: sub.id,
            handle: handle.clone(),
        };
        match if existed {
            self.position(|have| is_session(have, handle))
        } else {
            None
        } {
            Some(index) => self.set(index, target),
            None => self.push(target),
        }
    }

    pub(super) fn remove_session(&mut self, handle: &Arc<SessionHandle>) {
        if let Some(index) = self.position(|have| is_session(have, handle)) {
            self.remove_at(index);
        }
    }

    pub(super) fn add_shard(&mut self, shard: u16) {
        if self
            .position(|have| matches!(have, Target::Shard(s) if *s == shard))
            .is_none()
        {
            self.push(Target::Shard(shard));
        }
    }

    pub(super) fn remove_shard(&mut self, shard: u16) {
        if let Some(index) = self.position(|have| matches!(have, Target::Shard(s) if *s == shard)) {
            self.remove_at(index);
        }
    }

    pub(super) fn set_node(&mut self, node: u64, acknowledged: Option<bool>) {
        let at = self.position(|have| matches!(have, Target::Node { node: n, .. } if *n == node));
        match (at, acknowledged) {
            (Some(at), Some(acknowledged)) => self.set(at, Target::Node { acknowledged, node }),
            (None, Some(acknowledged)) => self.push(Target::Node { acknowledged, node }),
            (Some(at), None) => self.remove_at(at),
            (None, None) => {}
        }
    }

    pub(super) fn set_group_node(
        &mut self,
        name: &str,
        filter: &TopicFilter,
        strategy: SharedStrategy,
        (node, here): (u64, u64),
        members: u32,
    ) {
        if members == 0 && self.group(name).is_none() {
            return;
        }
        let group = self.group_or_insert(name, filter, strategy);
        if group.set_node(node, here, members)
            && let Some(index) = self.group(name)
        {
            self.remove_at(index);
        }
    }

    pub(super) fn remove_group_shard(&mut self, name: &str, shard: u16) {
        if let Some(index) = self.group(name)
            && let Target::Group(group) = &self.as_slice()[index]
            && group.remove_shard(shard)
        {
            self.remove_at(index);
        }
    }

    fn group(&self, name: &str) -> Option<usize> {
        self.position(|have| matches!(have, Target::Group(group) if group.name() == name))
    }

    pub(super) fn group_or_insert(
        &mut self,
        name: &str,
        filter: &TopicFilter,
        strategy: SharedStrategy,
    ) -> &Arc<Group> {
        let index = self.group(name).unwrap_or_else(|| {
            self.push(Target::Group(Arc::new(Group::new(
                name,
                filter.clone(),
                strategy,
            ))));
            self.as_slice().len() - 1
        });
        match &self.as_slice()[index] {
            Target::Group(group) => group,
            _ => unreachable!("the index was taken from a group"),
        }
    }

    pub(super) fn leave_group(&mut self, name: &str, handle: &Arc<SessionHandle>) {
        let Some(index) = self.group(name) else {
            return;
        };
        if let Target::Group(group) = &self.as_slice()[index]
            && group.leave(handle)
        {
            self.remove_at(index);
        }
    }
}

fn is_session(target: &Target, handle: &Arc<SessionHandle>) -> bool {
    matches!(target, Target::Session { handle: have, .. } if Arc::ptr_eq(have, handle))
}

#[cfg(test)]
mod tests {
    #[test]
    fn targets_stay_small() {
        assert_eq!(size_of::<super::Target>(), 16);
        assert_eq!(size_of::<super::Targets>(), 16);
    }
}
