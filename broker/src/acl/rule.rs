//! Rules as a person writes them: who, which action, which topics.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nightjar_mqtt::QoS;

use super::pattern::{Subject, TopicPattern};
use crate::access::Action;

/// What a rule says when it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// The action may be done.
    Allow,
    /// It may not.
    Deny,
}

/// One rule. Of a [`super::RuleSet`] the first rule that matches decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// What it says.
    pub permission: Permission,
    /// Whom it speaks of.
    pub who: Who,
    /// Which actions it speaks of.
    pub action: RuleAction,
    /// Which topics; `None` is every topic, those that begin with `$` too.
    pub topics: Option<Vec<TopicPattern>>,
    /// Line of the file it stands on, from 1; 0 if it comes from elsewhere.
    pub line: u32,
}

/// Whom a rule speaks of.
#[derive(Debug, Clone)]
pub enum Who {
    /// Everyone.
    All,
    /// The user of exactly this name.
    User(Box<str>),
    /// Users whose name the expression is found in; `^` and `$` anchor it.
    UserRegex(regex_lite::Regex),
    /// The client of exactly this identifier.
    Client(Box<str>),
    /// Clients whose identifier the expression is found in.
    ClientRegex(regex_lite::Regex),
    /// Clients of one of these networks.
    Addresses(Vec<Cidr>),
    /// Clients of this listener, such as `tcp:default`.
    Listener(Box<str>),
    /// Those that all of these speak of.
    And(Vec<Self>),
    /// Those that any of these speaks of.
    Or(Vec<Self>),
}

impl PartialEq for Who {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, Self::All) => true,
            (Self::User(a), Self::User(b))
            | (Self::Client(a), Self::Client(b))
            | (Self::Listener(a), Self::Listener(b)) => a == b,
            (Self::UserRegex(a), Self::UserRegex(b))
            | (Self::ClientRegex(a), Self::ClientRegex(b)) => a.as_str() == b.as_str(),
            (Self::Addresses(a), Self::Addresses(b)) => a == b,
            (Self::And(a), Self::And(b)) | (Self::Or(a), Self::Or(b)) => a == b,
            _ => false,
        }
    }
}

impl Who {
    pub(super) fn matches(&self, subject: &Subject<'_>) -> bool {
        let client = subject.client;
        match self {
            Self::All => true,
            Self::User(name) => client.username.as_deref() == Some(name),
            Self::UserRegex(regex) => client
                .username
                .as_deref()
                .is_some_and(|name| regex.is_match(name)),
            Self::Client(id) => *client.client_id == **id,
            Self::ClientRegex(regex) => regex.is_match(&client.client_id),
            Self::Addresses(networks) => networks.iter().any(|n| n.contains(subject.peer)),
            Self::Listener(name) => *client.listener == **name,
            Self::And(all) => all.iter().all(|who| who.matches(subject)),
            Self::Or(any) => any.iter().any(|who| who.matches(subject)),
        }
    }
}

/// A network: an address and how many of its leading bits count. An IPv4 address mapped into IPv6 is that IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    addr: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The network of an address; bits behind the prefix are ignored.
    ///
    /// `None` if the prefix is longer than 32 bits of IPv4 or 128 of IPv6.
    pub fn new(addr: IpAddr, prefix: u8) -> Option<Self> {
        match addr {
            IpAddr::V4(_) if prefix <= 32 => Some(Self { addr, prefix }),
            IpAddr::V6(v6) if prefix <= 128 => Some(match v6.to_ipv4_mapped() {
                Some(v4) if prefix >= 96 => Self {
                    addr: v4.into(),
                    prefix: prefix - 96,
                },
                _ => Self { addr, prefix },
            }),
            _ => None,
        }
    }

    /// Reads `10.0.0.0/8`, `::1` or `2001:db8::/32`; without a prefix it is the one address.
    pub fn parse(text: &str) -> Option<Self> {
        let (addr, prefix) = match text.split_once('/') {
            Some((addr, prefix)) => {
                // `parse` alone would take "+8".
                if !prefix.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                (addr, Some(prefix.parse().ok()?))
            }
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().ok()?;
        let whole = if addr.is_ipv4() { 32 } else { 128 };
        Self::new(addr, prefix.unwrap_or(whole))
    }

    /// True if the address lies in this network.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.addr.is_ipv4() == addr.is_ipv4()
            && mask(self.addr, self.prefix) == mask(addr, self.prefix)
    }

    /// The same network with all bits behind the prefix zero: equal for equal networks.
    #[must_use]
    pub fn network(self) -> Self {
        let bits = self.masked();
        let addr = match self.addr {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(
                (bits >> 96).try_into().expect("32 bits are left"),
            )),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        };
        Self { addr, ..self }
    }

    /// True for a network of IPv4.
    pub(crate) fn is_v4(&self) -> bool {
        self.addr.is_ipv4()
    }

    pub(crate) fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The leading bits that count, others zero.
    pub(super) fn masked(&self) -> u128 {
        mask(self.addr, self.prefix)
    }
}

