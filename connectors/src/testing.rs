//! What tests of several kinds need.

use nightjar_broker::access::{AuthRequest, ClientInfo, Protocol, Secret};
use nightjar_mqtt::ProtocolVersion;

/// Client `dev1` of user `ann` from 10.0.0.7.
pub(crate) fn client() -> ClientInfo {
    ClientInfo {
        client_id: "dev1".into(),
        username: Some("ann".into()),
        peer: ([10, 0, 0, 7], 50000).into(),
        loopback: false,
        listener: "tcp:default".into(),
        protocol: Protocol::Mqtt(ProtocolVersion::V5),
        cert_common_name: None,
        cert_subject: None,
        superuser: false,
        rules: None,
        cert_names: None,
        expires_at: None,
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
