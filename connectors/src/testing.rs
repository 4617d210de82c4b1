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
