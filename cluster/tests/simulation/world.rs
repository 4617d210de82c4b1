//! What the parts of a simulation share: the nodes, the history, and what went wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nightjar_cluster::ClusterNode;
use parking_lot::Mutex;
use tokio::sync::mpsc::unbounded_channel;

use crate::disk::Dice;
use crate::ground::now;
use crate::history::History;
use crate::node::{Caller, Line, Place, Who};

/// How far a simulation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Stage {
    /// The cluster forms, the first clients come.
    Forming = 0,
    /// Faults.
    Trouble,
    /// Everything is healed.
    Healed,
    /// Nobody publishes any more.
    Quiet,
}

/// What a node said of itself last.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub at: u64,
    pub number: u64,
    /// It takes clients, and its lease holds.
    pub serves: bool,
    pub leader: Option<u64>,
    /// Of each node: incarnation, up.
    pub nodes: BTreeMap<u64, (u64, bool)>,
}

pub struct World {
    pub size: usize,
    pub replicas: usize,
    pub places: Mutex<Vec<Place>>,
    pub history: Mutex<History>,
    pub dice: Mutex<Dice>,
    pub views: Mutex<Vec<View>>,
    stage: AtomicUsize,
    wrong: Mutex<Vec<String>>,
    story: Mutex<Vec<String>>,
    /// When a node was first seen as down by another one while it served: node, incarnation.
    buried: Mutex<BTreeMap<(u64, u64), u64>>,
}

/// So long a node may serve that others know as down: it hears of it, or its lease ends.
const FENCE: u64 = 5_500;

impl World {
    pub fn new(size: usize, replicas: usize, places: Vec<Place>, dice: Dice) -> Arc<Self> {
        Arc::new(Self {
            size,
            replicas,
            views: Mutex::new(vec![View::default(); places.len()]),
            places: Mutex::new(places),
            history: Mutex::default(),
            dice: Mutex::new(dice),
            stage: AtomicUsize::new(0),
            wrong: Mutex::default(),
            story: Mutex::default(),
            buried: Mutex::default(),
        })
    }

    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Forming,
            1 => Stage::Trouble,
            2 => Stage::Healed,
            _ => Stage::Quiet,
        }
    }

    pub fn enter(&self, stage: Stage) {
        self.stage.store(stage as usize, Ordering::Release);
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.dice.lock().below(bound)
    }

    pub fn wrong(&self, what: String) {
        self.say(format!("WRONG: {what}"));
        self.wrong.lock().push(what);
    }

    pub fn say(&self, what: String) {
        self.say_at(now(), what);
    }

    pub fn say_at(&self, at: u64, what: String) {
        let line = format!("{:8.3} {what}", at as f64 / 1000.0);
        if std::env::var_os("NIGHTJAR_SIM_TELL").is_some() {
            eprintln!("{line}");
        }
        self.story.lock().push(line);
    }

    /// What went wrong, behind what happened before.
    pub fn verdict(&self) -> Result<(), String> {
        let wrong = self.wrong.lock();
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{}\n  {}",
            self.story.lock().join("\n"),
            wrong.join("\n  ")
        ))
    }

    pub fn has_failed(&self) -> bool {
        !self.wrong.lock().is_empty()
    }

    /// Notes what a node says of itself, and holds it against what the others said.
    pub fn look(&self, at: usize, node: &ClusterNode) {
        let status = node.status();
        let view = View {
            at: now(),
            number: status.number,
            serves: status.state == "serving" && status.lease.unwrap_or(0) > 0,
            leader: status.leader,
            nodes: status
                .nodes
                .iter()
                .map(|it| (it.number, (it.incarnation, it.up)))
                .collect(),
        };
        let mut views = self.views.lock();
        let before = std::mem::replace(&mut views[at], view);
        let view = &views[at];
        if before.serves != view.serves {
            let problem = status.problem.unwrap_or_default();
            self.say(format!(
                "{} {} {problem}",
                status.node,
                if view.serves {
                    "serves"
                } else {
                    "does not serve"
                }
            ));
        }
        if before.serves && !view.serves {
            self.history.lock().fenced.push((at, view.at));
        }
        if view.leader == Some(view.number) && before.leader != view.leader {
            self.say(format!("{} leads", status.node));
        }
        if !view.serves {
            return;
        }
        let Some((incarnation, true)) = view.nodes.get(&view.number) else {
            return;
        };
        let key = (view.number, *incarnation);
        let dead = views.iter().any(|other| {
            let seen = other.nodes.get(&view.number);
            seen.is_some_and(|(have, up)| have > incarnation || have == incarnation && !up)
        });
        if dead {
            let mut buried = self.buried.lock();
            let since = *buried.entry(key).or_insert(view.at);
            if view.at > since + FENCE {
                buried.insert(key, u64::MAX / 2);
                drop(buried);
                self.wrong(format!(
                    "{} serves although others have known it as down for {} ms",
                    status.node,
                    view.at - since
                ));
            }
        }
    }

    /// Nodes that say that they serve.
    pub fn serving(&self) -> usize {
        let places = self.places.lock();
        let views = self.views.lock();
        let alive = places.iter().zip(views.iter());
        alive
            .filter(|(place, view)| place.running.is_some() && view.serves)
            .count()
    }

    /// Calls a node; `None` if nobody is there.
    pub fn call(&self, at: usize, who: &Who) -> Option<Line> {
        let running = self.places.lock()[at].running.clone()?;
        let (acts, taken) = unbounded_channel();
        let (told, heard) = unbounded_channel();
        let number = self.history.lock().call(who, at);
        let caller = Caller {
            who: who.clone(),
            number,
            acts: taken,
            heard: told,
        };
        running.callers.send(caller).ok()?;
        Some(Line {
            number,
            acts,
            heard,
        })
    }
}
