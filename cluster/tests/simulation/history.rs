//! What clients did and saw, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet};

use nightjar_mqtt::QoS;

use crate::ground::now;
use crate::node::Who;

/// A message that was published.
#[derive(Debug, Clone)]
pub struct Sent {
    pub topic: String,
    pub publisher: String,
    /// Position among those of its publisher.
    pub order: u64,
    pub first: u64,
    pub acked: Option<u64>,
    /// It was sent again on another connection, which makes another message of it.
    pub again: bool,
    pub qos: QoS,
    /// It was published without a payload, to remove what the topic keeps.
    pub removes: bool,
}

/// A connection, from the call to its end.
#[derive(Debug, Clone)]
pub struct Connection {
    pub client: String,
    pub node: usize,
    pub durable: bool,
    pub will: Option<String>,
    pub opened: Option<u64>,
    pub subscribed: Option<u64>,
    pub closed: Option<u64>,
    /// It ended by DISCONNECT.
    pub clean: bool,
    /// The node died or stood still meanwhile.
    pub cut: bool,
    /// What was delivered: body, when, DUP.
    pub got: Vec<(String, u64, bool)>,
    /// When it sent its SUBSCRIBE.
    pub asked: Option<u64>,
    /// What came as retained: topic, body.
    pub kept: Vec<(String, String)>,
    /// All that is retained has come.
    pub whole: bool,
}

#[derive(Default)]
pub struct History {
    pub sent: BTreeMap<String, Sent>,
    pub connections: Vec<Connection>,
    /// Durable sessions: the filter, and when its SUBACK came.
    pub sessions: BTreeMap<String, (String, u64)>,
    /// Publishers whose session must be there when they come again.
    pub known: BTreeSet<String>,
    /// Packet ids of QoS 2 that a client has without their PUBREL. They outlive its connections.
    unreleased: BTreeMap<String, BTreeSet<u16>>,
    /// The connection that a client reads from.
    newest: BTreeMap<String, usize>,
    /// How often a client took a message of QoS 2: client, body.
    taken: BTreeMap<(String, String), u32>,
    /// When nodes died, stood still or lost their lease.
    pub fenced: Vec<(usize, u64)>,
    /// Crashes of one node while all else was well: node, when.
    pub calm: Vec<(usize, u64)>,
    /// When each will was published, as it says itself.
    pub wills: BTreeMap<String, u64>,
    /// Problems seen on the way.
    pub wrong: Vec<String>,
}

/// A transient subscriber that stays for so long behind an acknowledgement has its message.
const NEAR: u64 = 2_000;
/// An old connection may be heard of for so long behind the CONNACK of the next one.
const LATE: u64 = 6_000;

/// A node that dies or loses its lease may have been without a majority for so long: a lease, and a leader that stood still
/// before.
const DYING: u64 = 8_000;

/// A will is published so soon behind the death of the client's node.
const WILL: u64 = 10_000;

/// Topics of the shared subscription begin so.
pub const SHARED: &str = "s/";
/// Its members' names begin so.
pub const MEMBER: &str = "member-";
/// Topics of retained messages begin so.
pub const RETAINED: &str = "r/";

impl History {
    pub fn call(&mut self, who: &Who, node: usize) -> usize {
        self.connections.push(Connection {
            client: who.id.clone(),
            node,
            durable: who.durable,
            will: who.will.as_ref().map(|(_, body)| body.clone()),
            opened: None,
            subscribed: None,
            closed: None,
            clean: false,
            cut: false,
            got: Vec::new(),
            asked: None,
            kept: Vec::new(),
            whole: false,
        });
        let number = self.connections.len() - 1;
        self.newest.insert(who.id.clone(), number);
        number
    }

    pub fn connected(&mut self, number: usize, node: usize, present: bool) {
        let client = self.connections[number].client.clone();
        self.connections[number].opened = Some(now());
        self.connections[number].node = node;
        if !present {
            self.unreleased.remove(&client);
        }
        if !present && (self.sessions.contains_key(&client) || self.known.contains(&client)) {
            self.wrong
                .push(format!("the session of {client} is gone: I6"));
        }
    }

