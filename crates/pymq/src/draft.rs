//! Where a text is written before anybody knows how long it will be.
//!
//! Bytes made of a buffer with room left ask for memory twice, and give it back twice. So each thread keeps a
//! buffer in which texts are written, and of a short one as much is copied as it is long.

use std::cell::Cell;

use bytes::Bytes;

/// What is longer keeps the buffer that it was written in: then a copy would cost more.
const SHORT: usize = 4 << 10;

thread_local! {
    static DRAFT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The text that `write` appends to an empty buffer, which has room for so many bytes. Whoever writes
/// may have others written meanwhile.
///
/// # Errors
/// That of `write`.
pub(crate) fn written<E>(
    room: usize,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Bytes, E> {
    // A thread that ends has none any more.
    let mut draft = DRAFT.try_with(Cell::take).unwrap_or_default();
    draft.clear();
    draft.reserve(room);
    write(&mut draft)?;
    if draft.len() > SHORT {
        return Ok(Bytes::from(draft));
    }
    let text = Bytes::copy_from_slice(&draft);
    let _ = DRAFT.try_with(|kept| kept.set(draft));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(text: &[u8]) -> Result<Bytes, &'static str> {
        written(0, |draft| {
            draft.extend_from_slice(text);
            Ok(())
        })
    }

    #[test]
    fn texts_of_any_length_and_within_another_are_what_was_written() {
        let long = [b'x'; SHORT + 1];
        let outer = written(8, |text| {
            text.extend_from_slice(&draft(&long)?);
            text.extend_from_slice(&draft(b"y")?);
            Ok::<_, &str>(())
        });
        assert_eq!(outer, Ok(Bytes::from([&long[..], b"y"].concat())));
        assert_eq!(written(0, |_| Err("why")), Err("why"));
        assert_eq!(draft(b""), Ok(Bytes::new()));
    }
}
