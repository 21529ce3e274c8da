//! Telling the server which of the items that were fetched ahead have been handed out.
//!
//! The one invariant: an item that the server was not told of does not count as delivered if this
//! process dies.

use bytes::Bytes;

use super::super::Core;
use super::super::purpose::Purpose;
use super::super::resp::Command;
use super::super::script::Lesson;
use super::consumer::Consumer;
use super::keys::{HeldList, Keys};
use super::scripts;
use crate::error::Result;
use crate::transport::Receipt;

/// Has the server note which items of those that were fetched ahead were shown. What is refused or lost
/// stays as it was: when this process dies, their delivery does not count. The caller sees to it that no
/// list is read meanwhile.
pub(super) async fn show(core: &Core, consumer: &Consumer, receipts: &[Receipt]) -> Result<()> {
    let keys = consumer.keys();
    for (names, words) in words_of_show(keys, receipts) {
        let (names, words) = (names.each_ref().map(String::as_str), words_of(&words));
        // Not repeated: of equal items, a second one would count.
        let purpose = Purpose::change("note as shown", &keys.name);
        core.commands.script(purpose, &scripts::SHOW, &names, &words).await?;
    }
    Ok(())
}

/// The same for when nobody hears the answer.
pub(super) fn show_unheard(
    consumer: &Consumer,
    receipts: &[Receipt],
    lesson: &mut Lesson,
) -> Vec<Command> {
    let calls = words_of_show(consumer.keys(), receipts);
    let command = |(names, words): ([String; 4], Vec<Bytes>)| {
        lesson.call(&scripts::SHOW, &names.each_ref().map(String::as_str), &words_of(&words))
    };
    calls.map(command).collect()
}

/// The keys and the words of one call for each list.
fn words_of_show(
    keys: &Keys,
    receipts: &[Receipt],
) -> impl Iterator<Item = ([String; 4], Vec<Bytes>)> {
    receipts.chunk_by(|one, next| one.number == next.number).map(|same| {
        let place = HeldList::of(&same[0]);
        let [ahead, shown] = [place, place.twin()];
        let [from, to] = [ahead, shown].map(|place| keys.held(place));
        let names = [keys.epochs.clone(), from, to, keys.spare.clone()];
        let first = [ahead, shown].map(|place| Bytes::from(keys.name(place)));
        let items = same.iter().map(|receipt| receipt.stored.clone());
        (names, first.into_iter().chain(items).collect())
    })
}

fn words_of(words: &[Bytes]) -> Vec<&[u8]> {
    words.iter().map(|word| &**word).collect()
}
