//! The session shard against a model that keeps lists and looks through all of them.

use std::collections::BTreeMap;

use nightjar_mqtt::{QoS, TopicName};
use proptest::prelude::*;

use super::codec_tests::entry;
use super::*;
use crate::settings::QueueLimits;
use crate::subscription::Subscription;
use crate::{Message, MessageHead, Timestamp};

#[derive(Default, Clone)]
struct Client {
    epoch: u64,
    connected: bool,
    expiry: u32,
    expires_at: Option<u64>,
    subs: BTreeMap<String, Subscription>,
    queue: Vec<(u64, Option<Message>, QoS, bool)>,
    next_seq: u64,
    received: Vec<u16>,
}

#[derive(Default)]
struct Model {
    clients: BTreeMap<String, Client>,
    clock: u64,
}

impl Model {
    fn current(&mut self, client_id: &str, epoch: u64) -> Option<&mut Client> {
        self.clients
            .get_mut(client_id)
            .filter(|client| client.connected && client.epoch == epoch)
    }

    fn apply(&mut self, entry: &SessionEntry) -> Option<Opened> {
        match entry {
            SessionEntry::Open(open) => return Some(self.open(open)),
            SessionEntry::Close(close) => self.close(close),
            SessionEntry::Subscribe {
                client_id,
                epoch,
                subs,
            } => {
                if let Some(client) = self.current(client_id, *epoch) {
                    for (filter, sub) in subs {
                        client.subs.insert(filter.to_string(), *sub);
                    }
                }
            }
            SessionEntry::Unsubscribe {
                client_id,
                epoch,
                filters,
            } => {
                if let Some(client) = self.current(client_id, *epoch) {
                    for filter in filters {
                        client.subs.remove(filter.as_str());
                    }
                }
            }
            SessionEntry::Publish(message) => {
                for (client_id, client) in &mut self.clients {
                    publish(client_id, client, message);
                }
            }
            SessionEntry::Enqueue(enqueue) => {
                if let Some(client) = self.clients.get_mut(&*enqueue.client_id) {
                    client.push(enqueue.message.clone(), enqueue.qos, enqueue.retain);
                }
            }
            SessionEntry::Acks {
                client_id,
                epoch,
                acks,
            } => {
                if let Some(client) = self.current(client_id, *epoch) {
                    for ack in acks {
                        match ack.kind {
                            AckKind::Received => client
                                .queue
                                .iter_mut()
                                .filter(|item| item.0 == ack.seq)
                                .for_each(|item| item.1 = None),
                            _ => client.queue.retain(|item| item.0 != ack.seq),
                        }
                    }
                }
            }
            SessionEntry::Received {
                client_id,
                epoch,
                ids,
            } => {
                if let Some(client) = self.current(client_id, *epoch) {
                    for id in ids {
                        if !client.received.contains(id) {
                            client.received.push(*id);
                        }
                    }
                }
            }
            SessionEntry::Released {
                client_id,
                epoch,
                ids,
            } => {
                if let Some(client) = self.current(client_id, *epoch) {
                    client.received.retain(|id| !ids.contains(id));
                }
            }
            SessionEntry::End { client_id } => {
                self.clients.remove(&**client_id);
            }
            SessionEntry::Tick { now } => {
                self.clock = self.clock.max(now.0);
                let now = self.clock;
                self.clients
                    .retain(|_, client| client.expires_at.is_none_or(|at| at > now));
            }
            SessionEntry::Fulfilled { .. }
            | SessionEntry::Touch { .. }
            | SessionEntry::Front { .. }
            | SessionEntry::SetWill { .. }
            | SessionEntry::By { .. }
            // Of one node: `cluster_tests` has the others.
            | SessionEntry::NodeGone { .. } => {}
        }
        None
    }

    fn open(&mut self, open: &Open) -> Opened {
        self.clock = self.clock.max(open.now.0);
        let old = self.clients.remove(&*open.client_id);
        let epoch = old.as_ref().map_or(0, |client| client.epoch) + 1;
        let kept = old.filter(|client| {
            let over = client.expires_at.is_some_and(|at| at <= self.clock)
                || client.connected && client.expiry == 0;
            !open.clean_start && !over
        });
        let present = kept.is_some();
        if !present && open.expiry == 0 {
            return Opened {
                epoch,
                ..Opened::default()
            };
        }
        let cut = kept.as_ref().is_some_and(|client| client.connected);
        let client = Client {
            epoch,
            connected: true,
            expiry: open.expiry,
            expires_at: None,
            ..kept.unwrap_or_default()
        };
        let opened = Opened {
            present,
            recorded: true,
            durable: true,
            epoch,
            before: epoch - 1,
            cut,
            subs: client
                .subs
                .iter()
                .map(|(filter, sub)| {
                    (
                        nightjar_mqtt::TopicFilter::new(filter.as_str()).unwrap(),
                        *sub,
                    )
                })
                .collect(),
            received: client.received.clone(),
            released: client
                .queue
                .iter()
                .filter(|item| item.1.is_none())
                .map(|item| item.0)
                .collect(),
            ..Opened::default()
        };
        self.clients.insert(open.client_id.to_string(), client);
        opened
    }

