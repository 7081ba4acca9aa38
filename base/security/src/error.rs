//! What can be wrong with identity material.

/// Identity material that cannot be used. The text says what it is, what was expected and, where there is something, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a trust domain or SPIFFE id.
    #[error("{0}")]
    Spiffe(String),
    /// Not PEM, or PEM of something else.
    #[error("{0}")]
    Pem(String),
    /// A key that cannot be read or used.
    #[error("{0}")]
    Key(String),
    /// A certificate or request that cannot be read, or is not what it should be.
    #[error("{0}")]
    Certificate(String),
    /// A chain that does not lead to the trust anchors.
    #[error("{0}")]
    Trust(String),
    /// A token or key set that cannot be read or does not hold.
    #[error("{0}")]
    Token(String),
}