    pub fn subscribed(&mut self, number: usize, at: u64) {
        self.connections[number].subscribed = Some(at);
    }

    pub fn closed(&mut self, number: usize, clean: bool) {
        let connection = &mut self.connections[number];
        connection.closed = Some(now());
        connection.clean = clean;
    }

    /// A message goes again on another connection. With QoS 2 it is the same for sessions that stay; transient ones and members
    /// of the shared subscription at other nodes may get it once more.
    pub fn sent_again(&mut self, body: &str) {
        if let Some(sent) = self.sent.get_mut(body) {
            sent.again = true;
        }
    }

    pub fn acknowledged(&mut self, body: &str) {
        if let Some(sent) = self.sent.get_mut(body) {
            sent.acked = Some(now());
        }
    }

    /// A fault begins.
    pub fn struck(&mut self, at: u64, one: Option<usize>) {
        self.calm.retain(|(_, before)| before + WILL < at);
        self.calm.extend(one.map(|node| (node, at)));
    }

    pub fn will(&mut self, body: &str, published: u64) {
        self.wills.entry(body.to_owned()).or_insert(published);
    }

    /// A message of QoS 2 came. False: the client does not read from this connection any more, and answers nothing.
    pub fn takes(&mut self, number: usize, id: u16, body: &str) -> bool {
        let client = &self.connections[number].client;
        if self.newest.get(client) != Some(&number) {
            return false;
        }
        let unreleased = self.unreleased.entry(client.clone()).or_default();
        if unreleased.insert(id) {
            let key = (client.clone(), body.to_owned());
            *self.taken.entry(key).or_insert(0) += 1;
        }
        true
    }

    /// PUBREL came. False: as for [`Self::takes`].
    pub fn released(&mut self, number: usize, id: u16) -> bool {
        let client = &self.connections[number].client;
        if self.newest.get(client) != Some(&number) {
            return false;
        }
        if let Some(unreleased) = self.unreleased.get_mut(client) {
            unreleased.remove(&id);
        }
        true
    }

    pub fn kept(&mut self, number: usize, topic: &str, body: &str) {
        let kept = &mut self.connections[number].kept;
        kept.push((topic.to_owned(), body.to_owned()));
    }

    /// All that is retained came, if this connection is still there.
    pub fn read_whole(&mut self, number: usize) -> bool {
        let connection = &mut self.connections[number];
        connection.whole = !connection.cut && connection.closed.is_none();
        connection.whole
    }

    pub fn delivered(&mut self, number: usize, body: &str, dup: bool) {
        if body.is_empty() {
            return; // It removed what its topic kept; there are many of it.
        }
        self.connections[number]
            .got
            .push((body.to_owned(), now(), dup));
    }

    /// The node of these connections died, or stands still from now on.
    pub fn cut(&mut self, node: usize, at: u64, died: bool) {
        self.fenced.push((node, at));
        for connection in &mut self.connections {
            if connection.node == node && connection.closed.is_none() && connection.opened.is_some()
            {
                connection.cut = true;
                if died {
                    connection.closed = Some(at);
                }
            }
        }
    }

    /// Bodies that each durable session was sent.
    fn received(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut all: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for connection in self.connections.iter().filter(|it| it.durable) {
            let bodies = connection.got.iter().map(|(body, _, _)| body.as_str());
            all.entry(&connection.client).or_default().extend(bodies);
        }
        all
    }

