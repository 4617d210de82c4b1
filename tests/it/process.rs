//! Runs the program as a process: one command to its end, or a broker until the test is over.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for a broker to be ready or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Settings that put every listener on a free loopback port.
pub const FREE_PORTS: [&str; 6] = [
    "listeners.tcp.default.bind=127.0.0.1:0",
    "listeners.tls.default.bind=127.0.0.1:0",
    "listeners.ws.default.bind=127.0.0.1:0",
    "listeners.wss.default.bind=127.0.0.1:0",
    "listeners.mqttsn.default.bind=127.0.0.1:0",
    "api.bind=127.0.0.1:0",
];

/// A directory of one test, removed at its end.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("nightjar-it-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary directory can be written to");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file below the directory and returns its path.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a directory"))
            .expect("can be made");
        std::fs::write(&path, content).expect("can be written");
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a command did.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// The program with these arguments, in a directory, without any of its variables.
pub fn command(dir: &Dir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightjar"));
    command
        .args(arguments)
        .current_dir(dir.path())
        .stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NIGHTJAR_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end.
pub fn run(dir: &Dir, arguments: &[&str]) -> Done {
    done(
        command(dir, arguments)
            .output()
            .expect("the program can be started"),
    )
}

/// Runs a command with variables.
pub fn run_with(dir: &Dir, variables: &[(&str, &str)], arguments: &[&str]) -> Done {
    let output = command(dir, arguments)
        .envs(variables.iter().copied())
        .output();
    done(output.expect("the program can be started"))
}

fn done(output: Output) -> Done {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("what the program writes is UTF-8");
    Done {
        code: output.status.code().unwrap_or(-1),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// `--set` before each of these.
pub fn sets<'a>(command: &'a str, settings: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![command];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    arguments
}

/// A running broker on free ports. Killed when dropped.
pub struct Broker {
    child: Child,
    addresses: BTreeMap<String, String>,
    stderr: Option<ChildStderr>,
}

impl Broker {
    /// Starts it with further settings and waits for its ready line.
    pub fn start(dir: &Dir, settings: &[&str]) -> Self {
        let all: Vec<&str> = FREE_PORTS.iter().chain(settings).copied().collect();
        let mut child = command(dir, &sets("serve", &all))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take();
        let mut lines = BufReader::new(stdout).lines();
        let mut addresses = None;
        for line in lines.by_ref() {
            let line = line.expect("what the program writes is UTF-8");
            if let Some(ready) = line.strip_prefix("nightjar ready:") {
                let pairs = ready
                    .split_whitespace()
                    .filter_map(|pair| pair.split_once('='));
                addresses = Some(
                    pairs
                        .map(|(name, address)| (name.to_owned(), address.to_owned()))
                        .collect(),
                );
                break;
            }
        }
        let mut broker = Self {
            child,
            addresses: BTreeMap::new(),
            stderr,
        };
        match addresses {
            Some(addresses) => broker.addresses = addresses,
            None => panic!(
                "the broker did not become ready: {}",
                broker.rest_of_stderr()
            ),
        }
        broker
    }

    /// Where a listener is, by its name in the ready line.
    pub fn address(&self, listener: &str) -> &str {
        self.addresses
            .get(listener)
            .unwrap_or_else(|| panic!("{listener} is not in {:?}", self.addresses))
    }

    /// All listeners of the ready line.
    pub const fn addresses(&self) -> &BTreeMap<String, String> {
        &self.addresses
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(status.expect("kill can be started").success());
    }

    /// Waits for its end and returns exit code and what it wrote to standard error.
    pub fn wait(mut self) -> (i32, String) {
        let begun = Instant::now();
        let code = loop {
            match self.child.try_wait().expect("it is our child") {
                Some(status) => break status.code().unwrap_or(-1),
                None if begun.elapsed() > PATIENCE => panic!("the broker does not end"),
                None => pause(),
            }
        };
        (code, self.rest_of_stderr())
    }

    fn rest_of_stderr(&mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut text = String::new();
        if let Some(stderr) = &mut self.stderr {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A moment between two looks at something.
#[expect(clippy::disallowed_methods, reason = "tests wait on their own thread")]
pub fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// Looks at something until it is there.
pub fn until(what: &str, mut look: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !look() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
        pause();
    }
}
