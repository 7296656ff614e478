//! From messages to well-formed values, or what is wrong with them.
//!
//! Promises: what comes out needs no second look (digests and nonces have 32 bytes, addresses parse,
//! names have no control characters, a revocation has a reason); what is refused is quoted, stripped.

use governor_core::{digest::Digest, engine::Request};
use tonic::Status;

use super::{
    command::{Question, Refusal, Target},
    proto::{self, explain_request},
};
use crate::text;

pub(super) fn question(message: proto::ExplainRequest) -> Result<Question, Status> {
    match message.question {
        Some(explain_request::Question::Content(content)) => {
            let zone = match content.zone {
                zone if zone.is_empty() => None,
                zone => Some(name("zone", zone)?),
            };
            Ok(Question::Content {
                digest: digest(&content.digest)?,
                zone,
            })
        }
        Some(explain_request::Question::Pid(pid)) if pid > 0 => Ok(Question::Pid(pid)),
        Some(explain_request::Question::Pid(pid)) => Err(invalid(format!("`{pid}` is no pid"))),
        Some(explain_request::Question::Event(id)) => Ok(Question::Event(id)),
        Some(explain_request::Question::Connect(connect)) => {
            let protocol = connect.protocol();
            if protocol == proto::Protocol::Unspecified {
                return Err(invalid("the protocol is `tcp` or `udp`"));
            }
            let Ok(address) = connect.address.parse() else {
                let shown = text::strip(&connect.address);
                return Err(invalid(format!("`{shown}` is no IPv4 or IPv6 address")));
            };
            let Some(port) = u16::try_from(connect.port).ok().filter(|&port| port != 0) else {
                return Err(invalid(format!("`{}` is no port", connect.port)));
            };
            let workload = name("workload", connect.workload)?;
            Ok(Question::Connect {
                address,
                port,
                protocol,
                workload,
            })
        }
        None => Err(invalid(
            "nothing to explain: name content, a pid, an event or a connection",
        )),
    }
}

pub(super) fn target(message: proto::RevokeRequest) -> Result<(Target, String), Status> {
    use proto::revoke_request::{All, Target as Named};
    let target = match message.target {
        Some(Named::Workload(workload)) => Target::Workload(name("workload", workload)?),
        Some(Named::Zone(zone)) => Target::Zone(name("zone", zone)?),
        Some(Named::Digest(bytes)) => Target::Digest(digest(&bytes)?),
        Some(Named::All(All {})) => Target::All,
        None => {
            return Err(invalid(
                "nothing to revoke: name a workload, a zone, a digest or all",
            ));
        }
    };
    Ok((target, reason(&message.reason)?))
}

pub(super) fn reason(text: &str) -> Result<String, Status> {
    let reason = text::strip(text.trim()).into_owned();
    if reason.is_empty() || reason.chars().count() > MAX_REASON {
        return Err(invalid(format!(
            "a reason has 1 to {MAX_REASON} characters"
        )));
    }
    Ok(reason)
}

/// For how long and why denials are to be lifted.
pub(super) fn glass(why: &str, seconds: u64) -> Result<Request, Status> {
    Request::new(&reason(why)?, seconds).map_err(|error| invalid(error.to_string()))
}

pub(super) fn name(what: &str, name: String) -> Result<String, Status> {
    if name.is_empty() || name.len() > MAX_NAME || text::strip(&name) != name {
        return Err(invalid(format!(
            "`{}` cannot be the name of a {what}",
            text::strip(&name)
        )));
    }
    Ok(name)
}

pub(super) fn digest(bytes: &[u8]) -> Result<Digest, Status> {
    fixed("digest", bytes).map(Digest::new)
}

pub(super) fn fixed(what: &str, bytes: &[u8]) -> Result<[u8; 32], Status> {
    match bytes.try_into() {
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(invalid(format!(
            "a {what} has 32 bytes, not {}",
            bytes.len()
        ))),
    }
}

pub(super) fn invalid(text: impl Into<String>) -> Status {
    Refusal::Invalid(text.into()).into()
}

const MAX_NAME: usize = 128;
const MAX_REASON: usize = 512;
