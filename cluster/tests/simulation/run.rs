//! One simulation from its beginning to its verdict.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nightjar_broker::Timestamp;
use turmoil::{Builder, Sim};

use crate::clients::{self, WATCHER};
use crate::disk::{Dice, SimDisk};
use crate::faults::{Fault, Faults, SLOWEST};
use crate::ground::{PANICS, now};
use crate::history::{MEMBER, SHARED};
use crate::node::{self, Place};
use crate::world::{Stage, World};

/// What is simulated.
pub struct Plan {
    pub size: usize,
    pub replicas: usize,
    pub faults: u32,
    /// Disks do not sync, and at the end all nodes lose power at once.
    pub lies: bool,
    /// Clients with wills that live at once.
    pub mortals: usize,
    /// Faults in the place of those by seed.
    pub script: Vec<(u64, u64, Fault)>,
}

impl Plan {
    pub const fn of(size: usize, replicas: usize) -> Self {
        Self {
            size,
            replicas,
            faults: 7,
            lies: false,
            mortals: size,
            script: Vec::new(),
        }
    }
}

/// When simulations begin, in seconds since 1970.
pub const EPOCH: u64 = 1_800_000_000;
/// How long the healed cluster may take to be whole.
const WHOLE: u64 = 60_000;
/// How long it may then take until everything has arrived.
const ARRIVED: u64 = 60_000;

fn count_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with(|count| count.set(count.get() + 1));
            before(info);
        }));
        Timestamp::set_clock(|| {
            turmoil::since_epoch().map(|since| Timestamp(since.as_millis() as u64))
        });
    });
}

/// Ok: how many wills of nodes that died had their time looked at.
pub fn run(seed: u64, plan: &Plan) -> Result<usize, String> {
    count_panics();
    PANICS.with(|count| count.set(0));
    // Simulations of one process may run at once.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut dice = Dice::new(seed);
    let root = std::env::temp_dir().join(format!(
        "nightjar-simulation-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    ));
    let _ = std::fs::remove_dir_all(&root);
    let places = (1..=plan.size).map(|number| {
        let disk = SimDisk::new();
        disk.0.lies.store(plan.lies, Ordering::Relaxed);
        Place {
            name: format!("node-{number}"),
            root: root.join(number.to_string()),
            lives: 0,
            disk,
            gate: Arc::default(),
            slowest: Arc::new(AtomicU64::new(SLOWEST)),
            running: None,
        }
    });
    let world = World::new(
        plan.size,
        plan.replicas,
        places.collect(),
        Dice::new(dice.below(u64::MAX)),
    );
    let mut sim = Builder::new()
        .rng_seed(seed)
        .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH))
        .simulation_duration(Duration::from_secs(3600))
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        .tcp_capacity(4096)
        .build();
    for at in 0..plan.size {
        let world = world.clone();
        sim.host(format!("node-{}", at + 1), move || {
            node::live(world.clone(), at)
        });
    }
    let faults_dice = Dice::new(dice.below(u64::MAX));
    let faults = if plan.script.is_empty() {
        Faults::new(faults_dice, plan.faults)
    } else {
        Faults::scripted(faults_dice, &plan.script)
    };
    start_clients(&mut sim, &world, plan.mortals);
    let driven = drive(&mut sim, &world, faults, plan);
    let panics = PANICS.with(std::cell::Cell::get);
    drop(sim);
    for place in &mut *world.places.lock() {
        if let Some(running) = place.running.take() {
            running.store.close();
        }
    }
    let _ = std::fs::remove_dir_all(&root);
    if let Err(error) = driven {
        world.wrong(format!("the simulation ended: {error}"));
    }
    if panics > 0 {
        world.wrong(format!("{panics} tasks panicked"));
    }
    let timed = world.history.lock().timed_wills().count();
    world.verdict().map(|()| timed)
}

