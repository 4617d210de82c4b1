//! A client's address, and how much may be sent there before the client has answered from it.

use super::bucket::prefix;
use super::counters::Counted;
use super::gateway::Cx;
use super::path::Path;
use super::settings::{AddressChange, Settings};
use nightjar_mqttsn::Message;

/// Where a client is.
#[derive(Debug)]
pub(super) struct Link {
    /// Where it was last heard.
    pub path: Path,
    /// False when another client took the address: nothing is sent before this one is heard again.
    pub reachable: bool,
    /// It was just heard again, after another client had its address.
    pub back: bool,
    /// The validated path before, until the new one is validated.
    fallback: Option<Box<Path>>,
    validated: bool,
    /// The client came here from another address: nothing is sent that brings no answer.
    moved: bool,
    /// Octets heard from an address that is not validated.
    received: u32,
    /// Octets of messages sent there; answers, which are no larger than their questions, are not among them.
    sent: u32,
}

impl Link {
    /// A client that is heard for the first time, or that had this address when it was last connected.
    pub fn new(cx: &Cx<'_>, path: Path, was_here: bool) -> Self {
        let validated = was_here || path.peer.ip().is_loopback() || trusts(cx.settings(), &path);
        Self {
            path,
            reachable: true,
            back: false,
            fallback: None,
            validated,
            moved: false,
            received: 0,
            sent: 0,
        }
    }

    /// Would the policy let the client come from this path?
    pub fn admits(&self, settings: &Settings, path: &Path) -> bool {
        if self.path.same_end(path) {
            return true;
        }
        let (old, new) = (self.path.peer.ip(), path.peer.ip());
        match settings.address_change {
            AddressChange::Never => false,
            AddressChange::SameIp => old == new,
            AddressChange::SamePrefix => prefix(old) == prefix(new),
            AddressChange::Validated => true,
        }
    }

    /// The client was heard from this path with a message that names it.
    pub fn move_to(&mut self, cx: &Cx<'_>, path: &Path) {
        self.back |= !std::mem::replace(&mut self.reachable, true);
        if self.path.same_end(path) {
            self.path.heard_by(path);
            return;
        }
        cx.count(Counted::AddressChanges);
        let same_address = |old: &Path| old.peer.ip() == path.peer.ip();
        let old = std::mem::replace(&mut self.path, path.clone());
        // Another port of the address it had is no other place.
        if same_address(&old) {
            return;
        }
        if self.validated {
            self.fallback = Some(Box::new(old));
        }
        (self.received, self.sent) = (0, 0);
        // Back where it was before somebody else spoke for it.
        self.validated =
            self.fallback.as_deref().is_some_and(same_address) || trusts(cx.settings(), path);
        self.moved = !self.validated;
        if self.validated {
            self.fallback = None;
        }
    }

    /// Must a message that brings no answer wait until the client has answered from this address?
    pub const fn must_ask(&self) -> bool {
        !self.validated && self.moved
    }

    /// The client did not answer there: what is known of its address is what was known before.
    pub fn fall_back(&mut self) {
        if !self.validated
            && let Some(old) = self.fallback.take()
        {
            self.path = *old;
            self.validated = true;
        }
    }

    pub fn heard(&mut self, octets: usize) {
        self.received = self.received.saturating_add(octets as u32);
    }

    /// The client answered a MsgId that only who receives there can know.
    pub fn validate(&mut self, cx: &Cx<'_>) {
        if !self.validated {
            cx.count(Counted::AddressesValidated);
            self.validated = true;
        }
        self.fallback = None;
    }

    /// May a message of so many octets be sent? Towards an address that is not validated three times what came from
    /// there, or one datagram.
    pub fn may_send(&self, cx: &Cx<'_>, octets: usize) -> bool {
        self.reachable
            && (self.validated
                || self.sent as usize + octets
                    <= (self.received as usize * 3).max(cx.settings().max_datagram))
    }

    /// Sends an answer.
    pub fn answer(&self, cx: &mut Cx<'_>, message: Message<'_>) {
        if self.reachable {
            cx.send(&self.path, message);
        }
    }

    /// Sends a message that the client did not ask for.
    pub fn send(&mut self, cx: &mut Cx<'_>, message: Message<'_>) {
        if self.reachable {
            let octets = cx.send(&self.path, message);
            self.sent = self.sent.saturating_add(octets as u32);
        }
    }
}

fn trusts(settings: &Settings, path: &Path) -> bool {
    settings.trusts(path.peer.ip())
}
