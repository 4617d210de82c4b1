//! The clients of a simulation.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use nightjar_mqtt::QoS;
use tokio::time::{sleep, timeout};

use crate::ground::now;
use crate::history::{RETAINED, SHARED, Sent};
use crate::node::{Act, Heard, Line, Who};
use crate::world::{Stage, World};

/// Durable subscribers, members of the shared subscription, topics of transient subscribers.
pub const SUBSCRIBERS: usize = 4;
pub const MEMBERS: usize = 3;
pub const TRANSIENT: usize = 3;
/// Who publishes.
pub const PUBLISHERS: [Kind; 6] = [
    Kind::AtLeastOnce,
    Kind::AtLeastOnce,
    Kind::ExactlyOnce,
    Kind::ExactlyOnce,
    Kind::Keeper(QoS::AtLeastOnce),
    Kind::Keeper(QoS::ExactlyOnce),
];
/// Who hears all wills.
pub const WATCHER: &str = "watcher";

async fn pause(world: &World, from: u64, to: u64) {
    let millis = from + world.below(to - from);
    sleep(Duration::from_millis(millis)).await;
}

/// Comes to some node; `None` if that does not take it.
async fn connect(world: &World, who: &Who) -> Option<(Line, bool)> {
    let at = world.below(world.size as u64) as usize;
    connect_to(world, at, who).await
}

async fn connect_to(world: &World, at: usize, who: &Who) -> Option<(Line, bool)> {
    let mut line = world.call(at, who)?;
    match timeout(Duration::from_secs(20), line.heard.recv()).await {
        Ok(Some(Heard::Connected { present })) => Some((line, present)),
        _ => None,
    }
}

async fn insist(world: &World, who: &Who) -> (Line, bool) {
    loop {
        if let Some(line) = connect(world, who).await {
            return line;
        }
        pause(world, 50, 300).await;
    }
}

/// A durable subscriber: comes, stays, goes to another node or away for a while.
pub async fn subscriber(world: Arc<World>, id: String, filter: String) {
    let who = Who {
        id: id.clone(),
        durable: true,
        will: None,
    };
    let mut known = false;
    let mut old: Option<Line> = None;
    loop {
        let (mut line, _) = insist(&world, &who).await;
        // The line of a connection that was taken over is let go only now.
        drop(old.take());
        if !known {
            let _ = line.acts.send(Act::Subscribe(1, filter.clone()));
            match line.heard.recv().await {
                Some(Heard::Suback) => {
                    known = true;
                    let mut history = world.history.lock();
                    history.sessions.insert(id.clone(), (filter.clone(), now()));
                }
                _ => continue,
            }
        }
        let trouble = world.stage() < Stage::Healed;
        let stay = if trouble {
            Duration::from_millis(1000 + world.below(9000))
        } else {
            Duration::from_secs(3600)
        };
        let left = timeout(stay, async {
            while let Some(heard) = line.heard.recv().await {
                if matches!(heard, Heard::Closed) {
                    break;
                }
            }
        });
        if left.await.is_ok() {
            pause(&world, 10, 500).await;
            continue;
        }
        match world.below(3) {
            // Comes to another node without a word.
            0 | 1 => old = Some(line),
            // Goes for a while.
            _ => {
                let _ = line.acts.send(Act::Leave);
                pause(&world, 100, 4000).await;
            }
        }
    }
}

/// What a publisher publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of QoS 1, for everybody.
    AtLeastOnce,
    /// Of QoS 2, for durable sessions and the shared subscription. To members at other nodes, as to transient sessions, a
    /// message that goes again may come again.
    ExactlyOnce,
    /// Retained messages, and what removes them, on topics that nobody else publishes on.
    Keeper(QoS),
}

impl Kind {
    const fn qos(self) -> QoS {
        match self {
            Self::AtLeastOnce => QoS::AtLeastOnce,
            Self::ExactlyOnce => QoS::ExactlyOnce,
            Self::Keeper(qos) => qos,
        }
    }

    fn topic(self, world: &World, number: usize) -> String {
        match (self, world.below(5)) {
            (Self::Keeper(_), _) => format!("{RETAINED}{number}/{}", world.below(2)),
            (Self::AtLeastOnce, 0) => format!("t/{}", world.below(TRANSIENT as u64)),
            (_, 1) => format!("{SHARED}x"),
            _ => format!("q/{}/x", world.below(SUBSCRIBERS as u64)),
        }
    }
}

/// A message whose last acknowledgement has not come.
struct Open {
    id: u16,
    topic: String,
    body: String,
    /// Its PUBREC has come: PUBREL goes, and not the message.
    received: bool,
}

/// What it sends of a message that is open.
fn act(world: &World, kind: Kind, open: &Open) -> Act {
    if open.received {
        return Act::Release(open.id);
    }
    let removes = world.history.lock().sent[&open.body].removes;
    Act::Publish {
        id: open.id,
        topic: open.topic.clone(),
        body: if removes {
            String::new()
        } else {
            open.body.clone()
        },
        qos: kind.qos(),
        retain: matches!(kind, Kind::Keeper(_)),
    }
}

