//! The MQTT-SN gateway against the client model, with a real broker and a memory store, in simulated time.
//!
//! [`world`] is time, the wire and both ends; [`script`] what a sensor does and what must be true of it at the end;
//! [`seeds`] runs scripts by seed over a wire that loses, doubles and reorders; [`each`] runs one script again and again,
//! each time with another datagram lost, doubled or late.

#![allow(clippy::unwrap_used)]

mod each;
mod script;
mod seeds;
mod world;