    fn close(&mut self, close: &Close) {
        self.clock = self.clock.max(close.now.0);
        let now = self.clock;
        let Some(client) = self.current(&close.client_id, close.epoch) else {
            return;
        };
        client.connected = false;
        client.expiry = close.expiry.unwrap_or(client.expiry);
        match client.expiry {
            0 => {
                self.clients.remove(&*close.client_id);
            }
            u32::MAX => {}
            seconds => client.expires_at = Some(now + u64::from(seconds) * 1000),
        }
    }
}

impl Client {
    fn push(&mut self, message: Message, qos: QoS, retain: bool) {
        self.queue.push((self.next_seq, Some(message), qos, retain));
        self.next_seq += 1;
    }
}

/// One copy for all subscriptions that match [MQTT-3.3.4-2].
fn publish(client_id: &str, client: &mut Client, message: &Message) {
    let wanted: Vec<Subscription> = client
        .subs
        .iter()
        .filter(|(filter, sub)| {
            !filter.starts_with("$share/")
                && sub.options.qos() != QoS::AtMostOnce
                && nightjar_mqtt::topic::matches(filter, message.topic())
        })
        .map(|(_, sub)| *sub)
        .collect();
    let Some(qos) = wanted.iter().map(|sub| sub.options.qos()).max() else {
        return;
    };
    let own = message.head().publisher.as_deref() == Some(client_id);
    if own && wanted.iter().all(|sub| sub.options.no_local()) {
        return;
    }
    let retain = message.retain() && wanted.iter().any(|sub| sub.options.retain_as_published());
    client.push(message.clone(), qos.min(message.qos()), retain);
}

/// Wills and limits have tests of their own: here nothing is dropped and no record is there for a will alone.
fn plain(mut entry: SessionEntry) -> SessionEntry {
    if let SessionEntry::Open(open) = &mut entry {
        open.will = None;
        open.supervision = None;
        open.limits = QueueLimits::default();
    }
    if let SessionEntry::Close(close) = &mut entry
        && matches!(close.kind, CloseKind::Park(_))
    {
        close.kind = CloseKind::Normal;
    }
    if matches!(
        entry,
        SessionEntry::Touch { .. } | SessionEntry::Front { .. } | SessionEntry::SetWill { .. }
    ) {
        entry = SessionEntry::Tick { now: Timestamp(0) };
    }
    if let SessionEntry::Publish(message) = &entry
        && message.payload().len() % 3 == 0
    {
        let mut head = message.head().clone();
        head.publisher = Some("x".into());
        entry = SessionEntry::Publish(Message::new(head, message.payload()));
    }
    entry
}

/// Lets every body go that may.
fn to_disk(shard: &mut SessionShard, disk: &mut Vec<Message>) {
    let first = disk.len();
    shard.spillable(&mut |message| disk.push(message.clone()));
    let mut at = first;
    shard.spill(&mut |message| {
        assert!(message.same(&disk[at]), "both passes go the same way");
        at += 1;
        Some(Place {
            file: 1,
            offset: (at - 1) as u32,
        })
    });
    assert_eq!(at, disk.len());
}

/// Brings every body back.
fn from_disk(shard: &mut SessionShard, disk: &[Message]) {
    let mut places = Vec::new();
    shard.places(&mut |holder, seq, place| places.push((holder, seq, place)));
    for (holder, seq, place) in places {
        let message = disk[place.offset as usize].clone();
        assert!(shard.bring_back(holder, seq, place, message.clone()));
        assert!(!shard.bring_back(holder, seq, place, message), "it is back");
    }
}