/// A publisher with a window; what is not acknowledged goes again on the next connection.
pub async fn publisher(world: Arc<World>, number: usize, kind: Kind) {
    let who = Who {
        id: format!("publisher-{number}"),
        durable: true,
        will: None,
    };
    let mut order = 0;
    let mut packet = 0u16;
    let mut open: VecDeque<Open> = VecDeque::new();
    loop {
        if world.stage() >= Stage::Quiet && open.is_empty() {
            return;
        }
        let Some((mut line, _)) = connect(&world, &who).await else {
            pause(&world, 50, 300).await;
            continue;
        };
        world.history.lock().known.insert(who.id.clone());
        // Published on this connection and not acknowledged, in order.
        let mut flight: VecDeque<u16> = VecDeque::new();
        for item in &open {
            if !item.received {
                world.history.lock().sent_again(&item.body);
                flight.push_back(item.id);
            }
            let _ = line.acts.send(act(&world, kind, item));
        }
        let until = now() + 2000 + world.below(10_000);
        loop {
            if now() > until && world.stage() < Stage::Quiet {
                break; // To another node, whatever is on its way.
            }
            if world.stage() >= Stage::Quiet && open.is_empty() {
                return;
            }
            while open.len() < 3 && world.stage() < Stage::Quiet {
                order += 1;
                packet = packet % 1000 + 1;
                let item = Open {
                    id: packet,
                    topic: kind.topic(&world, number),
                    body: format!("{}-{order}", who.id),
                    received: false,
                };
                let sent = Sent {
                    topic: item.topic.clone(),
                    publisher: who.id.clone(),
                    order,
                    first: now(),
                    acked: None,
                    again: false,
                    qos: kind.qos(),
                    removes: matches!(kind, Kind::Keeper(_)) && world.below(5) == 0,
                };
                world.history.lock().sent.insert(item.body.clone(), sent);
                flight.push_back(packet);
                let _ = line.acts.send(act(&world, kind, &item));
                open.push_back(item);
            }
            match timeout(Duration::from_secs(25), line.heard.recv()).await {
                Ok(Some(Heard::Puback(id) | Heard::Pubrec(id))) => {
                    let first = flight.pop_front();
                    let at = open.iter().position(|it| it.id == id);
                    let (Some(at), true) = (at, first == Some(id)) else {
                        world.wrong(format!(
                            "{} was acknowledged {id}, and {first:?} was the next",
                            who.id
                        ));
                        return;
                    };
                    world.history.lock().acknowledged(&open[at].body);
                    if kind.qos() == QoS::ExactlyOnce {
                        open[at].received = true;
                        let _ = line.acts.send(Act::Release(id));
                    } else {
                        open.remove(at);
                        pause(&world, 5, 120).await;
                    }
                }
                Ok(Some(Heard::Pubcomp(id))) => {
                    let at = open.iter().position(|it| it.id == id && it.received);
                    let Some(at) = at else {
                        world.wrong(format!("{} was sent PUBCOMP {id} unasked", who.id));
                        return;
                    };
                    open.remove(at);
                    pause(&world, 5, 120).await;
                }
                _ => break,
            }
        }
        pause(&world, 1, 200).await;
    }
}

/// Asks one node for all that is retained. True if all of it came.
pub async fn read_retained(world: &World, at: usize, id: String) -> bool {
    let who = Who {
        id,
        durable: false,
        will: None,
    };
    let Some((mut line, _)) = connect_to(world, at, &who).await else {
        return false;
    };
    world.history.lock().connections[line.number].asked = Some(now());
    let _ = line.acts.send(Act::Subscribe(1, format!("{RETAINED}#")));
    let suback = timeout(Duration::from_secs(20), line.heard.recv()).await;
    if !matches!(suback, Ok(Some(Heard::Suback))) {
        return false;
    }
    // What is retained comes right behind the SUBACK.
    sleep(Duration::from_millis(300)).await;
    let whole = world.history.lock().read_whole(line.number);
    let _ = line.acts.send(Act::Leave);
    let _ = timeout(Duration::from_secs(30), line.heard.recv()).await;
    whole
}

/// Asks some node for what is retained, again and again.
pub async fn reader(world: Arc<World>) {
    let mut count = 0;
    while world.stage() < Stage::Quiet {
        count += 1;
        let at = world.below(world.size as u64) as usize;
        read_retained(&world, at, format!("reader/{count}")).await;
        pause(&world, 50, 800).await;
    }
}

/// Transient subscribers of one topic, one after the other.
pub async fn transient(world: Arc<World>, number: usize) {
    let mut count = 0;
    while world.stage() < Stage::Quiet {
        count += 1;
        let who = Who {
            id: format!("transient/{number}/{count}"),
            durable: false,
            will: None,
        };
        if let Some((mut line, _)) = connect(&world, &who).await {
            let _ = line.acts.send(Act::Subscribe(1, format!("t/{number}")));
            let stay = Duration::from_millis(1000 + world.below(15_000));
            let over = timeout(stay, async {
                while let Some(heard) = line.heard.recv().await {
                    if matches!(heard, Heard::Closed) {
                        break;
                    }
                }
            });
            if over.await.is_err() {
                let _ = line.acts.send(Act::Leave);
                pause(&world, 1, 50).await;
            }
        }
        pause(&world, 50, 500).await;
    }
}

/// Clients with wills, each once.
pub async fn mortal(world: Arc<World>, number: usize) {
    let mut count = 0;
    while world.stage() < Stage::Healed {
        count += 1;
        let id = format!("mortal/{number}/{count}");
        let who = Who {
            will: Some((format!("will/{number}"), format!("will of {id}"))),
            durable: false,
            id,
        };
        if let Some((mut line, _)) = connect(&world, &who).await {
            let stay = Duration::from_millis(1000 + world.below(12_000));
            let over = timeout(stay, line.heard.recv()).await;
            if over.is_err() {
                match world.below(3) {
                    // Dies without a word: dropping the line.
                    0 => {}
                    _ => {
                        let _ = line.acts.send(Act::Leave);
                        let _ = timeout(Duration::from_secs(30), line.heard.recv()).await;
                    }
                }
            }
        }
        pause(&world, 50, 1000).await;
    }
}
