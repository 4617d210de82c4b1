//! Tests of the codec: tables of exact bytes, refusals, properties, and random input.

mod classify;
mod errors;
mod examples;
mod fuzz;
mod length;
mod properties;
mod statements;
mod tables;