/// The message of a delivery, wherever it is.
fn look<'a>(item: &'a Queued, disk: &'a [Message]) -> Option<&'a Message> {
    match item.body() {
        Body::Disk { place, .. } => Some(&disk[place.offset as usize]),
        _ => item.message(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn a_shard_does_what_the_model_does(
        entries in prop::collection::vec((entry().prop_map(plain), 0u8..4), 1..80),
    ) {
        let mut shard = SessionShard::default();
        let mut model = Model::default();
        let mut effects = Vec::new();
        let mut disk = Vec::new();
        for (entry, move_bodies) in entries {
            match move_bodies {
                0 => to_disk(&mut shard, &mut disk),
                1 => from_disk(&mut shard, &disk),
                _ => {}
            }
            let expected = model.apply(&entry);
            let reply = shard.apply(entry, &mut effects);
            if let (Reply::Opened(mut opened), Some(expected)) = (reply, expected) {
                opened.subs.sort_by(|a, b| a.0.cmp(&b.0));
                prop_assert_eq!(*opened, expected);
            }
            prop_assert_eq!(shard.sessions(), model.clients.len());
            for (client_id, client) in &model.clients {
                let slot = shard.slot(client_id).expect("the model has it");
                prop_assert_eq!(
                    shard.queue_len(client_id).map(|(len, _)| len),
                    Some(client.queue.len())
                );
                let mut from = 0;
                let left = client.queue.iter().filter_map(|item| item.1.as_ref()).map(Message::cost);
                prop_assert_eq!(shard.record(slot).expect("it has one").bytes, left.sum::<usize>());
                for (seq, message, qos, retain) in &client.queue {
                    if message.is_none() { continue; }
                    let item = shard.next_from(slot, from).expect("the model has one more");
                    prop_assert_eq!(
                        (item.seq(), look(item, &disk), item.qos(), item.retain()),
                        (*seq, message.as_ref(), *qos, *retain)
                    );
                    from = seq + 1;
                }
                prop_assert!(shard.next_from(slot, from).is_none());
            }
            let held: usize = shard.slots.iter().flatten().flat_map(|it| it.queue.iter()).map(Queued::held).sum();
            prop_assert_eq!(shard.held(), held);
            // The routes that stand are those that were announced and not withdrawn.
            let mut routes = std::collections::BTreeSet::new();
            for effect in &effects {
                match effect {
                    Effect::RouteAdded(filter) => prop_assert!(routes.insert(filter.clone())),
                    Effect::RouteRemoved(filter) => prop_assert!(routes.remove(filter)),
                    _ => {}
                }
            }
            prop_assert_eq!(shard.routes(), routes.into_iter().collect::<Vec<_>>());
        }
        // Everything due at the end of time ends.
        shard.apply(SessionEntry::Tick { now: Timestamp(u64::MAX - 1) }, &mut effects);
        let left = model.clients.values().filter(|client| client.expires_at.is_none()).count();
        prop_assert_eq!(shard.sessions(), left);
    }

    #[test]
    fn a_frozen_shard_stays_as_it_was(
        entries in prop::collection::vec((entry(), 0u8..8), 1..80),
    ) {
        let mut shard = SessionShard::default();
        let mut effects = Vec::new();
        let mut disk = Vec::new();
        let mut frozen = Vec::new();
        for (entry, step) in entries {
            match step {
                0 => to_disk(&mut shard, &mut disk),
                1 => from_disk(&mut shard, &disk),
                2 => {
                    let mut bytes = Vec::new();
                    shard.encode(&mut bytes);
                    frozen.push((shard.freeze(), bytes, shard.digest()));
                }
                _ => {}
            }
            shard.apply(entry, &mut effects);
        }
        for (frozen, was, digest) in frozen {
            let mut bytes = Vec::new();
            frozen.encode(&mut bytes);
            prop_assert_eq!(frozen.digest(), digest);
            prop_assert_eq!(&bytes, &was);
            let mut again = Vec::new();
            SessionShard::decode(&bytes).expect("it was encoded").encode(&mut again);
            prop_assert_eq!(again, bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// With queues of many pieces: what is changed is copied piece by piece.
    #[test]
    fn a_frozen_shard_with_long_queues_stays_as_it_was(
        steps in prop::collection::vec((0u8..4, 0u64..1500), 1..30),
    ) {
        let mut shard = SessionShard::default();
        let mut effects = Vec::new();
        let mut disk = Vec::new();
        let mut frozen = Vec::new();
        let open = Open {
            owner: None,
            client_id: "a".into(),
            clean_start: false,
            expiry: 3600,
            will: None,
            limits: QueueLimits { max_len: 2000, ..QueueLimits::default() },
            window: 10,
            supervision: None,
            node: 0,
            now: Timestamp(1),
        };
        shard.apply(SessionEntry::Open(Box::new(open)), &mut effects);
        let head = MessageHead {
            topic: TopicName::new("t").expect("a topic"),
            qos: QoS::AtLeastOnce,
            retain: false,
            publisher: None,
            received_at: Timestamp(1),
            expires_at: None,
            properties: None,
        };
        let message = Message::new(head, b"payload");
        for (kind, number) in steps {
            match kind {
                0 => for _ in 0..number {
                    shard.apply(SessionEntry::Enqueue(Box::new(Enqueue {
                        client_id: "a".into(),
                        message: message.clone(),
                        qos: QoS::AtLeastOnce,
                        retain: false,
                        checked: false,
                        sub_id: 0,
                        group: None,
                    })), &mut effects);
                },
                1 => {
                    let acks = (number / 2..number)
                        .map(|seq| Ack {
                            seq,
                            kind: if seq % 3 == 0 { AckKind::Received } else { AckKind::Done },
                        })
                        .collect();
                    shard.apply(SessionEntry::Acks { client_id: "a".into(), epoch: 1, acks }, &mut effects);
                }
                2 if number % 2 == 0 => to_disk(&mut shard, &mut disk),
                2 => from_disk(&mut shard, &disk),
                _ => {
                    let mut bytes = Vec::new();
                    shard.encode(&mut bytes);
                    frozen.push((shard.freeze(), bytes));
                }
            }
        }
        for (frozen, was) in frozen {
            let mut bytes = Vec::new();
            frozen.encode(&mut bytes);
            prop_assert!(bytes == was);
        }
    }
}
