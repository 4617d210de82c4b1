//! The clients of a simulation.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::ground::now;
use crate::history::Sent;
use crate::node::{Act, Heard, Line, Who};
use crate::world::{Stage, World};

/// Durable subscribers, publishers, topics of transient subscribers.
pub const SUBSCRIBERS: usize = 4;
pub const PUBLISHERS: usize = 3;
pub const TRANSIENT: usize = 3;
/// Who hears all wills.
pub const WATCHER: &str = "watcher";

async fn pause(world: &World, from: u64, to: u64) {
    let millis = from + world.below(to - from);
    sleep(Duration::from_millis(millis)).await;
}

/// Comes to some node; `None` if that does not take it.
async fn connect(world: &World, who: &Who) -> Option<(Line, bool)> {
    let at = world.below(world.size as u64) as usize;
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

/// A publisher with a window; what is not acknowledged goes again on the next connection.
pub async fn publisher(world: Arc<World>, number: usize) {
    let who = Who {
        id: format!("publisher-{number}"),
        durable: true,
        will: None,
    };
    let mut order = 0;
    let mut open: VecDeque<(String, String)> = VecDeque::new();
    while world.stage() < Stage::Quiet {
        let Some((mut line, _)) = connect(&world, &who).await else {
            pause(&world, 50, 300).await;
            continue;
        };
        let mut packet = 0u16;
        let mut flight: VecDeque<(u16, String)> = VecDeque::new();
        let mut again: VecDeque<(String, String)> = open.iter().cloned().collect();
        world.history.lock().sent_again(&open);
        let until = now() + 2000 + world.below(10_000);
        loop {
            if now() > until && world.stage() < Stage::Quiet {
                break; // To another node, whatever is on its way.
            }
            if world.stage() >= Stage::Quiet && open.is_empty() {
                return;
            }
            while flight.len() < 3 {
                let (topic, body) = match again.pop_front() {
                    Some(next) => next,
                    None if world.stage() >= Stage::Quiet => break,
                    None => {
                        order += 1;
                        let body = format!("{}-{order}", who.id);
                        let topic = match world.below(4) {
                            0 => format!("t/{}", world.below(TRANSIENT as u64)),
                            _ => format!("q/{}/x", world.below(SUBSCRIBERS as u64)),
                        };
                        let sent = Sent {
                            topic: topic.clone(),
                            publisher: who.id.clone(),
                            order,
                            first: now(),
                            acked: None,
                            again: false,
                        };
                        world.history.lock().sent.insert(body.clone(), sent);
                        open.push_back((topic.clone(), body.clone()));
                        (topic, body)
                    }
                };
                packet = packet % 1000 + 1;
                flight.push_back((packet, body.clone()));
                let _ = line.acts.send(Act::Publish {
                    id: packet,
                    topic,
                    body,
                });
            }
            match timeout(Duration::from_secs(25), line.heard.recv()).await {
                Ok(Some(Heard::Puback(id))) => {
                    let Some((packet, body)) = flight.pop_front() else {
                        world.wrong(format!(
                            "{} was acknowledged {id} without a PUBLISH",
                            who.id
                        ));
                        return;
                    };
                    if packet != id {
                        world.wrong(format!("{} was acknowledged {id} before {packet}", who.id));
                    }
                    open.retain(|(_, have)| *have != body);
                    world.history.lock().acknowledged(&body);
                    pause(&world, 5, 120).await;
                }
                _ => break,
            }
        }
        pause(&world, 1, 200).await;
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