    /// Acknowledged messages that durable sessions lack, and messages that are not acknowledged.
    pub fn missing(&self) -> Vec<String> {
        let received = self.received();
        let mut missing = Vec::new();
        let mut lacks = |body: &str, who: &str, sent: &Sent| {
            missing.push(format!(
                "{body} to {who}: sent at {}, acknowledged at {:?}",
                sent.first, sent.acked
            ));
        };
        for (session, (filter, since)) in &self.sessions {
            let have = received.get(session.as_str());
            for (body, sent) in &self.sent {
                let due = sent.acked.is_some()
                    && sent.first > *since
                    && nightjar_mqtt::topic::matches(filter, &sent.topic);
                if !due {
                    continue;
                }
                let came = match sent.qos {
                    QoS::ExactlyOnce => self.taken.contains_key(&(session.clone(), body.clone())),
                    _ => have.is_some_and(|have| have.contains(body.as_str())),
                };
                if !came {
                    lacks(body, session, sent);
                }
            }
        }
        // A shared subscription's messages reach one of its members.
        let members = || {
            self.sessions
                .iter()
                .filter(|(_, it)| it.0.starts_with("$share/"))
        };
        let since = members().map(|(_, (_, since))| *since).min();
        for (body, sent) in &self.sent {
            if sent.acked.is_none() {
                lacks(body, "nobody", sent);
            } else if sent.topic.starts_with(SHARED)
                && since.is_some_and(|since| sent.first > since)
                && !members().any(|(member, _)| {
                    let have = received.get(member.as_str());
                    match sent.qos {
                        QoS::ExactlyOnce => {
                            self.taken.contains_key(&(member.clone(), body.clone()))
                        }
                        _ => have.is_some_and(|have| have.contains(body.as_str())),
                    }
                })
            {
                lacks(body, "any member", sent);
            }
        }
        missing
    }

    /// Wills of clients whose connection did not end by DISCONNECT, which nobody heard.
    pub fn missing_wills(&self, watcher: &str) -> Vec<String> {
        let received = self.received();
        let heard = received.get(watcher);
        let over = self.connections.iter().filter(|it| {
            it.will.is_some() && it.opened.is_some() && it.closed.is_some() && !it.clean
        });
        over.filter_map(|it| it.will.as_deref().map(|will| (it, will)))
            .filter(|(_, will)| !heard.is_some_and(|heard| heard.contains(will)))
            .map(|(it, will)| format!("{will}: its connection ended at {:?}", it.closed))
            .collect()
    }

    /// Everything that must hold at the end but what [`Self::missing`] and [`Self::missing_wills`] say.
    pub fn judge(&self, watcher: &str) -> Vec<String> {
        let mut wrong = self.wrong.clone();
        self.judge_order(&mut wrong);
        self.judge_transient(&mut wrong);
        self.judge_takeover(&mut wrong);
        self.judge_wills(watcher, &mut wrong);
        self.judge_once(&mut wrong);
        self.judge_retained(&mut wrong);
        self.judge_shared(&mut wrong);
        wrong
    }

    /// I3 and I4: nothing invented; of one publisher in the order in which it published, repeats only with DUP or behind
    /// a reconnect.
    fn judge_order(&self, wrong: &mut Vec<String>) {
        let wills: BTreeSet<&str> = self
            .connections
            .iter()
            .filter_map(|it| it.will.as_deref())
            .collect();
        let mut seen: BTreeMap<(&str, &str), BTreeSet<u64>> = BTreeMap::new();
        let mut by_time: Vec<(&Connection, &String, u64)> = self
            .connections
            .iter()
            .flat_map(|it| it.got.iter().map(move |(body, at, _)| (it, body, *at)))
            .collect();
        by_time.sort_by_key(|(_, _, at)| *at);
        for (connection, body, at) in by_time {
            if wills.contains(body.as_str()) {
                continue;
            }
            let Some(sent) = self.sent.get(body) else {
                wrong.push(format!(
                    "{} was sent {body}, which nobody published: I3",
                    connection.client
                ));
                continue;
            };
            if !connection.durable {
                continue;
            }
            let have = seen
                .entry((&connection.client, &sent.publisher))
                .or_default();
            if have.contains(&sent.order) || sent.topic.starts_with(SHARED) {
                continue;
            }
            if let Some(later) = have.last().filter(|last| **last > sent.order) {
                wrong.push(format!(
                    "{} was sent {body} at {at}, behind number {later} of {}: I4",
                    connection.client, sent.publisher
                ));
            }
            have.insert(sent.order);
        }
        let one = |it: &&Connection| !it.client.starts_with(MEMBER);
        for connection in self.connections.iter().filter(one) {
            let mut once = BTreeSet::new();
            for (body, at, dup) in &connection.got {
                let again = self.sent.get(body).is_some_and(|sent| {
                    let once = sent.qos == QoS::ExactlyOnce && connection.durable;
                    sent.again && (!once || sent.topic.starts_with(SHARED))
                });
                if !once.insert(body) && !dup && !again {
                    wrong.push(format!(
                        "{} was sent {body} twice on one connection, at {at} without DUP: I4",
                        connection.client
                    ));
                }
            }
        }
    }

