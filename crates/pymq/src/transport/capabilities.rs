//! What transports may lack, each by its name.

/// What a transport can do beyond what every one must; what is asked of one that cannot do it is
/// answered with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), never ignored.
///
/// The conformance suite asks for each thing that is denied (`unsupported_is_said`). Who is on the bus,
/// `cross_process` and `originals`, is asked of no transport: calls go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// `publish` tells how many received; `count` and `publish_counted` work.
    pub receiver_count: bool,
    /// What is counted are connections: several subscriptions of one to the same topic count as one.
    pub counts_connections: bool,
    /// Other processes can be reached.
    pub cross_process: bool,
    /// Processes of the original may be on the bus, and are counted.
    pub originals: bool,
    /// What [`PutOptions`](super::PutOptions) can say: a put for later, one with an id, which is done
    /// once, one with a priority; and items may be given back for later.
    pub put_options: bool,
    /// Dead letters keep why they died, and may be moved and discarded one by one.
    pub letters: bool,
}

impl Capabilities {
    /// Nothing beyond what every transport must do; set what is true.
    pub const NONE: Self = Self {
        receiver_count: false,
        counts_connections: false,
        cross_process: false,
        originals: false,
        put_options: false,
        letters: false,
    };

    /// Each by its name, and whether it is there.
    pub fn named(self) -> impl Iterator<Item = (&'static str, bool)> {
        // All fields by name: one that is added does not compile until it is listed here.
        let Self {
            receiver_count,
            counts_connections,
            cross_process,
            originals,
            put_options,
            letters,
        } = self;
        [
            ("receiver_count", receiver_count),
            ("counts_connections", counts_connections),
            ("cross_process", cross_process),
            ("originals", originals),
            ("put_options", put_options),
            ("letters", letters),
        ]
        .into_iter()
    }
}
