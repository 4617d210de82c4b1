//! What is done to the nodes, by seed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use turmoil::Sim;

use crate::disk::Dice;
use crate::world::World;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nodes lose power.
    Crash(Vec<usize>),
    /// Two sides do not reach each other.
    Split(Vec<usize>, Vec<usize>),
    /// What one sends to others is lost.
    Deaf(usize, Vec<usize>),
    /// Messages between two nodes are slow.
    Slow(usize, usize, u64),
    /// A node stands still, its clock with it.
    Pause(usize),
    /// The disk of a node is slow.
    Disk(usize, u64),
}

/// So long after a fault the cluster is whole again.
const CALM: u64 = 7_000;

/// A fault, and when it is to be healed.
struct Active {
    fault: Fault,
    until: u64,
}

pub struct Faults {
    dice: Dice,
    next: u64,
    left: u32,
    /// Faults in the place of those by seed: pause before, how long, which.
    script: Vec<(u64, u64, Fault)>,
    active: Vec<Active>,
    /// When the last one was healed.
    healed: u64,
}

fn name(at: usize) -> String {
    format!("node-{}", at + 1)
}

impl Faults {
    pub fn new(dice: Dice, count: u32) -> Self {
        Self {
            dice,
            next: 0,
            left: count,
            script: Vec::new(),
            active: Vec::new(),
            healed: 0,
        }
    }

    /// These, one behind the other, in the place of those by seed.
    pub fn scripted(dice: Dice, script: &[(u64, u64, Fault)]) -> Self {
        let mut script = script.to_vec();
        script.reverse();
        Self {
            script,
            ..Self::new(dice, 0)
        }
    }

    /// Strikes and heals what is due; true when all is over.
    pub fn step(&mut self, sim: &mut Sim<'_>, world: &Arc<World>) -> bool {
        let now = sim.elapsed().as_millis() as u64;
        let mut at = 0;
        while at < self.active.len() {
            if self.active[at].until <= now {
                let over = self.active.remove(at);
                world.say_at(now, format!("healed: {:?}", over.fault));
                self.heal(sim, world, &over.fault);
                self.healed = now;
            } else {
                at += 1;
            }
        }
        if let Some((pause, stay, fault)) = self.script.last().cloned() {
            if self.next == 0 {
                self.next = now + pause;
            }
            if now >= self.next {
                self.script.pop();
                self.next = 0;
                self.begin(sim, world, fault, now, stay);
            }
            return false;
        }
        if self.left == 0 {
            return self.active.is_empty();
        }
        if self.next == 0 {
            self.next = now + 500;
        }
        if now < self.next {
            return false;
        }
        self.left -= 1;
        let fault = self.pick(world.size);
        let stay = match self.dice.below(3) {
            0 => 200 + self.dice.below(2000),
            _ => 2000 + self.dice.below(10_000),
        };
        // A third of them come while the one before is not over.
        let gap = match self.dice.below(3) {
            0 => self.dice.below(stay),
            _ => stay + self.dice.below(6000),
        };
        self.next = now + gap;
        if self.clashes(&fault) {
            return false;
        }
        self.begin(sim, world, fault, now, stay);
        false
    }

    fn begin(&mut self, sim: &mut Sim<'_>, world: &World, fault: Fault, now: u64, stay: u64) {
        world.say_at(now, format!("{fault:?} for {stay} ms"));
        self.strike(sim, world, &fault, now);
        // A node that comes back before its lease ends gives wills more time: they wait for its clients.
        let calm = self.active.is_empty() && now > self.healed + CALM && stay > CALM;
        let one = match &fault {
            Fault::Crash(nodes) if calm && nodes.len() == 1 => Some(nodes[0]),
            _ => None,
        };
        world.history.lock().struck(now, one);
        self.active.push(Active {
            fault,
            until: now + stay,
        });
    }

    /// Strikes every node at once, for a second.
    pub fn all_lose_power(&mut self, sim: &mut Sim<'_>, world: &Arc<World>) {
        let now = sim.elapsed().as_millis() as u64;
        let fault = Fault::Crash((0..world.size).collect());
        self.begin(sim, world, fault, now, 1000);
    }

