//! Tests of the codec from outside: tables of packets, round trips, streams, and bounded runs of the fuzz targets.

mod acks;
mod connect;
mod fuzz;
mod header;
mod properties;
mod publish;
mod script;
mod subscribe;
