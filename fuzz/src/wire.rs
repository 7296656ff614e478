//! Frames between the tests' host and the guest's agent, which is as root as anybody can be.

use self::imported::{CHUNK, Kind, Spec, receive, send};

#[path = "../../xtask/src/wire.rs"]
mod imported;

/// What is accepted is sent again as the same bytes; so is what it says to start.
pub fn check(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let mut any = false;
    while let Ok(frame) = receive(&mut rest) {
        assert!(frame.payload.len() <= 2 * CHUNK);
        let mut again = Vec::new();
        let sent = send(&mut again, frame.kind, frame.request, &frame.payload);
        assert!(sent.is_ok(), "{sent:?}");
        let read = bytes.get(..bytes.len() - rest.len()).unwrap_or_default();
        assert!(read.ends_with(&again));
        if frame.kind == Kind::Run
            && let Some(spec) = Spec::decode(&frame.payload)
        {
            let again = Spec::decode(&encode(&spec));
            assert_eq!(again.map(said), Some(said(spec)));
        }
        any = true;
    }
    any
}

/// A process to start, and a file to write.
pub fn seeds() -> Vec<Vec<u8>> {
    let spec = Spec {
        argv: vec!["a".to_owned(), String::new(), "c d".to_owned()],
        env: vec![("N".to_owned(), "v".to_owned())],
        cwd: "/".to_owned(),
        user: Some(7),
    };
    let mut started = Vec::new();
    let mut written = Vec::new();
    let mut sent = send(&mut started, Kind::Run, 1, &encode(&spec));
    for (kind, payload) in [
        (Kind::Put, &b"644 /x"[..]),
        (Kind::PutData, b"y"),
        (Kind::PutEnd, b""),
    ] {
        sent = sent.and_then(|()| send(&mut written, kind, 2, payload));
    }
    assert!(sent.is_ok(), "{sent:?}");
    vec![started, written]
}

type Said = (Vec<String>, Vec<(String, String)>, String, Option<u32>);

fn said(spec: Spec) -> Said {
    (spec.argv, spec.env, spec.cwd, spec.user)
}

/// As the host does, whose own encoder counts as unused where it decodes.
fn encode(spec: &Spec) -> Vec<u8> {
    let user = spec.user.map(|user| user.to_string()).unwrap_or_default();
    let count = spec.argv.len().to_string();
    let head = [&spec.cwd, &user, &count].into_iter();
    let pairs = spec.env.iter().flat_map(|(name, value)| [name, value]);
    let mut bytes = Vec::new();
    for text in head.chain(&spec.argv).chain(pairs) {
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}
