//! Inside which values an encoder is: how deep they nest, and whether one contains itself.

pub(super) struct Levels {
    /// Those that an envelope will add around the value.
    around: usize,
    /// The identity of each value, the outermost first.
    open: Vec<usize>,
    deepest: usize,
}

impl Levels {
    /// None yet; `open` is memory that is used again.
    pub(super) fn new(around: usize, open: Vec<usize>) -> Self {
        Self { around, open, deepest: 0 }
    }

    /// Gives the memory back.
    pub(super) fn end(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.open)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// As many as there were at once.
    pub(super) fn deepest(&self) -> usize {
        self.deepest
    }

    /// One more; how many there are now, the envelope's among them.
    pub(super) fn enter(&mut self, identity: usize) -> usize {
        self.open.push(identity);
        self.deepest = self.deepest.max(self.open.len());
        self.open.len() + self.around
    }

    pub(super) fn leave(&mut self) {
        self.open.pop();
    }

    /// How many levels lie below the place where a value contains itself, if that is why there are more
    /// than `most`.
    pub(super) fn beyond_a_cycle(&self, most: usize) -> Option<usize> {
        let deepest = self.open.len().checked_sub(1)?;
        if deepest + 1 + self.around <= most {
            return None;
        }
        let closes = (1..=deepest).find(|at| self.open[..*at].contains(&self.open[*at]));
        closes.map(|at| deepest - at)
    }
}
