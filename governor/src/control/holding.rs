//! From messages about held copies to well-formed values, or what is wrong with them.

use governor_core::engine::Grip;
use tonic::Status;

use super::{
    command::Target,
    parse::{digest, invalid, name, reason},
    proto::{self, copies::Which},
};

pub(super) fn hold(message: proto::HoldRequest) -> Result<(Target, Grip, String), Status> {
    let grip = match message.grip() {
        proto::Grip::Pause => Grip::Pause,
        proto::Grip::Quarantine => Grip::Quarantine,
        proto::Grip::Kill => Grip::Kill,
        proto::Grip::Unspecified => {
            return Err(invalid(
                "copies are held by `pause`, `quarantine` or `kill`",
            ));
        }
    };
    Ok((copies(message.copies)?, grip, reason(&message.reason)?))
}

pub(super) fn resume(message: proto::ResumeRequest) -> Result<(Target, String), Status> {
    Ok((copies(message.copies)?, reason(&message.reason)?))
}

fn copies(copies: Option<proto::Copies>) -> Result<Target, Status> {
    match copies.and_then(|copies| copies.which) {
        Some(Which::Workload(workload)) => Ok(Target::Workload(name("workload", workload)?)),
        Some(Which::Zone(zone)) => Ok(Target::Zone(name("zone", zone)?)),
        Some(Which::Digest(bytes)) => Ok(Target::Digest(digest(&bytes)?)),
        Some(Which::All(proto::copies::All {})) => Ok(Target::All),
        None => Err(invalid(
            "no copies are named: name a workload, a zone, a digest or all",
        )),
    }
}
