//! The durable backend of one node, against a disk that forgets, breaks and fills up.

mod crash;
mod damage;
mod disk;
mod golden;
mod kit;
mod restart;
