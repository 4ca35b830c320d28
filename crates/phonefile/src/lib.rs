//! The files of 16xx and 96xx phones: text, lines and `name=value` items; pure, and nothing of ours below
//! it.
//!
//! Reading never changes anything: the lines of a [`PhoneFile`] joined are its text, and its text encoded is
//! the body that it was read from, byte for byte. Read in this order: [`text`] (encodings), [`lines`]
//! (lines and items), [`suspect`] (what is no phone file at all), [`call_log`] (what changes with every
//! call). Who calls bounds the bytes of a body; nothing here needs more than four times as many.

pub mod call_log;
pub mod lines;
pub mod suspect;
pub mod text;

pub use call_log::{differ_in_call_log_only, is_call_log};
pub use lines::{Item, Line, LineEnd, Lines};
pub use suspect::is_suspect;
pub use text::{Encoding, PhoneFile, Undecodable};
