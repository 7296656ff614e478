//! What must hold of arguments that are read here rather than by the daemon.

use super::{
    digest,
    run::{User, user},
    seconds,
};

/// A duration is not negative and loses nothing; a user is one that the kernel can be told; a digest
/// has one length.
pub fn arguments(text: &str) -> bool {
    let span = text.parse::<jiff::SignedDuration>().ok();
    let read = seconds(text).ok();
    if let Some(seconds) = read {
        let whole = i64::try_from(seconds).map(jiff::SignedDuration::from_secs);
        assert_eq!(whole.ok(), span);
    }
    let user = user(text).ok();
    match &user {
        Some(User::Id(id)) => assert!(*id != u32::MAX && text.parse() == Ok(*id)),
        Some(User::Name(name)) => assert!(!name.contains([':', '/', '\0', '\n'])),
        None => {}
    }
    if let Ok(digest) = digest(text) {
        assert_eq!(digest.to_string(), text.to_ascii_lowercase());
    }
    read.is_some() || user.is_some()
}
