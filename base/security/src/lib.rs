//! Identity: SPIFFE ids, keys, certificates and requests for them, trust anchors, JSON Web Tokens, and the TLS that uses them.
//!
//! *Job:* everything a client or server of the control plane needs to prove who it is and to check others, as plain values
//! without I/O. *Neighbours:* `control-plane/sentry` issues with it; whoever speaks mTLS takes its [`tls`] configurations.
//! *Invariant:* secrets are never printed; nothing here reads a file, a variable or the network. All cryptography is `ring`
//! (the `rsa` crate only makes RSA keys).

pub mod certificate;
pub mod der;
pub mod error;
pub mod issue;
pub mod jwk;
pub mod jwt;
pub mod key;
pub mod mutual;
pub mod pem;
pub mod request;
pub mod spiffe;
pub mod tls;
pub mod trust;

pub use certificate::Certificate;
pub use error::Error;
pub use key::PrivateKey;
pub use mutual::MutualTls;
pub use spiffe::{SpiffeId, TrustDomain};
pub use trust::TrustAnchors;
