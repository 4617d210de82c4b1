//! Binding: every socket of a set of listeners, or none.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::settings::ListenerSettings;
use crate::error::GatewayError;

/// Binds all addresses of all listeners; the result is in their order.
///
/// # Errors
/// [`GatewayError::Bind`] for the first that fails, or [`GatewayError::Setting`] if two listeners ask for the same
/// address; sockets bound before are closed again.
pub(super) fn bind_all<M>(
    listeners: &[&ListenerSettings<M>],
) -> Result<Vec<Vec<TcpListener>>, GatewayError> {
    let mut seen: HashMap<SocketAddr, String> = HashMap::new();
    let mut ipv4_ports = Vec::new();
    for listener in listeners {
        for address in &listener.bind {
            let before = if address.port() == 0 {
                None
            } else {
                seen.insert(*address, listener.key("bind"))
            };
            if let Some(other) = before {
                return Err(GatewayError::Setting {
                    key: listener.key("bind"),
                    reason: format!("{address} is also the address of {other}"),
                });
            }
            if address.is_ipv4() {
                ipv4_ports.push(address.port());
            }
        }
    }
    let mut bound = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let mut sockets = Vec::with_capacity(listener.bind.len());
        for address in &listener.bind {
            // `[::]` takes IPv4 clients too, unless an IPv4 address of the same port is listened on beside it.
            let only_v6 = address.port() != 0 && ipv4_ports.contains(&address.port());
            let socket = bind_one(*address, listener.backlog, only_v6).map_err(|source| {
                GatewayError::Bind {
                    key: listener.key("bind"),
                    address: *address,
                    source,
                }
            })?;
            sockets.push(socket);
        }
        bound.push(sockets);
    }
    Ok(bound)
}

fn bind_one(address: SocketAddr, backlog: u32, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // A restart binds while old connections are in TIME_WAIT; on Windows the same option would share a live port.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it on Linux, which saves a system call for each connection.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}
