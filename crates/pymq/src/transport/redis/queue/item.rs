//! Items as they are stored: what stands before their bytes.
//!
//! The one invariant: what is stored is one space for each time that the item came back, a tab for each
//! step of its priority where its queue has any, and its bytes.

use bytes::Bytes;

use super::letter_format;
use crate::transport::PutOptions;

/// An item without its marks, and how many there were: one space for each delivery before. A dead
/// letter that somebody put into a queue as it lay there is the item in it. Where items have priorities,
/// what tells them is left out too.
pub(super) fn unmarked(stored: &Bytes, priorities: bool) -> (Bytes, u32) {
    let marks = stored.iter().take_while(|&&byte| byte == b' ').count();
    let tabs = if priorities { priority(stored) } else { 0 };
    let item = stored.slice(marks + tabs..);
    let item = if item.first() == Some(&0) { letter_format::item(item) } else { item };
    (item, u32::try_from(marks).unwrap_or(u32::MAX))
}

/// The priority of an item, read from the tabs before it.
pub(super) fn priority(stored: &Bytes) -> usize {
    let behind = stored.iter().skip_while(|&&byte| byte == b' ');
    behind.take_while(|&&byte| byte == b'\t').count().min(PutOptions::MOST_URGENT.into())
}