    /// I2: no durable session is given a message of QoS 2 twice. That none is lost, [`Self::missing`] says.
    fn judge_once(&self, wrong: &mut Vec<String>) {
        for ((client, body), count) in &self.taken {
            let shared = self
                .sent
                .get(body)
                .is_some_and(|sent| sent.topic.starts_with(SHARED));
            if *count > 1 && !shared && self.sessions.contains_key(client) {
                wrong.push(format!("{client} took {body} {count} times: I2"));
            }
        }
    }

    /// I5: who asks for retained messages gets the last one that was acknowledged before, or a later one.
    fn judge_retained(&self, wrong: &mut Vec<String>) {
        let topics: BTreeSet<&String> = self
            .sent
            .values()
            .filter(|sent| sent.topic.starts_with(RETAINED))
            .map(|sent| &sent.topic)
            .collect();
        for connection in &self.connections {
            let Some(asked) = connection.asked else {
                continue;
            };
            for topic in &topics {
                let of_topic = || self.sent.values().filter(|sent| sent.topic == **topic);
                let acked = of_topic()
                    .filter(|sent| sent.acked.is_some_and(|acked| acked < asked))
                    .map(|sent| sent.order)
                    .max();
                let Some(acked) = acked else { continue };
                let found = connection.kept.iter().rev().find(|(at, _)| at == *topic);
                let is_right = match found {
                    Some((_, body)) => self.sent.get(body).is_some_and(|sent| sent.order >= acked),
                    None if connection.whole => {
                        of_topic().any(|sent| sent.removes && sent.order >= acked)
                    }
                    None => true,
                };
                if !is_right {
                    wrong.push(format!(
                        "{} asked node {} at {asked} for what is retained and was sent {found:?} of {topic}, where \
                         number {acked} had been acknowledged: I5",
                        connection.client,
                        connection.node + 1
                    ));
                }
            }
        }
    }

    /// I9: a message of a shared subscription comes twice only when a member moved meanwhile: whether a node that fails
    /// had taken it for one of its members, the node that forwarded it may not learn.
    fn judge_shared(&self, wrong: &mut Vec<String>) {
        let mut to: BTreeMap<&str, Vec<(&Connection, u64)>> = BTreeMap::new();
        let members = self
            .connections
            .iter()
            .filter(|it| it.client.starts_with(MEMBER));
        for connection in members {
            for (body, at, dup) in &connection.got {
                if !dup {
                    to.entry(body).or_default().push((connection, *at));
                }
            }
        }
        for (body, came) in to {
            let Some(sent) = self.sent.get(body).filter(|sent| !sent.again) else {
                continue;
            };
            let clients: BTreeSet<&str> = came.iter().map(|(it, _)| it.client.as_str()).collect();
            let last = came.iter().map(|(_, at)| *at).max().unwrap_or(0);
            let moved = |client: &str| {
                let within = |at: Option<u64>| {
                    at.is_some_and(|at| (sent.first.saturating_sub(LATE)..=last).contains(&at))
                };
                let mut of = self.connections.iter().filter(|it| it.client == client);
                of.any(|it| within(it.opened) || within(it.closed) || it.cut)
            };
            if came.len() > 1 && !clients.iter().any(|client| moved(client)) {
                wrong.push(format!("{body} came to {clients:?}, who all stayed: I9"));
            }
        }
    }

