//! What tests of several kinds need.

use nightjar_broker::access::{AuthRequest, ClientInfo, Protocol, Secret};
use nightjar_mqtt::ProtocolVersion;

/// Client `dev1` of user `ann` from 10.0.0.7.
pub(crate) fn client() -> ClientInfo {
    ClientInfo {
        username: Some("ann".into()),
        ..ClientInfo::new(
            "dev1",
            ([10, 0, 0, 7], 50000).into(),
            "tcp:default",
            Protocol::Mqtt(ProtocolVersion::V5),
        )
    }
}

/// A CONNECT of that client with these credentials.
#[allow(
    dead_code,
    reason = "not every set of features has a test that asks with a password"
)]
pub(crate) fn request(username: Option<&str>, password: Option<&str>) -> AuthRequest {
    let mut client = client();
    client.username = username.map(Into::into);
    AuthRequest {
        client,
        password: password.map(|p| Secret(p.as_bytes().into())),
    }
}

/// Bytes for tests that change what a peer sends: the same ones each time (xorshift64).
pub(crate) struct Noise(u64);

#[allow(dead_code, reason = "not every set of features has a parser to feed")]
impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn step(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below this one.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.step() >> 33).expect("31 bits") % limit.max(1)
    }

    /// Often one that means something to a parser.
    pub fn byte(&mut self) -> u8 {
        const TELLING: [u8; 10] = [0, 1, 2, 3, 4, 0x30, 0x7f, 0x80, 0x84, 0xff];
        match self.below(2) {
            0 => TELLING[self.below(TELLING.len())],
            _ => self.step().to_be_bytes()[0],
        }
    }
}
