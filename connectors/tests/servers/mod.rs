//! Starts and stops the servers of the system's packages.
#![allow(dead_code, reason = "each feature's test uses its own server")]

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server, ended and its directory removed when dropped.
pub struct Server {
    pub port: u16,
    folder: PathBuf,
    process: Child,
    /// The program that takes statements, a line each, on its standard input.
    shell: (PathBuf, Vec<String>),
}

impl Server {
    /// Runs statements by the server's own shell.
    pub fn run(&self, statements: &[String]) {
        let (program, arguments) = &self.shell;
        let mut shell = Command::new(program)
            .args(arguments)
            .env("PGPASSWORD", "db-pass")
            .env("REDISCLI_AUTH", "db-pass")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server's shell");
        let separator = if program.ends_with("redis-cli") {
            "\n"
        } else {
            ";\n"
        };
        let mut input = shell.stdin.take().expect("piped");
        for statement in statements {
            write!(input, "{statement}{separator}").expect("written");
        }
        drop(input);
        let output = shell.wait_with_output().expect("ended");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !text.contains("ERR"), "{text}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Where a program is: in the path, in sbin, or in PostgreSQL's own directory.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        let mut versions: Vec<PathBuf> = versions.flatten().map(|v| v.path().join("bin")).collect();
        versions.sort();
        folders.extend(versions);
    }
    let mut files = folders.into_iter().map(|folder| folder.join(name));
    files.find(|file| file.is_file())
}

/// The programs, or a word about the missing one.
fn programs<const N: usize>(names: [&str; N]) -> Option<[PathBuf; N]> {
    let found: Vec<PathBuf> = names.iter().map_while(|name| program(name)).collect();
    match found.try_into() {
        Ok(found) => Some(found),
        Err(found) => {
            let missing = names[found.len()];
            let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!ci, "{missing} is not installed");
            eprintln!("skipped: {missing} is not installed");
            None
        }
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("nightjar-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a directory");
    folder
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    listener.local_addr().expect("an address").port()
}

#[allow(
    clippy::disallowed_methods,
    reason = "a test waits for another process before its runtime has work"
)]
fn wait(process: &mut Child, port: u16, name: &str) {
    let end = Instant::now() + Duration::from_secs(120);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let ended = process.try_wait().expect("its state");
        assert!(ended.is_none(), "{name} ended: {ended:?}");
        assert!(Instant::now() < end, "{name} does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A server that must not run as root runs as nobody there, and owns its directory.
fn unprivileged(program: &Path, folder: &Path) -> Command {
    let own = Command::new("id").arg("-u").output().expect("id");
    if own.stdout.trim_ascii() != b"0" {
        return Command::new(program);
    }
    let done = Command::new("chown")
        .arg("-R")
        .arg("nobody")
        .arg(folder)
        .status();
    assert!(done.expect("chown").success());
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"])
        .arg(program);
    command
}

pub fn redis() -> Option<Server> {
    let [server, cli] = programs(["redis-server", "redis-cli"])?;
    let (folder, port) = (folder("redis"), free_port());
    let mut process = Command::new(server)
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args([
            "--save",
            "",
            "--appendonly",
            "no",
            "--requirepass",
            "db-pass",
        ])
        .current_dir(&folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server");
    wait(&mut process, port, "redis-server");
    let arguments = ["-h", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned);
    Some(Server {
        port,
        folder,
        process,
        shell: (cli, arguments.to_vec()),
    })
}

pub fn postgres() -> Option<Server> {
    let [initdb, server, psql] = programs(["initdb", "postgres", "psql"])?;
    let (folder, port) = (folder("postgres"), free_port());
    let (data, secret) = (folder.join("data"), folder.join("password"));
    std::fs::write(&secret, "db-pass\n").expect("written");
    let made = unprivileged(&initdb, &folder)
        .args([
            "-U",
            "postgres",
            "--auth=scram-sha-256",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        ])
        .arg(format!("--pwfile={}", secret.display()))
        .arg("-D")
        .arg(&data)
        .current_dir(&folder)
        .stdout(Stdio::null())
        .status();
    assert!(made.expect("initdb").success());
    let mut process = unprivileged(&server, &folder)
        .arg("-D")
        .arg(&data)
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-F", "-k"])
        .arg(&folder)
        .current_dir(&folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("postgres");
    wait(&mut process, port, "postgres");
    let base = [
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-h",
        "127.0.0.1",
        "-U",
        "postgres",
        "-p",
    ];
    let mut arguments: Vec<String> = base.map(str::to_owned).to_vec();
    arguments.push(port.to_string());
    let server = Server {
        port,
        folder,
        process,
        shell: (psql, arguments),
    };
    server.run(&["create database mqtt".to_owned()]);
    let mut server = server;
    server.shell.1.extend(["-d", "mqtt"].map(str::to_owned));
    Some(server)
}

pub fn mariadb() -> Option<Server> {
    let [install, server, shell] = programs(["mariadb-install-db", "mariadbd", "mariadb"])?;
    let (folder, port) = (folder("mariadb"), free_port());
    let (data, socket) = (folder.join("data"), folder.join("sock"));
    let made = unprivileged(&install, &folder)
        .args([
            "--no-defaults",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
        ])
        .arg(format!("--datadir={}", data.display()))
        .current_dir(&folder)
        .stdout(Stdio::null())
        .status();
    assert!(made.expect("mariadb-install-db").success());
    let mut process = unprivileged(&server, &folder)
        .args([
            "--no-defaults",
            "--bind-address=127.0.0.1",
            "--skip-log-bin",
        ])
        .arg(format!("--port={port}"))
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--socket={}", socket.display()))
        .arg(format!("--pid-file={}", folder.join("pid").display()))
        .current_dir(&folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mariadbd");
    wait(&mut process, port, "mariadbd");
    let arguments = vec![
        "--no-defaults".to_owned(),
        "--user=root".to_owned(),
        format!("--socket={}", socket.display()),
    ];
    Some(Server {
        port,
        folder,
        process,
        shell: (shell, arguments),
    })
}
