//! The order of one stream's sends: numbered from 1, admitted in that order; after a
//! retryable refusal all later ones are refused until that number comes again.

use parking_lot::{Mutex, MutexGuard};

/// What a send's number says about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// It is the next one.
    Next,
    /// It was judged before; its answer is on the way or was given.
    Before,
    /// An earlier one has to come first.
    After {
        /// The number that is expected.
        expected: u64,
    },
}

/// The number that is expected next. Whoever admits a send holds the lock from the
/// look at the number until the message is submitted.
#[derive(Debug)]
pub(crate) struct SendOrder {
    expected: Mutex<u64>,
}

impl Default for SendOrder {
    fn default() -> Self {
        Self { expected: Mutex::new(1) }
    }
}

/// The right to use up the next number.
#[derive(Debug)]
pub(crate) struct Admission<'a>(MutexGuard<'a, u64>);

impl Admission<'_> {
    /// Uses the number up.
    pub(crate) fn use_up(mut self) {
        *self.0 += 1;
    }
}

impl SendOrder {
    /// Looks at a number.
    pub(crate) fn turn(&self, number: u64) -> Turn {
        Self::judge(*self.expected.lock(), number)
    }

    /// Begins the admission of the next number.
    ///
    /// # Errors
    /// What the number is, if it is not the next.
    pub(crate) fn admit(&self, number: u64) -> Result<Admission<'_>, Turn> {
        let expected = self.expected.lock();
        match Self::judge(*expected, number) {
            Turn::Next => Ok(Admission(expected)),
            other => Err(other),
        }
    }

    /// A send that had been admitted was refused as retryable: it has to come again first.
    pub(crate) fn expect_again(&self, number: u64) {
        let mut expected = self.expected.lock();
        *expected = number.min(*expected);
    }

    fn judge(expected: u64, number: u64) -> Turn {
        match number.cmp(&expected) {
            std::cmp::Ordering::Equal => Turn::Next,
            std::cmp::Ordering::Less => Turn::Before,
            std::cmp::Ordering::Greater => Turn::After { expected },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_refused_number_has_to_come_again_before_later_ones() {
        let order = SendOrder::default();
        order.admit(1).unwrap().use_up();
        order.admit(2).unwrap().use_up();
        assert_eq!(order.turn(1), Turn::Before);
        assert_eq!(order.turn(4), Turn::After { expected: 3 });
        order.expect_again(2);
        assert_eq!(order.turn(3), Turn::After { expected: 2 });
        order.admit(2).unwrap().use_up();
        assert_eq!(order.turn(3), Turn::Next);
    }
}
