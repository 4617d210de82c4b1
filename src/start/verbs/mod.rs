//! What `ctl` can ask this node, a module for each group of verbs; `src/cli/ctl` has the other side.

mod acl;
mod args;
mod backup;
mod ban;
mod cluster;
mod node;
mod observe;
mod users;

use std::sync::Arc;

use super::Node;
use crate::ctl::Registry;

/// All verbs of a node.
pub fn registry(node: &Arc<Node>) -> Registry {
    let mut registry = Registry::new();
    node::add(&mut registry, node);
    users::add(&mut registry, node);
    acl::add(&mut registry, node);
    ban::add(&mut registry, node);
    backup::add(&mut registry, node);
    observe::add(&mut registry, node);
    cluster::add(&mut registry, node);
    registry
}
