//! Random datagrams, commands and times do no harm.

use super::*;

/// xorshift64*: the same inputs on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % limit
    }

    /// A datagram whose Length is right and whose ids are likely ones; every other one is an answer that accepts.
    fn datagram(&mut self) -> Vec<u8> {
        let id = 0x10 + self.below(20) as u8;
        match self.below(24) {
            0..2 => return vec![3, 0x05, 0],
            2 => return vec![2, 0x06],
            3 => return vec![2, 0x08],
            4 => return vec![2, 0x17],
            5 => return vec![2, 0x18],
            6 => return vec![7, 0x0B, 0, 1, 0, id, 0],
            7 => return vec![7, 0x0D, 0, 1, 0, id, 0],
            8 => return vec![4, 0x0F, 0, id],
            9 => return vec![4, 0x0E, 0, id],
            10 => return vec![8, 0x13, 0, 0, 1, 0, id, 0],
            11 => return vec![4, 0x15, 0, id],
            _ => {}
        }
        let size = self.below(9) as usize;
        let mut datagram = vec![size as u8 + 2, self.below(0x1E) as u8];
        datagram.extend((0..size).map(|at| {
            if at % 2 == 1 {
                self.below(40) as u8
            } else {
                self.below(2) as u8
            }
        }));
        datagram
    }
}

#[test]
fn any_order_of_commands_and_datagrams_keeps_the_client_going() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut understood = 0u32;
    let mut done = 0u32;
    for _ in 0..2_000 {
        let mut bench = Bench::with(|config| config.publish_asleep = true);
        for _ in 0..150 {
            let (client, now) = (&mut bench.client, bench.now);
            let qos = QoS::from_level(random.below(4) as i8 - 1).expect("-1 to 2");
            let topic = match random.below(3) {
                0 => Topic::Name("a".into()),
                1 => Topic::Predefined(1),
                _ => Topic::Short(*b"te"),
            };
            match random.below(40) {
                0..2 => drop(client.connect(now, ConnectOptions::default())),
                2 => drop(client.connect(
                    now,
                    ConnectOptions {
                        clean_session: false,
                        prompt_will: true,
                        will: Some(will()),
                        duration: 9,
                    },
                )),
                3 => drop(client.publish(now, topic, qos, false, "x")),
                4 => drop(client.subscribe(now, topic, qos)),
                5 => drop(client.unsubscribe(now, topic)),
                6 => drop(client.sleep(now, 9)),
                7 => drop(client.wake(now)),
                8 => drop(client.disconnect(now)),
                9 => drop(client.update_will_topic(now, None)),
                10 => {
                    if let Some(due) = client.poll_timeout() {
                        bench.now = due.max(now);
                        client.handle_timeout(bench.now);
                    }
                }
                _ => {
                    understood += u32::from(client.handle_datagram(now, &random.datagram()).is_ok())
                }
            }
            while bench.client.poll_transmit().is_some() {}
            while let Some(event) = bench.client.poll_event() {
                done += u32::from(matches!(event, Event::Done { .. }));
            }
            if let Some(due) = bench.client.poll_timeout() {
                assert!(due > bench.now, "a timeout that is due was handled");
            }
        }
    }
    assert!(
        understood > 50_000 && done > 5_000,
        "{understood} datagrams, {done} commands"
    );
}
