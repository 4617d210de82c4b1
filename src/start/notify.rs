//! What systemd is told (Type=notify, WatchdogSec): that the node serves, that it lives, that it stops.
//!
//! Datagrams to the socket that `NOTIFY_SOCKET` names, as sd_notify(3) sends them. Without that variable all of this
//! does nothing; a manager that does not listen is nobody's problem but its own, so errors are passed over.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The manager of this service, if there is one.
#[derive(Debug)]
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// Time between two signs of life, and when the next is due.
    watchdog: Option<Duration>,
    due: Mutex<Instant>,
}

impl Notify {
    /// What the environment says.
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        // The watchdog may be meant for another process of the service.
        let mine = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = variable("WATCHDOG_USEC")
            .filter(|_| mine)
            .and_then(|text| text.parse().ok())
            .filter(|micros| *micros > 0)
            .map(Duration::from_micros);
        Self::new(std::env::var_os("NOTIFY_SOCKET").as_deref(), watchdog)
    }

    /// A manager that listens at this socket and wants a sign of life within this time.
    fn new(socket: Option<&std::ffi::OsStr>, watchdog: Option<Duration>) -> Self {
        let open = || {
            let name = socket?.as_bytes();
            let address = match name.strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name).ok()?,
                None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)).ok()?,
            };
            let socket = UnixDatagram::unbound().ok()?;
            // A manager that does not read must not hold up the node.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        };
        Self {
            socket: open(),
            // Half of it, as sd_watchdog_enabled(3) advises.
            watchdog: watchdog.map(|time| time / 2),
            due: Mutex::new(Instant::now()),
        }
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }

    /// All listeners serve.
    pub fn ready(&self) {
        self.send("READY=1\nSTATUS=serving");
    }

    /// The node stops; what follows is drain and the end.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// Called often by a task of the runtime: while it runs, tasks do.
    pub fn alive(&self) {
        let Some(every) = self.watchdog else { return };
        let mut due = self.due.lock();
        let now = Instant::now();
        if now >= *due {
            *due = now + every;
            drop(due);
            self.send("WATCHDOG=1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_signs_of_life_arrive() {
        let path = std::env::temp_dir().join(format!("nightjar-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let manager = UnixDatagram::bind(&path).unwrap();
        manager
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let read = || {
            let mut buffer = [0; 64];
            let length = manager.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        let notify = Notify::new(Some(path.as_os_str()), Some(Duration::from_secs(3600)));
        notify.ready();
        assert!(read().starts_with("READY=1"));
        notify.alive();
        // The next one is due in half an hour.
        notify.alive();
        notify.stopping();
        assert_eq!(read(), "WATCHDOG=1");
        assert!(read().starts_with("STOPPING=1"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn abstract_names_and_nobody_at_all() {
        let name = format!("@nightjar-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        manager
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        Notify::new(Some(name.as_ref()), None).ready();
        let mut buffer = [0; 64];
        assert!(manager.recv(&mut buffer).unwrap() > 0);
        let silent = Notify::new(None, None);
        silent.ready();
        silent.alive();
        Notify::new(Some("/no/such/socket".as_ref()), None).stopping();
    }
}
