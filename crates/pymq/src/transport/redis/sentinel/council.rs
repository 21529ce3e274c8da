//! What each sentinel says, and whom that makes the master.
//!
//! The one invariant: of what is said, the latest election counts, which the sentinels number; one that
//! was cut off from the others and tells of an older one is not believed. Of one election, who says that
//! it is over is believed before who still holds it, and then whom most name: one whose candidate died
//! holds it for ever, and goes on to name the dead. It speaks to nobody.

/// Where a master is.
pub(super) type HostPort = (String, u16);

/// The number of an election, and whether it is over; later ones compare greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Election {
    pub(super) number: i64,
    pub(super) over: bool,
}

/// What one sentinel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The master is there, by that election.
    Master { election: Election, place: HostPort },
    /// It watches no master of that name.
    NoSuchMaster,
    /// Nothing, and why.
    Silence(String),
}

/// Whom they make the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Belief {
    /// Nobody has said anything, and some have still to be heard.
    Asking,
    /// The master is there. Until they are `agreed`, those who have not been heard may know better.
    Master { place: HostPort, agreed: bool },
    /// None of them knows such a master.
    NoSuchMaster,
    /// None of them answers, and why not.
    Silence(String),
}

impl Belief {
    /// Where the master is, if that is known.
    pub(super) fn place(&self) -> Option<&HostPort> {
        match self {
            Self::Master { place, .. } => Some(place),
            _ => None,
        }
    }
}

/// One sentinel's part.
#[derive(Clone, Debug, Default)]
struct Seat {
    word: Option<Word>,
    /// The last election that it knew of, though it be silent by now.
    known: Option<(Election, HostPort)>,
}

/// All sentinels that watch a master.
#[derive(Debug)]
pub(super) struct Council(Vec<Seat>);

impl Council {
    /// So many, of which none was heard.
    pub(super) fn new(seats: usize) -> Self {
        Self(vec![Seat::default(); seats])
    }

    /// Takes what one of them says.
    pub(super) fn hear(&mut self, number: usize, word: Word) {
        let Some(seat) = self.0.get_mut(number) else { return };
        if let Word::Master { election, place } = &word {
            seat.known = Some((*election, place.clone()));
        }
        seat.word = Some(word);
    }

    /// Whom they make the master; if as many name another, `before` stays it.
    pub(super) fn belief(&self, before: Option<&HostPort>) -> Belief {
        let says = |seat: &&Seat| matches!(seat.word, Some(Word::Master { .. }));
        let most = self.0.iter().filter(says).count() * 2 > self.0.len();
        // What the silent ones knew counts until most of the others speak: the latest election may
        // be known to them alone.
        let heard = self.0.iter().filter(|seat| !most || says(seat));
        let known: Vec<_> = heard.filter_map(|seat| seat.known.as_ref()).collect();
        let Some(last) = known.iter().map(|(election, _)| *election).max() else {
            return self.nobody();
        };
        let named: Vec<_> =
            known.iter().filter(|known| known.0 == last).map(|(_, place)| place).collect();
        let votes = |place: &HostPort| named.iter().filter(|named| **named == place).count();
        let elected = named.iter().max_by_key(|place| (votes(place), Some(**place) == before));
        let agreed = most || self.0.iter().all(|seat| seat.word.is_some());
        match elected {
            Some(place) => Belief::Master { place: (*place).clone(), agreed },
            None => self.nobody(),
        }
    }

    fn nobody(&self) -> Belief {
        if self.0.iter().any(|seat| seat.word.is_none()) {
            return Belief::Asking;
        }
        let words = self.0.iter().filter_map(|seat| match &seat.word {
            Some(Word::Silence(why)) => Some(why.as_str()),
            _ => None,
        });
        let words: Vec<_> = words.collect();
        // Who answers knows more than who does not.
        if words.len() < self.0.len() {
            return Belief::NoSuchMaster;
        }
        Belief::Silence(words.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: u16) -> HostPort {
        ("h".to_owned(), port)
    }

    fn master(number: i64, port: u16) -> Word {
        Word::Master { election: Election { number, over: true }, place: place(port) }
    }

    fn silence() -> Word {
        Word::Silence("refused".to_owned())
    }

    fn believed(council: &Council) -> (Option<u16>, bool) {
        match council.belief(None) {
            Belief::Master { place, agreed } => (Some(place.1), agreed),
            _ => (None, false),
        }
    }

    #[test]
    fn the_latest_election_counts_whoever_is_heard_first() {
        let mut council = Council::new(3);
        assert_eq!(council.belief(None), Belief::Asking);
        council.hear(0, master(4, 1));
        assert_eq!(believed(&council), (Some(1), false));
        council.hear(1, master(5, 2));
        assert_eq!(believed(&council), (Some(2), true));
        council.hear(2, master(4, 1));
        assert_eq!(believed(&council), (Some(2), true));
    }

    #[test]
    fn what_a_silent_one_knew_counts_until_most_speak_again() {
        let mut council = Council::new(3);
        council.hear(0, master(5, 2));
        council.hear(0, silence());
        council.hear(1, master(4, 1));
        assert_eq!(believed(&council).0, Some(2));
        council.hear(2, silence());
        assert_eq!(believed(&council).0, Some(2));
        // Made anew, they count elections from the beginning.
        council.hear(1, master(0, 3));
        council.hear(2, master(0, 3));
        assert_eq!(believed(&council), (Some(3), true));
    }

    #[test]
    fn who_holds_an_election_for_ever_is_not_believed_before_who_has_ended_it() {
        let held = |port| {
            let election = Election { number: 2, over: false };
            Word::Master { election, place: place(port) }
        };
        let mut council = Council::new(2);
        council.hear(0, held(2));
        council.hear(1, master(1, 1));
        assert_eq!(believed(&council).0, Some(2));
        // Its candidate died, and the other one has made another.
        council.hear(1, master(2, 1));
        assert_eq!(council.belief(Some(&place(2))).place(), Some(&place(1)));
    }

    #[test]
    fn of_one_election_whom_most_name_is_the_master() {
        let mut council = Council::new(3);
        for (number, port) in [(0, 1), (1, 2), (2, 2)] {
            council.hear(number, master(3, port));
        }
        assert_eq!(council.belief(Some(&place(1))).place(), Some(&place(2)));
    }

    #[test]
    fn among_equals_nobody_moves() {
        let mut council = Council::new(2);
        council.hear(0, master(1, 1));
        council.hear(1, master(1, 2));
        let staying = |port| council.belief(Some(&place(port))).place().cloned();
        assert_eq!((staying(1), staying(2)), (Some(place(1)), Some(place(2))));
    }

    #[test]
    fn where_nobody_knows_it_is_said_why() {
        let mut council = Council::new(2);
        council.hear(0, silence());
        assert_eq!(council.belief(None), Belief::Asking);
        council.hear(1, silence());
        assert_eq!(council.belief(None), Belief::Silence("refused; refused".to_owned()));
        council.hear(1, Word::NoSuchMaster);
        assert_eq!(council.belief(None), Belief::NoSuchMaster);
    }
}
