//! A shared subscription on this node: one message goes to one member.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use nightjar_mqtt::TopicFilter;
use parking_lot::Mutex;

use crate::handle::SessionHandle;
use crate::message::Message;
use crate::settings::SharedStrategy;
use crate::subscription::Subscription;

/// A member of a shared subscription.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its session.
    pub handle: Arc<SessionHandle>,
    /// Its options.
    pub sub: Subscription,
}

/// Whose turn it is.
#[derive(Debug, Clone)]
pub enum Turn {
    /// This member, on this node.
    Member(Member),
    /// A member on that node, which chooses among its own.
    Node(u64),
}

/// A shared subscription: `$share/<name>/<filter>` [MQTT-4.8.2-1].
#[derive(Debug)]
pub struct Group {
    name: Box<str>,
    filter: TopicFilter,
    strategy: SharedStrategy,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    members: Vec<Member>,
    /// Other nodes with so many members each, in the order of their numbers.
    nodes: Vec<(u64, u32)>,
    /// Durable shards with members: the group stays while there is one, though nobody knows a node for it now.
    shards: Vec<u16>,
    /// Number of this node.
    here: u64,
    next: usize,
    sticky: Option<Arc<SessionHandle>>,
    random: u64,
}

impl State {
    const fn is_empty(&self) -> bool {
        self.members.is_empty() && self.nodes.is_empty() && self.shards.is_empty()
    }
}

impl Group {
    /// An empty group.
    #[must_use]
    pub fn new(name: &str, filter: TopicFilter, strategy: SharedStrategy) -> Self {
        Self {
            name: name.into(),
            filter,
            strategy,
            state: Mutex::default(),
        }
    }

    /// Share name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Topic filter behind the share name.
    #[must_use]
    pub const fn filter(&self) -> &TopicFilter {
        &self.filter
    }

    /// Adds or replaces a member.
    pub fn join(&self, handle: &Arc<SessionHandle>, sub: Subscription) {
        let mut state = self.state.lock();
        match state
            .members
            .iter_mut()
            .find(|member| Arc::ptr_eq(&member.handle, handle))
        {
            Some(member) => member.sub = sub,
            None => state.members.push(Member {
                handle: handle.clone(),
                sub,
            }),
        }
    }

    /// Removes a member; true if none is left.
    pub fn leave(&self, handle: &Arc<SessionHandle>) -> bool {
        let mut state = self.state.lock();
        state
            .members
            .retain(|member| !Arc::ptr_eq(&member.handle, handle));
        if state
            .sticky
            .as_ref()
            .is_some_and(|sticky| Arc::ptr_eq(sticky, handle))
        {
            state.sticky = None;
        }
        state.is_empty()
    }

    /// A durable shard has its first member of this group, wherever in the cluster its session is.
    pub(super) fn add_shard(&self, shard: u16) {
        let mut state = self.state.lock();
        if !state.shards.contains(&shard) {
            state.shards.push(shard);
        }
    }

    /// A durable shard lost its last member; true if nobody is left at all.
    pub(super) fn remove_shard(&self, shard: u16) -> bool {
        let mut state = self.state.lock();
        state.shards.retain(|have| *have != shard);
        state.is_empty()
    }

