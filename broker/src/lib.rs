//! The routing backend of Nightjar: message model, sessions, router, retained messages, wills, limits and access.
//!
//! It knows no socket of a client and no wire format of a packet.
#![forbid(unsafe_code)]

pub mod access;
pub mod acl;
pub mod admin;
mod admission;
pub mod auth;
pub mod bans;
mod broker;
mod delivery;
pub mod filter_index;
mod handle;
mod held;
mod kept;
mod lazy;
pub mod limits;
mod mesh;
mod message;
pub mod meta;
mod metrics;
pub mod observe;
pub mod owners;
mod publish;
pub mod router;
mod run;
pub mod session;
pub mod settings;
pub mod shard;
mod store;
mod subs;
mod subscription;
mod sync;
mod takeover;
mod ticket;
mod time;
mod topics;

pub use admission::NotAdmitted;
pub use broker::{Broker, MemoryLevel, OpenRequest, Parts};
pub use delivery::{Delivery, DeliveryExtra, DurableSlot};
pub use handle::{
    DropReason, Facts, PushOutcome, Pushed, QueueState, SessionCounts, SessionHandle, Signal,
};
pub use kept::Kept;
pub use mesh::{Forward, Interest, Mesh};
pub use message::{Message, MessageHead, MessageProperties};
pub use metrics::{Counter, Direction, Metrics, PacketTally};
pub use publish::{PublishBatch, Published, Stall};
pub use session::{AckPacket, Admission, Front, Session, SessionError, Transmit};
pub use store::{
    Batches, DurableStore, EffectSink, MemoryStore, OpenReply, RetainedCursor, Submitted,
};
pub use subs::SubTable;
pub use subscription::{RetainHandling, SubOptions, Subscription};
pub use ticket::{Completion, Progress, Ticket};
pub use time::Timestamp;
pub use topics::{Allowed, CachedTopic, TopicCache};