/// The first `prefix` bits of an address, left-aligned.
pub(super) fn mask(addr: IpAddr, prefix: u8) -> u128 {
    let bits = match addr {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    match prefix {
        0 => 0,
        prefix => bits & (u128::MAX << (128 - u32::from(prefix))),
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.addr.is_ipv4() { 32 } else { 128 };
        if self.prefix == whole {
            write!(f, "{}", self.addr)
        } else {
            write!(f, "{}/{}", self.addr, self.prefix)
        }
    }
}

/// Which actions a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleAction {
    /// PUBLISH and wills.
    pub publish: bool,
    /// SUBSCRIBE, and deliveries of what was subscribed.
    pub subscribe: bool,
    /// Of QoS 0, 1, 2 those it speaks of: of the message, or asked for by the subscription.
    pub qos: [bool; 3],
    /// Of messages those with this retain flag; says nothing of subscriptions.
    pub retain: Option<bool>,
}

impl RuleAction {
    /// Publish and subscribe with any QoS and retain flag.
    pub const ALL: Self = Self {
        publish: true,
        subscribe: true,
        qos: [true; 3],
        retain: None,
    };
    /// Publish only.
    pub const PUBLISH: Self = Self {
        subscribe: false,
        ..Self::ALL
    };
    /// Subscribe only.
    pub const SUBSCRIBE: Self = Self {
        publish: false,
        ..Self::ALL
    };

    pub(super) fn matches(&self, action: Action<'_>) -> bool {
        match action {
            Action::Publish { qos, retain, .. } => {
                self.publish && self.has(qos) && self.retain.is_none_or(|r| r == retain)
            }
            Action::Subscribe { qos, .. } => self.subscribe && self.has(qos),
        }
    }

    fn has(&self, qos: QoS) -> bool {
        self.qos[usize::from(qos.bits())]
    }
}

/// Writes a rule as it would stand in `acl.conf`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let permission = match self.permission {
            Permission::Allow => "allow",
            Permission::Deny => "deny",
        };
        write!(f, "{{{permission}, {}", self.who)?;
        if self.action != RuleAction::ALL || self.topics.is_some() {
            write!(f, ", {}", self.action)?;
        }
        if let Some(topics) = &self.topics {
            f.write_str(", [")?;
            separated(f, topics)?;
            f.write_str("]")?;
        }
        f.write_str("}.")
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::User(name) => write!(f, "{{user, {}}}", Quoted(name)),
            Self::UserRegex(regex) => write!(f, "{{username, {{re, {}}}}}", Quoted(regex.as_str())),
            Self::Client(id) => write!(f, "{{client, {}}}", Quoted(id)),
            Self::ClientRegex(regex) => {
                write!(f, "{{clientid, {{re, {}}}}}", Quoted(regex.as_str()))
            }
            Self::Addresses(networks) if networks.len() == 1 => {
                write!(f, "{{ipaddr, \"{}\"}}", networks[0])
            }
            Self::Addresses(networks) => {
                f.write_str("{ipaddrs, [")?;
                for (i, network) in networks.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    write!(f, "{comma}\"{network}\"")?;
                }
                f.write_str("]}")
            }
            Self::Listener(name) => write!(f, "{{listener, {}}}", Quoted(name)),
            Self::And(all) => {
                f.write_str("{'and', [")?;
                separated(f, all)?;
                f.write_str("]}")
            }
            Self::Or(any) => {
                f.write_str("{'or', [")?;
                separated(f, any)?;
                f.write_str("]}")
            }
        }
    }
}

impl fmt::Display for RuleAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match (self.publish, self.subscribe) {
            (true, false) => "publish",
            (false, true) => "subscribe",
            _ => "all",
        };
        let every_qos = self.qos == [true; 3];
        if every_qos && self.retain.is_none() {
            return f.write_str(name);
        }
        write!(f, "{{{name}, [")?;
        if !every_qos {
            let listed: Vec<&str> = ["0", "1", "2"]
                .into_iter()
                .zip(self.qos)
                .filter_map(|(number, listed)| listed.then_some(number))
                .collect();
            write!(f, "{{qos, [{}]}}", listed.join(","))?;
        }
        if let Some(retain) = self.retain {
            let comma = if every_qos { "" } else { ", " };
            write!(f, "{comma}{{retain, {retain}}}")?;
        }
        f.write_str("]}")
    }
}

/// A text as a string term.
pub(super) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c.is_control() => write!(f, "\\x{{{:x}}}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

fn separated<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        write!(f, "{comma}{item}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses_and_no_other() {
        let table = [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "8.8.8.8", false),
            ("::1", "::1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("::ffff:10.0.0.0/104", "10.0.0.1", true),
        ];
        for (network, addr, expected) in table {
            let cidr = Cidr::parse(network).expect(network);
            assert_eq!(
                cidr.contains(addr.parse().expect(addr)),
                expected,
                "{network} {addr}"
            );
        }
        for bad in [
            "",
            "localhost",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0/8",
        ] {
            assert_eq!(Cidr::parse(bad), None, "{bad}");
        }
    }
}
