//! Traces: every packet of one client, one topic filter or one address, as text, for a while.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use nightjar_mqtt::TopicFilter;
use parking_lot::{Mutex, RwLock};

use crate::time::Timestamp;

/// Traces at a time.
const MAX: usize = 32;
/// Bytes that wait to be taken; lines beyond are counted as lost.
const PENDING: usize = 256 * 1024;

/// What a trace follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceSubject {
    /// One client identifier.
    Client(Arc<str>),
    /// Topics that a filter matches; of SUBSCRIBE the filter itself, too.
    Topic(TopicFilter),
    /// One address.
    Address(IpAddr),
}

impl TraceSubject {
    /// `clientid`, `topic` or `ip_address`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Client(_) => "clientid",
            Self::Topic(_) => "topic",
            Self::Address(_) => "ip_address",
        }
    }

    fn wants(&self, client_id: &str, peer: Option<SocketAddr>, topic: Option<&str>) -> bool {
        match self {
            Self::Client(wanted) => **wanted == *client_id,
            Self::Address(wanted) => peer.is_some_and(|peer| peer.ip().to_canonical() == *wanted),
            Self::Topic(filter) => topic.is_some_and(|topic| {
                filter.as_str() == topic || !topic.is_empty() && filter.matches(topic)
            }),
        }
    }
}

impl fmt::Display for TraceSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(id) => f.write_str(id),
            Self::Topic(filter) => f.write_str(filter),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// One trace.
#[derive(Debug)]
pub struct Trace {
    /// Its name.
    pub name: String,
    /// What it follows.
    pub subject: TraceSubject,
    /// Since when.
    pub start: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Bytes after which it stops.
    pub max_size: u64,
    stopped: AtomicBool,
    size: AtomicU64,
    lost: AtomicU64,
    pending: Mutex<String>,
}

impl Trace {
    /// Does it still take lines?
    #[must_use]
    pub fn is_running(&self, now: Timestamp) -> bool {
        !self.stopped.load(Ordering::Relaxed)
            && now < self.until
            && self.size.load(Ordering::Relaxed) < self.max_size
    }

    /// Bytes written so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Takes the lines that wait.
    #[must_use]
    pub fn take(&self) -> String {
        let mut pending = self.pending.lock();
        let mut text = std::mem::take(&mut *pending);
        drop(pending);
        match self.lost.swap(0, Ordering::Relaxed) {
            0 => {}
            lost => text.push_str(&format!("({lost} lines were lost: they came too fast)\n")),
        }
        text
    }

    /// Ends it; what it wrote stays.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn write(&self, line: &str) {
        let mut pending = self.pending.lock();
        if pending.len() + line.len() > PENDING {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        pending.push_str(line);
        self.size.fetch_add(line.len() as u64, Ordering::Relaxed);
    }
}

/// Why a trace was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The name is taken.
    #[error("a trace named {0} exists; stop and delete it, or take another name")]
    Exists(String),
    /// Too many.
    #[error("{MAX} traces exist; delete one first")]
    TooMany,
}

/// All traces of a node.
#[derive(Debug, Default)]
pub struct Tracer {
    running: AtomicUsize,
    list: RwLock<Vec<Arc<Trace>>>,
}

impl Tracer {
    /// Is anything traced? One relaxed load: ask this before [`Self::line`].
    #[must_use]
    #[inline]
    pub fn is_active(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }

