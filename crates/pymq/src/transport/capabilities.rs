//! What transports may lack, each by its name.

/// What a transport can do beyond what every one must; what is asked of one that cannot do it is
/// answered with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), never ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// `publish` tells how many received; `count` and `publish_counted` work.
    pub receiver_count: bool,
    /// Other processes can be reached.
    pub cross_process: bool,
    /// Processes of the original may be on the bus.
    pub originals: bool,
    /// Items may be put, and given back, for later.
    pub delays: bool,
    /// A put with an id is done once.
    pub put_ids: bool,
    /// Queues may order their items by priority.
    pub priorities: bool,
    /// Dead letters keep why they died, and may be moved and discarded one by one.
    pub letters: bool,
}

impl Capabilities {
    /// Nothing beyond what every transport must do; set what is true.
    pub const NONE: Self = Self {
        receiver_count: false,
        cross_process: false,
        originals: false,
        delays: false,
        put_ids: false,
        priorities: false,
        letters: false,
    };

    /// Each by its name, and whether it is there.
    pub fn named(self) -> impl Iterator<Item = (&'static str, bool)> {
        // All fields by name: one that is added does not compile until it is listed here.
        let Self { receiver_count, cross_process, originals, delays, put_ids, priorities, letters } =
            self;
        [
            ("receiver_count", receiver_count),
            ("cross_process", cross_process),
            ("originals", originals),
            ("delays", delays),
            ("put_ids", put_ids),
            ("priorities", priorities),
            ("letters", letters),
        ]
        .into_iter()
    }
}
