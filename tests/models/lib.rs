//! Models of the cluster's promises, for a checker that looks into every order of events (stateright): see `checks.rs`.
//!
//! ```text
//! cargo test --workspace --features nightjar/full --test models
//! ```
//!
//! The decisions are those of the shipped files, which are included as they are; what stands around them (links,
//! consensus, tasks) is modelled, and each model says which file it mirrors.
