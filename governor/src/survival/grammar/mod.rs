//! What files of a host say, read line by line: pure functions from text to values.
//!
//! Promises: any text is read without a panic; a line that says nothing we need, or that is not as its
//! manual page says, gives nothing. Paths come out as they were written and are resolved elsewhere.

pub(super) mod accounts;
pub(super) mod dpkg;
pub(super) mod maps;
pub(super) mod pam;
pub(super) mod script;
pub(super) mod unit;