    /// Begins a trace.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn start(
        &self,
        name: &str,
        subject: TraceSubject,
        start: Timestamp,
        until: Timestamp,
        max_size: u64,
    ) -> Result<Arc<Trace>, TraceError> {
        let mut list = self.list.write();
        if list.iter().any(|trace| trace.name == name) {
            return Err(TraceError::Exists(name.to_owned()));
        }
        if list.len() >= MAX {
            return Err(TraceError::TooMany);
        }
        let trace = Arc::new(Trace {
            name: name.to_owned(),
            subject,
            start,
            until,
            max_size,
            stopped: AtomicBool::new(false),
            size: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            pending: Mutex::default(),
        });
        list.push(trace.clone());
        drop(list);
        self.refresh(start);
        Ok(trace)
    }

    /// Counts what still runs; called now and then, so that a trace that is over costs nothing.
    pub fn refresh(&self, now: Timestamp) {
        let list = self.list.read();
        let running = list.iter().filter(|trace| trace.is_running(now)).count();
        self.running.store(running, Ordering::Relaxed);
    }

    /// All traces, in the order they were started.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Trace>> {
        self.list.read().clone()
    }

    /// One trace.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Trace>> {
        self.list
            .read()
            .iter()
            .find(|trace| trace.name == name)
            .cloned()
    }

    /// Forgets a trace.
    pub fn remove(&self, name: &str) -> Option<Arc<Trace>> {
        let mut list = self.list.write();
        let at = list.iter().position(|trace| trace.name == name)?;
        let trace = list.remove(at);
        trace.stop();
        drop(list);
        self.refresh(Timestamp::now());
        Some(trace)
    }

    /// Writes a line to every trace that wants it.
    pub fn line(
        &self,
        client_id: &str,
        peer: Option<SocketAddr>,
        topic: Option<&str>,
        text: fmt::Arguments<'_>,
        now: Timestamp,
    ) {
        let list = self.list.read();
        let mut line = String::new();
        for trace in list.iter() {
            if trace.is_running(now) && trace.subject.wants(client_id, peer, topic) {
                if line.is_empty() {
                    line = compose(client_id, peer, text, now);
                }
                trace.write(&line);
            }
        }
    }
}

/// One line; control characters of a client's making stay out of it.
fn compose(
    client_id: &str,
    peer: Option<SocketAddr>,
    text: fmt::Arguments<'_>,
    now: Timestamp,
) -> String {
    let peer = peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string());
    let line = format!("{} [{client_id}] {peer} {text}", now.to_rfc3339());
    let mut line: String = line
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Option<SocketAddr> {
        Some("10.0.0.1:5".parse().unwrap())
    }

    #[test]
    fn a_trace_takes_what_it_follows_within_time_and_size() {
        let tracer = Tracer::default();
        assert!(!tracer.is_active());
        let subject = TraceSubject::Topic(TopicFilter::new("a/#").unwrap());
        let trace = tracer
            .start("t", subject, Timestamp(0), Timestamp(1000), 200)
            .unwrap();
        assert!(tracer.is_active());
        tracer.line(
            "c\n1",
            peer(),
            Some("a/b"),
            format_args!("PUBLISH"),
            Timestamp(1),
        );
        tracer.line(
            "c",
            peer(),
            Some("b/b"),
            format_args!("PUBLISH"),
            Timestamp(1),
        );
        tracer.line("c", peer(), None, format_args!("PINGREQ"), Timestamp(1));
        let text = trace.take();
        assert_eq!(
            text,
            "1970-01-01T00:00:00.001Z [c\u{fffd}1] 10.0.0.1:5 PUBLISH\n"
        );
        tracer.line(
            "c",
            peer(),
            Some("a"),
            format_args!("late"),
            Timestamp(1000),
        );
        assert_eq!(trace.take(), "");
        for _ in 0..100 {
            tracer.line("c", peer(), Some("a"), format_args!("x"), Timestamp(2));
        }
        assert!(trace.size() < 300, "{}", trace.size());
        tracer.refresh(Timestamp(2));
        assert!(!tracer.is_active());
        assert!(tracer.remove("t").is_some() && tracer.remove("t").is_none());
    }

    #[test]
    fn by_client_and_by_address() {
        let one = TraceSubject::Client("one".into());
        assert!(one.wants("one", None, None) && !one.wants("two", None, None));
        let address = TraceSubject::Address("10.0.0.1".parse().unwrap());
        assert!(address.wants("x", peer(), None) && !address.wants("x", None, None));
        let tracer = Tracer::default();
        let begin = |name: &str| tracer.start(name, one.clone(), Timestamp(0), Timestamp::NEVER, 1);
        assert!(begin("a").is_ok());
        assert_eq!(begin("a").unwrap_err(), TraceError::Exists("a".into()));
        for n in 1..MAX {
            assert!(begin(&n.to_string()).is_ok());
        }
        assert_eq!(begin("more").unwrap_err(), TraceError::TooMany);
    }
}