    /// The SUBACK barrier: what is published behind a SUBACK, from any node, and acknowledged, reaches a transient
    /// subscriber that stays.
    fn judge_transient(&self, wrong: &mut Vec<String>) {
        for connection in self.connections.iter().filter(|it| !it.durable && !it.cut) {
            let (Some(since), Some(filter)) =
                (connection.subscribed, filter_of(&connection.client))
            else {
                continue;
            };
            let until = connection.closed.unwrap_or(u64::MAX);
            let got: BTreeSet<&String> = connection.got.iter().map(|(body, _, _)| body).collect();
            for (body, sent) in &self.sent {
                let due = sent.topic == filter
                    && sent.first > since
                    && sent.acked.is_some_and(|acked| acked + NEAR < until);
                if due && !got.contains(body) {
                    wrong.push(format!(
                        "{} (SUBACK at {since}, there until {until}) was not sent {body}: published at {}, acknowledged \
                         at {:?}",
                        connection.client, sent.first, sent.acked
                    ));
                }
            }
        }
    }

    /// I7: the connection before is heard of no more.
    fn judge_takeover(&self, wrong: &mut Vec<String>) {
        let mut of: BTreeMap<&str, Vec<&Connection>> = BTreeMap::new();
        for connection in self.connections.iter().filter(|it| it.opened.is_some()) {
            of.entry(&connection.client).or_default().push(connection);
        }
        for (client, mut connections) in of {
            connections.sort_by_key(|it| it.opened);
            for pair in connections.windows(2) {
                let next = pair[1].opened.unwrap_or(0);
                let mut late = pair[0].got.iter().filter(|(_, at, _)| *at > next + LATE);
                if !pair[0].cut
                    && let Some((body, at, _)) = late.next_back()
                {
                    wrong.push(format!(
                        "{client}: the connection before the one of {next} was sent {body} at {at}: I7"
                    ));
                }
            }
        }
    }

    /// Wills of nodes that died while all else was well: when the node died, when it was published.
    pub fn timed_wills(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.connections.iter().filter_map(|connection| {
            let crash = self
                .calm
                .iter()
                .find(|(node, at)| *node == connection.node && connection.closed == Some(*at));
            let will = connection.will.as_deref()?;
            Some((will, crash?.1, *self.wills.get(will)?))
        })
    }

    /// I8: within 10 s of the end of a node. And no will behind a DISCONNECT, but where the node could not tell the others of it any more.
    fn judge_wills(&self, watcher: &str, wrong: &mut Vec<String>) {
        let received = self.received();
        let Some(heard) = received.get(watcher) else {
            return;
        };
        for (will, at, published) in self.timed_wills() {
            if published > at + WILL {
                wrong.push(format!(
                    "{will} was published at {published}, its node died at {at}: I8"
                ));
            }
        }
        for connection in self.connections.iter().filter(|it| it.clean && !it.cut) {
            let at = connection.closed.unwrap_or(0);
            let dying = self.fenced.iter().any(|(node, fenced)| {
                *node == connection.node && (at..=at + DYING).contains(fenced)
            });
            if dying {
                continue;
            }
            if let Some(will) = &connection.will
                && heard.contains(will.as_str())
            {
                wrong.push(format!(
                    "{will} was published although its client said goodbye at {:?}: I8",
                    connection.closed
                ));
            }
        }
    }
}

/// The filter of a transient subscriber, which is in its name.
pub fn filter_of(client: &str) -> Option<String> {
    let topic = client.strip_prefix("transient/")?;
    Some(format!("t/{}", topic.split('/').next()?))
}
