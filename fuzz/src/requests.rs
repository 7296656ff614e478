//! Requests to the daemon, as they come out of the socket.

use governor::control::proto::{
    Copies, ExplainRequest, GlassChallengeRequest, Grip, HoldRequest, ObserveRequest, Protocol,
    QuoteRequest, ResumeRequest, RevokeRequest, copies, explain_request as explain, revoke_request,
};
use prost::Message as _;

/// What becomes a command is well formed; what does not is refused in words that can be printed.
pub fn check(bytes: &[u8]) -> bool {
    governor::fuzzing::requests(bytes)
}

/// One of each that is more than an empty message.
pub fn seeds() -> Vec<Vec<u8>> {
    let reason = "it went astray".to_owned();
    let question = |question| ExplainRequest {
        question: Some(question),
    };
    let copies = Some(Copies {
        which: Some(copies::Which::Workload("planner".to_owned())),
    });
    let content = explain::Content {
        digest: vec![7; 32],
        zone: "agents".to_owned(),
    };
    let connect = explain::Connect {
        address: "10.20.0.1".to_owned(),
        port: 443,
        protocol: Protocol::Tcp.into(),
        workload: "agents/planner".to_owned(),
    };
    vec![
        question(explain::Question::Content(content)).encode_to_vec(),
        question(explain::Question::Pid(4711)).encode_to_vec(),
        question(explain::Question::Event(17)).encode_to_vec(),
        question(explain::Question::Connect(connect)).encode_to_vec(),
        RevokeRequest {
            target: Some(revoke_request::Target::Digest(vec![7; 32])),
            reason: reason.clone(),
        }
        .encode_to_vec(),
        HoldRequest {
            copies: copies.clone(),
            grip: Grip::Quarantine.into(),
            reason: reason.clone(),
        }
        .encode_to_vec(),
        ResumeRequest {
            copies,
            reason: reason.clone(),
        }
        .encode_to_vec(),
        GlassChallengeRequest {
            reason,
            seconds: 1800,
        }
        .encode_to_vec(),
        ObserveRequest {
            zone: "agents".to_owned(),
            seconds: 60,
        }
        .encode_to_vec(),
        QuoteRequest {
            nonce: Some(vec![1; 32]),
        }
        .encode_to_vec(),
    ]
}
