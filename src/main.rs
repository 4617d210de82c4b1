//! Nightjar
fn main() {}