fn start_clients(sim: &mut Sim<'_>, world: &Arc<World>, mortals: usize) {
    let it = world.clone();
    sim.client("clients", async move {
        let world = it;
        for number in 0..clients::SUBSCRIBERS {
            let filter = format!("q/{number}/#");
            let id = format!("subscriber-{number}");
            tokio::spawn(clients::subscriber(world.clone(), id, filter));
        }
        let wills = "will/#".to_owned();
        tokio::spawn(clients::subscriber(
            world.clone(),
            WATCHER.to_owned(),
            wills,
        ));
        for number in 0..clients::MEMBERS {
            let filter = format!("$share/group/{SHARED}#");
            let id = format!("{MEMBER}{number}");
            tokio::spawn(clients::subscriber(world.clone(), id, filter));
        }
        for (number, kind) in clients::PUBLISHERS.into_iter().enumerate() {
            tokio::spawn(clients::publisher(world.clone(), number, kind));
        }
        tokio::spawn(clients::reader(world.clone()));
        for number in 0..clients::TRANSIENT {
            tokio::spawn(clients::transient(world.clone(), number));
        }
        for number in 0..mortals {
            tokio::spawn(clients::mortal(world.clone(), number));
        }
        finish(&world).await;
        Ok(())
    });
}

/// Waits until all is healed, and then until everything that was acknowledged has arrived.
async fn finish(world: &Arc<World>) {
    let second = Duration::from_millis(200);
    while world.stage() < Stage::Healed {
        tokio::time::sleep(second).await;
    }
    let healed = now();
    while world.serving() < world.size {
        if now() > healed + WHOLE {
            let views = world.views.lock();
            let problems: Vec<_> = world
                .places
                .lock()
                .iter()
                .map(|place| match &place.running {
                    Some(running) => format!("{}: {:?}", place.name, running.node.status().problem),
                    None => format!("{}: down", place.name),
                })
                .collect();
            let text = format!(
                "not all nodes serve {WHOLE} ms behind the last fault: {problems:?} {views:?}"
            );
            drop(views);
            world.wrong(text);
            return;
        }
        tokio::time::sleep(second).await;
    }
    world.say("all nodes serve".to_owned());
    // Everybody publishes some more.
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.enter(Stage::Quiet);
    let quiet = now();
    loop {
        tokio::time::sleep(second).await;
        let (missing, wills) = {
            let history = world.history.lock();
            (history.missing(), history.missing_wills(WATCHER))
        };
        if missing.is_empty() && wills.is_empty() && now() > quiet + 5000 {
            break;
        }
        if now() > quiet + ARRIVED {
            for what in missing {
                world.wrong(format!("acknowledged and lost: {what}"));
            }
            for what in wills {
                world.wrong(format!("a will was not published: {what}"));
            }
            break;
        }
    }
    for at in 0..world.size {
        let begun = now();
        let mut tries = 0;
        while !clients::read_retained(world, at, format!("reader/end/{at}/{tries}")).await {
            tries += 1;
            if now() > begun + ARRIVED {
                world.wrong(format!("node {} does not give what is retained", at + 1));
                break;
            }
            tokio::time::sleep(second).await;
        }
    }
    let wrong = world.history.lock().judge(WATCHER);
    for what in wrong {
        world.wrong(what);
    }
    compare(world).await;
}

/// The replicas are equal, and so is what nodes know of each other's routes.
async fn compare(world: &World) {
    let node = world.places.lock()[0]
        .running
        .as_ref()
        .map(|it| it.node.clone());
    let Some(node) = node else { return };
    let mut last = String::new();
    for _ in 0..20 {
        match node.verify().await {
            Ok(verdict) if verdict.differences.is_empty() => return,
            Ok(verdict) => last = format!("{:?}", verdict.differences),
            Err(error) => last = error,
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    world.wrong(format!("the replicas differ: {last}"));
}

fn drive(
    sim: &mut Sim<'_>,
    world: &Arc<World>,
    mut faults: Faults,
    plan: &Plan,
) -> turmoil::Result {
    let formed = |world: &World| {
        let sessions = clients::SUBSCRIBERS + clients::MEMBERS + 1;
        world.serving() == world.size && world.history.lock().sessions.len() == sessions
    };
    let mut lies = plan.lies;
    loop {
        match world.stage() {
            Stage::Forming => {
                if formed(world) {
                    let at = sim.elapsed().as_millis() as u64;
                    world.say_at(at, "the cluster is there".to_owned());
                    world.enter(Stage::Trouble);
                } else if sim.elapsed() > Duration::from_secs(60) {
                    return Err("no cluster formed in 60 s".into());
                }
            }
            Stage::Trouble => {
                let over = faults.step(sim, world);
                if over && lies {
                    lies = false;
                    faults.all_lose_power(sim, world);
                } else if over {
                    world.enter(Stage::Healed);
                }
            }
            _ => {}
        }
        if sim.step()? {
            return Ok(());
        }
        if world.stage() < Stage::Healed && world.has_failed() {
            return Ok(());
        }
    }
}
