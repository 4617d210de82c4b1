//! An MQTT client beside the sensors: counts what they publish, and publishes what sleepers are to get.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use bytes::Bytes;
use nightjar_mqtt::{ProtocolVersion, QoS};
use tokio::sync::{mpsc, oneshot};

use crate::bench::clock::{read_stamp, write_stamp};
use crate::bench::sn::stats::Shared;
use crate::cli::args::random_text;
use crate::connection::Connection;
use crate::endpoint::{Endpoint, Scheme};
use crate::error::{Error, Result};
use crate::message::Message;
use crate::options::ConnectOptions;
use crate::session::Event;
use crate::tls::TlsOptions;
use crate::transport::Dialer;

/// Messages on their way to the broker.
const WINDOW: u16 = 1000;

enum Order {
    /// So many messages to each sensor; answered with how many the broker acknowledged.
    Feed(u32, oneshot::Sender<Result<u64>>),
}

/// The client, on a thread of its own: sensors keep the others busy.
pub(super) struct Watch {
    orders: Option<mpsc::Sender<Order>>,
    thread: JoinHandle<Result<()>>,
}

impl Watch {
    /// Connects and subscribes to what the sensors publish.
    pub async fn start(shared: Arc<Shared>, port: u16) -> Result<Self> {
        let (orders, taken) = mpsc::channel(1);
        let (ready, is_ready) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("bench-sn-mqtt".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|source| Error::Io {
                        what: "cannot start",
                        source,
                    })?;
                runtime.block_on(work(&shared, port, taken, ready))
            })
            .map_err(|source| Error::Io {
                what: "cannot start a thread",
                source,
            })?;
        if is_ready.await.is_err() {
            // It ended before it was ready: its result says why.
            return match thread.join() {
                Ok(Err(error)) => Err(error),
                _ => Err(Error::Usage("the MQTT subscriber did not start".to_owned())),
            };
        }
        Ok(Self {
            orders: Some(orders),
            thread,
        })
    }

    /// Publishes so many messages to each sensor, and waits until the broker has them.
    pub async fn feed(&mut self, count: u32) -> Result<u64> {
        let (answer, answered) = oneshot::channel();
        let gone = || Error::Usage("the MQTT client of the bench has ended".to_owned());
        let orders = self.orders.as_ref().ok_or_else(gone)?;
        orders
            .send(Order::Feed(count, answer))
            .await
            .map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Disconnects; what went wrong, if something did.
    pub async fn end(mut self) -> Option<String> {
        drop(self.orders.take());
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        match joined {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(error.to_string()),
            _ => Some("the MQTT client of the bench panicked".to_owned()),
        }
    }
}

/// The filter that matches what all sensors publish.
fn filter(shared: &Shared) -> Option<String> {
    let bench = &shared.bench;
    match (bench.topic_id, bench.short_topic) {
        // Its name is the gateway's.
        (Some(_), _) => None,
        (None, Some(name)) => Some(String::from_utf8_lossy(&name.0).into_owned()),
        (None, None) => {
            let levels = bench.topic.split('/').map(|level| {
                if level.contains("%i") || level.contains("%c") {
                    "+"
                } else {
                    level
                }
            });
            Some(levels.collect::<Vec<_>>().join("/"))
        }
    }
}

async fn work(
    shared: &Shared,
    port: u16,
    mut orders: mpsc::Receiver<Order>,
    ready: oneshot::Sender<()>,
) -> Result<()> {
    let bench = &shared.bench;
    let endpoint = Endpoint::new(Scheme::Mqtt, bench.host.clone()).port(port);
    let dialer = Dialer::new(endpoint, &TlsOptions::default())?;
    let mut options =
        ConnectOptions::new(format!("nj-{}", random_text(18))).version(ProtocolVersion::V5);
    options.max_inflight = WINDOW;
    options.keep_alive = 0;
    let mut connection = Connection::connect(&dialer, options).await?;
    if let Some(filter) = filter(shared)
        && (bench.duration.is_some() || bench.limit > 0 || bench.sleep.is_none())
    {
        let qos = bench.qos.to_mqtt().unwrap_or(QoS::AtMostOnce);
        connection.subscribe_qos(&filter, qos).await?;
    }
    let _ = ready.send(());
    let mut expected = vec![0u64; bench.count as usize];
    let mut sequence = 0u64;
    loop {
        let order = tokio::select! {
            biased;
            event = connection.next_event() => {
                count(shared, &mut expected, &event?);
                None
            }
            order = orders.recv() => Some(order),
        };
        match order {
            None => {}
            Some(None) => return connection.disconnect().await,
            Some(Some(Order::Feed(messages, answer))) => {
                let sent = feed(shared, &mut connection, &mut sequence, messages).await;
                let _ = answer.send(sent);
            }
        }
    }
}

fn count(shared: &Shared, expected: &mut [u64], event: &Event) {
    let Event::Message(message) = event else {
        return;
    };
    let watched = &shared.watched;
    let stamp = read_stamp(&message.payload);
    let known = stamp.and_then(|stamp| {
        let source = stamp.source?;
        Some((
            stamp.time,
            source,
            expected.get_mut(source.publisher as usize)?,
        ))
    });
    let Some((time, source, expected)) = known else {
        watched.foreign.fetch_add(1, Ordering::Relaxed);
        return;
    };
    if source.sequence < *expected {
        watched.repeated.fetch_add(1, Ordering::Relaxed);
        return;
    }
    *expected = source.sequence + 1;
    watched.received.fetch_add(1, Ordering::Relaxed);
    let elapsed = shared.clock.now().saturating_sub(time);
    watched.latency.record(elapsed);
}

async fn feed(
    shared: &Shared,
    connection: &mut Connection,
    sequence: &mut u64,
    messages: u32,
) -> Result<u64> {
    let bench = &shared.bench;
    let mut sent = 0;
    for _ in 0..messages {
        for index in 0..bench.count {
            let mut payload = vec![0; bench.size as usize];
            write_stamp(&mut payload, shared.clock.now(), index, *sequence);
            let topic = shared.topic(&bench.down_topic, index);
            let message = Message::new(topic, Bytes::from(payload)).qos(bench.down_qos);
            connection.send(message).await?;
            // Answers are events, which nobody else takes meanwhile.
            while connection.has_event() {
                connection.next_event().await?;
            }
            sent += 1;
        }
        *sequence += 1;
    }
    connection.drain().await?;
    Ok(sent)
}
