//! The wake protocol of the outbox under every interleaving: a delivery that was pushed is always drained, and a
//! publisher that waits for room is always let go.
#![cfg(loom)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;

use loom::future::block_on;
use loom::thread;
use nightjar_broker::access::{ClientInfo, Protocol};
use nightjar_broker::settings::QueueLimits;
use nightjar_broker::{
    Completion, Delivery, Message, MessageHead, SessionHandle, Signal, Ticket, Timestamp,
};
use nightjar_mqtt::{ProtocolVersion, QoS, TopicName};

fn handle(max_len: usize) -> Arc<SessionHandle> {
    let info = ClientInfo::new(
        "c",
        ([127, 0, 0, 1], 1).into(),
        "tcp:default",
        Protocol::Mqtt(ProtocolVersion::V5),
    );
    let limits = QueueLimits {
        max_len,
        ..QueueLimits::default()
    };
    SessionHandle::new(Arc::new(info), false, 1, Arc::new(limits))
}

fn delivery(qos: QoS) -> Delivery {
    let head = MessageHead {
        topic: TopicName::new("t").unwrap(),
        qos,
        retain: false,
        publisher: None,
        received_at: Timestamp(0),
        expires_at: None,
        properties: None,
    };
    Delivery::new(Message::new(head, b"x"), qos, false, 0)
}

/// The subscriber's task: drains until it has `wanted`, sleeping whenever there is nothing.
fn drain(handle: &SessionHandle, wanted: usize) {
    block_on(std::future::poll_fn(|cx| {
        let mut got = VecDeque::new();
        let mut count = 0;
        thread_count(|total| {
            while handle.drain(1, &mut got, 1, 8, cx.waker()) {}
            count = *total + got.len();
            *total = count;
        });
        if count >= wanted {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }));
}

loom::thread_local! {
    static DRAINED: std::cell::RefCell<usize> = std::cell::RefCell::new(0);
}

fn thread_count(f: impl FnOnce(&mut usize)) {
    DRAINED.with(|total| f(&mut total.borrow_mut()));
}

#[test]
fn a_push_is_never_slept_through() {
    loom::model(|| {
        let shared = handle(100);
        let publisher = {
            let shared = shared.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    if let Some(waker) = shared.push(delivery(QoS::AtMostOnce)).waker {
                        waker.wake();
                    }
                }
            })
        };
        drain(&shared, 2);
        publisher.join().unwrap();
    });
}

#[test]
fn a_stalled_publisher_is_let_go_when_there_is_room() {
    loom::model(|| {
        let shared = handle(2);
        for _ in 0..2 {
            shared.push(delivery(QoS::AtLeastOnce));
        }
        let publisher = {
            let shared = shared.clone();
            thread::spawn(move || {
                let completion = Completion::new(1);
                if shared.stall(&completion) {
                    block_on(Ticket::on(completion).wait()).unwrap();
                }
            })
        };
        drain(&shared, 2);
        publisher.join().unwrap();
    });
}

#[test]
fn a_signal_is_never_slept_through() {
    loom::model(|| {
        let shared = handle(100);
        let other = {
            let shared = shared.clone();
            thread::spawn(move || shared.signal(1, Signal::TakenOver))
        };
        block_on(std::future::poll_fn(|cx| {
            if shared.take_signal(1).is_some() {
                return Poll::Ready(());
            }
            let mut got = VecDeque::new();
            shared.drain(1, &mut got, 1, 8, cx.waker());
            Poll::Pending
        }));
        other.join().unwrap();
    });
}
