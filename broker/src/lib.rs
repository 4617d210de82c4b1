//! The routing backend of Nightjar: message model, sessions, router, retained messages, wills, limits and access.
//!
//! It knows no socket of a client and no wire format of a packet.
#![forbid(unsafe_code)]

pub mod access;
pub mod acl;
