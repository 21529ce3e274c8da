//! Methods that are the async side's, but wait: what they do, and what fails, is said there once.
//!
//! Each list is of signatures alone; `tests/public_api.rs` reads it, and compares every name with the
//! async side's. What has more to do than to wait is written out beside the lists.

/// Methods of the async type that is named first, waited for on the calling thread.
macro_rules! waiting {
    // One method; how it takes `self`, and `self` itself, are the caller's.
    (@one $of:ident $name:ident [$($receiver:tt)+] $this:ident [$($argument:ident: $type:ty,)*] $output:ty) => {
        #[doc = $crate::blocking::mirror::as_there!($of, $name)]
        ///
        /// # Errors
        #[doc = $crate::blocking::mirror::those_of!($of, $name)]
        pub fn $name($($receiver)+, $($argument: $type),*) -> Result<$output> {
            $this.bus.wait($this.inner.$name($($argument),*))
        }
    };
    ($of:ident: $(fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> Result<$output:ty>;)+) => {
        $(waiting! { @one $of $name [&self] self [$($argument: $type,)*] $output })+
    };
    ($of:ident: $(fn $name:ident(self $(, $argument:ident: $type:ty)*) -> Result<$output:ty>;)+) => {
        $(waiting! { @one $of $name [self] self [$($argument: $type,)*] $output })+
    };
}

/// Settings of the async type that is named first.
macro_rules! settings {
    ($of:ident: $(fn $name:ident(self, $argument:ident: $type:ty) -> Self;)+) => {$(
        #[doc = $crate::blocking::mirror::as_there!($of, $name)]
        #[must_use]
        pub fn $name(self, $argument: $type) -> Self {
            Self { inner: self.inner.$name($argument), bus: self.bus }
        }
    )+};
}

macro_rules! as_there {
    ($of:ident, $name:ident) => {
        concat!(
            "As [`pymq::",
            stringify!($of),
            "::",
            stringify!($name),
            "`](crate::",
            stringify!($of),
            "::",
            stringify!($name),
            ")."
        )
    };
}

macro_rules! those_of {
    ($of:ident, $name:ident) => {
        concat!(
            "Those of [`pymq::",
            stringify!($of),
            "::",
            stringify!($name),
            "`](crate::",
            stringify!($of),
            "::",
            stringify!($name),
            ")."
        )
    };
}

pub(super) use {as_there, settings, those_of, waiting};
