//! Tests of the codec from outside: tables of packets, round trips, streams, and bounded runs of the fuzz targets.

mod acks;
mod connack;
mod connect;
mod encode;
mod fuzz;
mod header;
mod properties;
mod publish;
mod roundtrip;
mod script;
mod stream;
mod subscribe;
mod topic;
mod values;
