//! The proof that an upstream accepted, and the lock it opens.

/// Proof that the upstream accepted. Only an [`Exchange`](crate::Exchange) makes one, on its way into
/// [`Relaying`](crate::State::Relaying), and only one for each exchange.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the upstream accepted; without releasing its sink no payload can flow"]
pub struct Permit(());

impl Permit {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

/// Something that must not be touched before the upstream accepted: the sending half towards it.
///
/// There is no way to the value inside but [`Withheld::release`]. Dropped, it drops the value, which for a sink is a
/// reset.
#[derive(Debug)]
pub struct Withheld<T>(T);

impl<T> Withheld<T> {
    /// Locks a value away.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, in exchange for the proof.
    pub fn release(self, permit: Permit) -> T {
        let Permit(()) = permit;
        self.0
    }
}
