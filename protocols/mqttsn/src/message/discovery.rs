//! ADVERTISE and GWINFO (section 6.1).

use super::{at_least, exactly};
use crate::error::Error;
use crate::types::MsgType;

/// ADVERTISE (5.4.1): broadcast by a gateway from time to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertise {
    /// The gateway's id.
    pub gw_id: u8,
    /// Seconds until this gateway's next ADVERTISE.
    pub duration: u16,
}

impl Advertise {
    pub(super) fn decode(body: &[u8]) -> Result<Advertise, Error> {
        let [gw_id, high, low] = exactly(MsgType::Advertise, body)?;
        Ok(Advertise {
            gw_id,
            duration: u16::from_be_bytes([high, low]),
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.gw_id);
        out.extend_from_slice(&self.duration.to_be_bytes());
    }
}

/// GWINFO (5.4.3): answers SEARCHGW.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GwInfo<'a> {
    /// The gateway's id.
    pub gw_id: u8,
    /// GwAdd: the gateway's address, in the form of the network in use. Empty from a gateway, whose address is the
    /// datagram's source; given by a client that answers for a gateway.
    pub gw_add: &'a [u8],
}

impl<'a> GwInfo<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<GwInfo<'a>, Error> {
        let (&[gw_id], gw_add) = at_least(MsgType::GwInfo, body)?;
        Ok(GwInfo { gw_id, gw_add })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.gw_id);
        out.extend_from_slice(self.gw_add);
    }
}