    /// Has it members whose sessions stay? While such a session moves between nodes it may be that no node is known.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        !self.state.lock().shards.is_empty()
    }

    /// Another node has so many members; true if nobody is left at all. `here` is the number of this node.
    pub fn set_node(&self, node: u64, here: u64, members: u32) -> bool {
        let mut state = self.state.lock();
        state.here = here;
        match state.nodes.binary_search_by_key(&node, |(have, _)| *have) {
            Ok(at) if members == 0 => {
                state.nodes.remove(at);
            }
            Ok(at) => state.nodes[at].1 = members,
            Err(_) if members == 0 => {}
            Err(at) => state.nodes.insert(at, (node, members)),
        }
        state.is_empty()
    }

    /// Whose turn it is for this message.
    #[must_use]
    pub fn pick(&self, message: &Message) -> Option<Turn> {
        let mut state = self.state.lock();
        if state.nodes.is_empty() {
            let at = self.turn(&mut state, message)?;
            return state.members.get(at).cloned().map(Turn::Member);
        }
        if self.strategy == SharedStrategy::Local
            && state
                .members
                .iter()
                .any(|member| member.handle.is_connected())
        {
            let at = self.turn(&mut state, message)?;
            return state.members.get(at).cloned().map(Turn::Member);
        }
        // All members in one row, node by node in the order of numbers, so that every node counts alike.
        let others: usize = state.nodes.iter().map(|(_, count)| *count as usize).sum();
        let len = state.members.len() + others;
        if let (SharedStrategy::Sticky, Some(_)) = (self.strategy, &state.sticky) {
            let at = self.turn(&mut state, message)?;
            return state.members.get(at).cloned().map(Turn::Member);
        }
        let mut at = self.turn_of(&mut state, message, len)?;
        let (here, own) = (state.here, state.members.len());
        let before = state.nodes.partition_point(|(node, _)| *node < here);
        for (n, (node, count)) in state.nodes.iter().enumerate() {
            if n == before {
                if at < own {
                    break;
                }
                at -= own;
            }
            let count = *count as usize;
            if at < count {
                return Some(Turn::Node(*node));
            }
            at -= count;
        }
        state.members.get(at).cloned().map(Turn::Member)
    }

    /// The member of this node whose turn it is.
    #[must_use]
    pub fn pick_here(&self, message: &Message) -> Option<Member> {
        let by_key = matches!(
            self.strategy,
            SharedStrategy::HashClientId | SharedStrategy::HashTopic
        );
        // The same key leads to the same member, whichever node it came from.
        if by_key && let Some(Turn::Member(member)) = self.pick(message) {
            return Some(member);
        }
        let mut state = self.state.lock();
        let at = self.turn(&mut state, message)?;
        state.members.get(at).cloned()
    }

    /// Another node with members, if there is one.
    #[must_use]
    pub fn another_node(&self) -> Option<u64> {
        self.state.lock().nodes.first().map(|(node, _)| *node)
    }

    /// All members in the order in which they are tried after [`Self::pick`]'s could not take the message:
    /// connected ones first.
    #[must_use]
    pub fn others(&self, first: &Arc<SessionHandle>) -> Vec<Member> {
        let members = self.members();
        let at = members
            .iter()
            .position(|member| Arc::ptr_eq(&member.handle, first))
            .unwrap_or(0);
        let len = members.len();
        let mut order: Vec<Member> = (0..len).map(|n| members[(at + n) % len].clone()).collect();
        order.sort_by_key(|member| !member.handle.is_connected());
        order
    }

    fn turn(&self, state: &mut State, message: &Message) -> Option<usize> {
        let len = state.members.len();
        self.turn_of(state, message, len)
    }

    fn turn_of(&self, state: &mut State, message: &Message, len: usize) -> Option<usize> {
        if len == 0 {
            return None;
        }
        Some(match self.strategy {
            SharedStrategy::RoundRobin | SharedStrategy::Local => {
                state.next = (state.next + 1) % len;
                state.next
            }
            SharedStrategy::Random => {
                // xorshift64*: which member gets a message is no secret.
                let mut x = state.random | 1;
                x ^= x >> 12;
                x ^= x << 25;
                x ^= x >> 27;
                state.random = x;
                (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % len
            }
            SharedStrategy::Sticky => state
                .sticky
                .as_ref()
                .and_then(|sticky| {
                    state
                        .members
                        .iter()
                        .position(|member| Arc::ptr_eq(&member.handle, sticky))
                })
                .unwrap_or(0),
            SharedStrategy::HashClientId => {
                let publisher = message.head().publisher.as_deref().unwrap_or_default();
                (FixedState::default().hash_one(publisher) % len as u64) as usize
            }
            SharedStrategy::HashTopic => {
                (FixedState::default().hash_one(message.topic().as_str()) % len as u64) as usize
            }
        })
    }

    /// Remembers the member that took a message, for `sticky`.
    pub fn chosen(&self, handle: &Arc<SessionHandle>) {
        if self.strategy == SharedStrategy::Sticky {
            self.state.lock().sticky = Some(handle.clone());
        }
    }

    /// The members.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.state.lock().members.clone()
    }
}