    /// Turmoil knows one state for each pair of hosts.
    fn clashes(&self, fault: &Fault) -> bool {
        let touches_net = |fault: &Fault| !matches!(fault, Fault::Disk(..) | Fault::Pause(_));
        let nodes = |fault: &Fault| match fault {
            Fault::Crash(nodes) => nodes.clone(),
            Fault::Pause(node) | Fault::Disk(node, _) => vec![*node],
            _ => Vec::new(),
        };
        self.active.iter().any(|active| {
            let crash = |it: &Fault| matches!(it, Fault::Crash(_));
            touches_net(fault)
                && touches_net(&active.fault)
                && !crash(fault)
                && !crash(&active.fault)
                || nodes(fault)
                    .iter()
                    .any(|node| nodes(&active.fault).contains(node))
        })
    }

    fn some(&mut self, size: usize, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..size).collect();
        while all.len() > count {
            let at = self.dice.below(all.len() as u64) as usize;
            all.remove(at);
        }
        all
    }

    fn pick(&mut self, size: usize) -> Fault {
        let one = self.dice.below(size as u64) as usize;
        let others: Vec<usize> = (0..size).filter(|it| *it != one).collect();
        let other = others[self.dice.below(others.len() as u64) as usize];
        match self.dice.below(12) {
            0..=2 => Fault::Crash(vec![one]),
            3 => {
                let count = 1 + self.dice.below(size as u64) as usize;
                Fault::Crash(self.some(size, count))
            }
            4 | 5 => Fault::Split(vec![one], others),
            6 => {
                let side = self.some(size, size / 2);
                let rest = (0..size).filter(|it| !side.contains(it)).collect();
                Fault::Split(side, rest)
            }
            7 => Fault::Deaf(one, others),
            8 => Fault::Deaf(one, vec![other]),
            9 => Fault::Slow(one, other, 20 + self.dice.below(700)),
            10 => Fault::Pause(one),
            _ => Fault::Disk(one, 20 + self.dice.below(600)),
        }
    }

    fn strike(&mut self, sim: &mut Sim<'_>, world: &World, fault: &Fault, now: u64) {
        match fault {
            Fault::Crash(nodes) => {
                for at in nodes {
                    world.places.lock()[*at].lose_power(&mut self.dice);
                    sim.crash(name(*at));
                    world.history.lock().cut(*at, now, true);
                    world.views.lock()[*at] = Default::default();
                }
            }
            Fault::Split(one, other) => {
                for a in one {
                    for b in other {
                        sim.partition(name(*a), name(*b));
                    }
                }
            }
            Fault::Deaf(one, others) => {
                for b in others {
                    sim.partition_oneway(name(*one), name(*b));
                }
            }
            Fault::Slow(a, b, millis) => {
                sim.set_link_latency(name(*a), name(*b), Duration::from_millis(*millis));
            }
            Fault::Pause(at) => {
                world.places.lock()[*at].gate.shut();
                world.history.lock().cut(*at, now, false);
            }
            Fault::Disk(at, millis) => {
                let places = world.places.lock();
                places[*at].slowest.store(*millis, Ordering::Relaxed);
            }
        }
    }

    fn heal(&mut self, sim: &mut Sim<'_>, world: &World, fault: &Fault) {
        match fault {
            Fault::Crash(nodes) => {
                for at in nodes {
                    sim.bounce(name(*at));
                }
            }
            Fault::Split(one, other) => {
                for a in one {
                    for b in other {
                        sim.repair(name(*a), name(*b));
                    }
                }
            }
            Fault::Deaf(one, others) => {
                for b in others {
                    sim.repair_oneway(name(*one), name(*b));
                }
            }
            Fault::Slow(a, b, _) => {
                sim.set_link_latency(name(*a), name(*b), Duration::from_millis(2));
            }
            Fault::Pause(at) => {
                let gate = world.places.lock()[*at].gate.clone();
                gate.open();
            }
            Fault::Disk(at, _) => {
                let places = world.places.lock();
                places[*at].slowest.store(SLOWEST, Ordering::Relaxed);
            }
        }
    }
}

/// The slowest write of a disk that is well, in milliseconds.
pub const SLOWEST: u64 = 4;
