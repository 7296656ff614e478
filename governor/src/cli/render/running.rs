//! What runs and ought not to, or was never judged.
//!
//! Promises: names and paths are stripped, and of long lists the first and how many more there are.

use super::field;
use crate::{
    control::proto::{StatusReply, Unreached},
    text,
};

/// Nobody judged these: they were there before, or were moved in.
pub(super) fn unlabelled(out: &mut String, status: &StatusReply) {
    for one in &status.unlabelled {
        let place = match one.zone.as_str() {
            "" => "below the governed slice, in no zone".to_owned(),
            zone => format!("in zone `{}`", text::strip(zone)),
        };
        let mut found: Vec<String> = one
            .found
            .iter()
            .map(|found| format!("{} {}", found.pid, text::strip(&found.program)))
            .collect();
        let more = (one.processes as usize).saturating_sub(found.len());
        if more > 0 {
            found.push(format!("{more} more"));
        }
        let line = format!("{} {place}: {}", one.processes, found.join(", "));
        field(out, "no label", &line);
    }
}

/// These were to be stopped, and run.
pub(super) fn unreached(out: &mut String, status: &StatusReply) {
    let mut words: Vec<String> = status.unreached.iter().map(stop).collect();
    let more = (status.unreached_count as usize).saturating_sub(words.len());
    if more > 0 {
        words.push(format!("{more} more"));
    }
    if !words.is_empty() {
        let line = format!("{}; tried again each second", words.join(", "));
        field(out, "NOT reached", &line);
    }
}

fn stop(one: &Unreached) -> String {
    let zone = text::strip(&one.zone);
    let what = match (one.workload.as_str(), one.digest.as_slice()) {
        ("", []) => format!("zone `{zone}`"),
        ("", digest) => format!("sha256:{} in zone `{zone}`", hex::encode(digest)),
        (workload, _) => format!("workload `{}` in zone `{zone}`", text::strip(workload)),
    };
    format!("{} {what}", one.stop().name())
}
