//! The frames that host and guest agent exchange over the virtio port: length, kind, request,
//! payload. Standard library only, because the agent is compiled alone and copied into the guest.
//! A frame that is too long or of unknown kind is an error, never skipped.

use std::io::{self, Read, Write};

/// Payload limit; longer content goes in several frames.
pub(crate) const CHUNK: usize = 256 * 1024;

macro_rules! kinds {
    ($($name:ident = $value:literal: $meaning:literal,)*) => {
        /// What a frame is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind { $(#[doc = $meaning] $name = $value,)* }
        impl Kind {
            fn parse(byte: u8) -> Option<Self> {
                match byte { $($value => Some(Self::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    Run = 1: "host: start a process, payload is a [`Spec`]",
    Stdin = 2: "host: bytes for the process's standard input",
    StdinEnd = 3: "host: no more input",
    Kill = 4: "host: send the signal in the payload's one byte to the process group",
    Put = 5: "host: write a file, payload is mode and path",
    PutData = 6: "host: content of that file",
    PutEnd = 7: "host: the file is complete",
    Get = 8: "host: read a file, payload is its path",
    Hello = 64: "guest: the agent has started, anything before is void",
    Stdout = 65: "guest: standard output",
    Stderr = 66: "guest: standard error",
    Exit = 67: "guest: the process ended, payload is its code as four bytes",
    Done = 68: "guest: a put or get is complete",
    Failed = 69: "guest: the request failed, payload says why",
    GetData = 70: "guest: content of a file",
    Started = 71: "guest: the process runs, payload is its pid as four bytes",
}

/// One message.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) request: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn send(
    to: &mut impl Write,
    kind: Kind,
    request: u32,
    payload: &[u8],
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(payload.len() + 9);
    bytes.extend_from_slice(
        &u32::try_from(payload.len())
            .map_err(io::Error::other)?
            .to_le_bytes(),
    );
    bytes.push(kind as u8);
    bytes.extend_from_slice(&request.to_le_bytes());
    bytes.extend_from_slice(payload);
    to.write_all(&bytes)
}

pub(crate) fn receive(from: &mut impl Read) -> io::Result<Frame> {
    let mut head = [0u8; 9];
    from.read_exact(&mut head)?;
    let [l0, l1, l2, l3, kind, r0, r1, r2, r3] = head;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length > 2 * CHUNK {
        return Err(io::Error::other(format!("frame of {length} bytes")));
    }
    let kind = Kind::parse(kind).ok_or_else(|| io::Error::other(format!("frame kind {kind}")))?;
    let mut payload = vec![0u8; length];
    from.read_exact(&mut payload)?;
    Ok(Frame {
        kind,
        request: u32::from_le_bytes([r0, r1, r2, r3]),
        payload,
    })
}

/// A process to start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spec {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: String,
    pub(crate) user: Option<u32>,
}

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the host only encodes, the agent only decodes")
)]
impl Spec {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let user = self.user.map(|user| user.to_string()).unwrap_or_default();
        put(&mut out, &self.cwd);
        put(&mut out, &user);
        put(&mut out, &self.argv.len().to_string());
        self.argv.iter().for_each(|arg| put(&mut out, arg));
        for (name, value) in &self.env {
            put(&mut out, name);
            put(&mut out, value);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let cwd = take(&mut rest)?;
        let user = take(&mut rest)?;
        let count: usize = take(&mut rest)?.parse().ok()?;
        let argv = (0..count)
            .map(|_| take(&mut rest))
            .collect::<Option<Vec<_>>>()?;
        let mut env = Vec::new();
        while !rest.is_empty() {
            env.push((take(&mut rest)?, take(&mut rest)?));
        }
        let user = if user.is_empty() {
            None
        } else {
            Some(user.parse().ok()?)
        };
        Some(Self {
            argv,
            env,
            cwd,
            user,
        })
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn take(rest: &mut &[u8]) -> Option<String> {
    let (head, tail) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*head) as usize;
    let text = tail.get(..length)?;
    *rest = tail.get(length..)?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::{Kind, Spec, receive, send};

    #[test]
    fn a_spec_survives_the_way() {
        let spec = Spec {
            argv: vec!["a".to_owned(), String::new(), "c d".to_owned()],
            env: vec![("N".to_owned(), "v".to_owned())],
            cwd: "/".to_owned(),
            user: Some(7),
        };
        let decoded = Spec::decode(&spec.encode()).expect("decodes");
        assert_eq!(decoded.argv, spec.argv);
        assert_eq!(
            (decoded.env, decoded.cwd, decoded.user),
            (spec.env, spec.cwd, spec.user)
        );
    }

    #[test]
    fn a_frame_survives_the_way_and_an_unknown_kind_does_not() {
        let mut bytes = Vec::new();
        send(&mut bytes, Kind::Put, 9, b"payload").expect("sends");
        let frame = receive(&mut bytes.as_slice()).expect("receives");
        assert_eq!(
            (frame.kind, frame.request, frame.payload.as_slice()),
            (Kind::Put, 9, &b"payload"[..])
        );
        bytes[4] = 200;
        assert!(receive(&mut bytes.as_slice()).is_err());
    }
}
