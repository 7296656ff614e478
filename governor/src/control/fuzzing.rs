//! What must hold of requests, whatever bytes they came as: what is accepted needs no second look, and
//! what is refused can be printed and fits into an answer.

use governor_core::engine::LONGEST;
use prost::Message;
use tonic::Status;

use super::{
    command::{Question, Target},
    holding, parse,
    proto::{self, Protocol},
};
use crate::text;

/// The same bytes as each request that is more than an empty message; whether any was accepted.
pub fn requests(bytes: &[u8]) -> bool {
    [
        read(bytes, parse::question, |question| match question {
            Question::Content { zone, .. } => assert!(zone.is_none_or(|zone| is_name(&zone))),
            Question::Pid(pid) => assert!(pid > 0),
            Question::Event(_) => {}
            Question::Connect {
                address: _,
                port,
                protocol,
                workload,
            } => {
                assert!(port != 0 && protocol != Protocol::Unspecified);
                assert!(is_name(&workload));
            }
        }),
        read(bytes, parse::target, |(target, reason)| {
            assert!(is_target(&target) && is_reason(&reason));
        }),
        read(bytes, holding::hold, |(target, _grip, reason)| {
            assert!(is_target(&target) && is_reason(&reason));
        }),
        read(bytes, holding::resume, |(target, reason)| {
            assert!(is_target(&target) && is_reason(&reason));
        }),
        read(
            bytes,
            |message: proto::GlassChallengeRequest| parse::glass(&message.reason, message.seconds),
            |request| {
                assert!(request.span() <= LONGEST && request.span().as_seconds() > 0);
                assert!(is_reason(request.reason()));
            },
        ),
        read(
            bytes,
            |message: proto::ObserveRequest| parse::name("zone", message.zone),
            |zone| assert!(is_name(&zone)),
        ),
        read(
            bytes,
            |message: proto::QuoteRequest| match message.nonce {
                Some(nonce) => parse::fixed("nonce", &nonce).map(|nonce| nonce.to_vec()),
                None => Ok(Vec::new()),
            },
            |nonce| assert!(matches!(nonce.len(), 0 | 32)),
        ),
    ]
    .contains(&true)
}

fn read<M: Message + Default, T>(
    bytes: &[u8],
    parse: impl FnOnce(M) -> Result<T, Status>,
    check: impl FnOnce(T),
) -> bool {
    let Ok(message) = M::decode(bytes) else {
        return false;
    };
    match parse(message) {
        Ok(value) => {
            check(value);
            true
        }
        Err(status) => {
            let said = status.message();
            assert_eq!(text::strip_lines(said), said, "what is printed is stripped");
            assert!(said.len() < MAX_ANSWER, "an answer travels as a header");
            false
        }
    }
}

fn is_target(target: &Target) -> bool {
    match target {
        Target::Workload(name) | Target::Zone(name) => is_name(name),
        Target::Digest(_) | Target::All => true,
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 128 && text::strip(name) == name
}

fn is_reason(reason: &str) -> bool {
    let plain = text::strip(reason) == reason && reason.trim() == reason;
    plain && !reason.is_empty() && reason.chars().count() <= 512
}

const MAX_ANSWER: usize = 8 << 10;
