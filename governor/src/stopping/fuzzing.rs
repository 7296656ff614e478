//! What must hold of the kernel's answers about sockets.

use super::diag::{Message, described};

/// Messages are read within their bounds, and each brings the reader on; a description is what stands
/// at its place.
pub fn sockets(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let mut any = false;
    loop {
        let before = rest.len();
        let Ok(Some(message)) = Message::next(&mut rest) else {
            return any;
        };
        assert!(rest.len() + 16 + message.payload.len() <= before);
        // What is an error to one reader may be a description to another: both look at any payload.
        drop(message.status());
        if let Ok(socket) = described(6, message.payload) {
            assert_eq!(message.payload.get(4..52), Some(socket.id.as_slice()));
            let inode = socket.inode.to_ne_bytes();
            assert_eq!(message.payload.get(68..72), Some(inode.as_slice()));
            any = true;
        }
    }
}
