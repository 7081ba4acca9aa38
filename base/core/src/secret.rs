//! A wrapper that keeps a value out of logs and debug output.

use std::fmt;

/// Holds a value that must never be printed.
///
/// `Debug` prints `[secret]`, so structs that contain one can derive `Debug` safely.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// Gives the value to the one place that has to use it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_value() {
        assert_eq!(format!("{:?}", Secret::new("token")), "[secret]");
        assert_eq!(Secret::new("token").expose(), &"token");
    }
}
