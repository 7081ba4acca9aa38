//! Signs: certificates and tokens for identities somebody else has checked.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use pillion_core::log::Logger;
use pillion_security::certificate::chain_to_pem;
use pillion_security::issue::{self, Signer, Validity};
use pillion_security::jwk::Jwk;
use pillion_security::jwt::{TokenSigner, TokenTimes};
use pillion_security::{Certificate, Error, SpiffeId, TrustDomain};

use crate::bundle::{CertificateBundle, TokenBundle};
use crate::options::TokenOptions;
use crate::store::{CredentialStore, Material, Saved};

/// What an authority is made with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Trust domain of the control plane.
    pub(crate) trust_domain: TrustDomain,
    /// Namespace of the control plane.
    pub(crate) namespace: String,
    /// How long a workload certificate holds.
    pub(crate) workload_ttl: Duration,
    /// How long certificates and tokens hold before they are made.
    pub(crate) clock_skew: Duration,
    /// `None` = no tokens.
    pub(crate) tokens: Option<TokenOptions>,
}

/// Verified material and how to sign with it.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    settings: Arc<Settings>,
    certificates: CertificateBundle,
    tokens: Option<(TokenSigner, String)>,
}

/// The authority in use; exchanged as a whole.
#[derive(Clone, Debug)]
pub(crate) struct SharedAuthority(Arc<RwLock<Arc<Authority>>>);

impl SharedAuthority {
    pub(crate) fn new(authority: Authority) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(authority))))
    }

    /// The authority now.
    pub(crate) fn get(&self) -> Arc<Authority> {
        self.0.read().clone()
    }

    /// Takes another authority for the next requests.
    pub(crate) fn replace(&self, authority: Authority) {
        *self.0.write() = Arc::new(authority);
    }
}

/// How often material is made anew because somebody else stored some at the same time.
const SAVE_ATTEMPTS: usize = 5;

/// Reads the material of a store, makes and stores what is missing. The last value says whether something was made.
pub(crate) async fn prepare(
    settings: &Arc<Settings>,
    store: &dyn CredentialStore,
    log: &Logger,
) -> Result<(Authority, Material, bool), String> {
    for _ in 0..SAVE_ATTEMPTS {
        if let Some(prepared) = try_prepare(settings, store, log).await? {
            return Ok(prepared);
        }
        log.info("Somebody else stored credentials at the same time: using theirs");
    }
    Err("failed to store CA bundle: somebody else changed it again and again; check that no other program writes it"
        .to_owned())
}

/// `None` when somebody else was faster.
async fn try_prepare(
    settings: &Arc<Settings>,
    store: &dyn CredentialStore,
    log: &Logger,
) -> Result<Option<(Authority, Material, bool)>, String> {
    let mut material = store.load().await.map_err(|error| format!("failed to get CA bundle: {error}"))?;
    let mut made = false;
    if material.root.is_none() {
        log.info("Root and issuer certs not found: generating self signed CA");
        let bundle = CertificateBundle::generate(&settings.trust_domain, &settings.namespace, settings.clock_skew);
        bundle.map_err(|error| format!("failed to generate CA bundle: {error}"))?.write(&mut material);
        made = true;
    }
    if settings.tokens.is_some() && (material.token_key.is_none() || material.key_set.is_none()) {
        log.info("Generating JWT signing key and persisting to store");
        let bundle = tokio::task::spawn_blocking(TokenBundle::generate).await.map_err(|error| error.to_string())?;
        bundle.map_err(|error| format!("failed to generate JWT bundle: {error}"))?.write(&mut material);
        made = true;
    }
    let authority = Authority::new(settings.clone(), &material)?.ok_or("the root certificate is missing")?;
    if made {
        let saved = store.save(&material).await.map_err(|error| format!("failed to store CA bundle: {error}"))?;
        if saved == Saved::Overtaken {
            return Ok(None);
        }
        log.info("Self-signed certs and JWT root key generated and persisted successfully");
    } else {
        log.info("Root and issuer certs found: using credentials from store");
    }
    store.publish(&material).await.map_err(|error| format!("failed to store CA bundle: {error}"))?;
    Ok(Some((authority, material, made)))
}

impl Authority {
    /// Verifies material; `None` when there is no certificate, or no key of tokens though tokens are wanted.
    ///
    /// # Errors
    /// Says which part does not fit.
    pub(crate) fn new(settings: Arc<Settings>, material: &Material) -> Result<Option<Self>, String> {
        let read = CertificateBundle::read(material, SystemTime::now());
        let Some(certificates) = read.map_err(|error| format!("failed to verify CA bundle: {error}"))? else {
            return Ok(None);
        };
        let tokens = match &settings.tokens {
            None => None,
            Some(options) => match TokenBundle::read(material, options.key_id.as_deref())? {
                Some(bundle) => Some(signer(options, bundle)?),
                None => return Ok(None),
            },
        };
        Ok(Some(Self { settings, certificates, tokens }))
    }

    /// A certificate chain (leaf first, without the root) for a public key and an identity.
    pub(crate) fn sign(&self, public: &[u8], id: &SpiffeId, dns_names: &[String]) -> Result<Vec<Certificate>, Error> {
        let settings = &self.settings;
        let validity = Validity { now: SystemTime::now(), ttl: settings.workload_ttl, clock_skew: settings.clock_skew };
        let signer = Signer { certificate: self.issuer(), key: &self.certificates.key };
        let mut chain = vec![issue::workload(public, id, dns_names, signer, validity)?];
        chain.extend_from_slice(&self.certificates.chain);
        Ok(chain)
    }

    /// The first certificate of the chain; [`CertificateBundle`] has at least one.
    fn issuer(&self) -> &Certificate {
        &self.certificates.chain[0]
    }

    /// The trust anchors as PEM.
    pub(crate) fn trust_anchors(&self) -> String {
        self.certificates.anchors.to_pem()
    }

    /// The issuer's chain as PEM; to see whether two authorities are the same.
    pub(crate) fn issuer_chain(&self) -> String {
        chain_to_pem(&self.certificates.chain)
    }

    /// The end of the issuer's certificate.
    pub(crate) fn expires(&self) -> SystemTime {
        self.issuer().not_after()
    }

    /// Whether tokens are issued.
    pub(crate) fn issues_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// A token for an identity; `None` when tokens are off.
    pub(crate) fn token(&self, id: &SpiffeId, audiences: &[String]) -> Result<Option<String>, Error> {
        let Some(((signer, _), options)) = self.tokens.as_ref().zip(self.settings.tokens.as_ref()) else {
            return Ok(None);
        };
        let times = TokenTimes { now: SystemTime::now(), ttl: options.ttl, clock_skew: self.settings.clock_skew };
        signer.sign(id, audiences, times).map(Some)
    }

    /// The public keys of tokens as JSON, and the algorithm.
    pub(crate) fn token_keys(&self) -> Option<(&str, &str)> {
        self.tokens.as_ref().map(|(signer, key_set)| (key_set.as_str(), signer.algorithm.as_str()))
    }
}

fn signer(options: &TokenOptions, bundle: TokenBundle) -> Result<(TokenSigner, String), String> {
    if !bundle.key.suits(&options.algorithm) {
        return Err(format!(
            "JWT signing key is incompatible with algorithm {}: the key is of kind {:?}; change --jwt-signing-algorithm or the key",
            options.algorithm,
            bundle.key.kind()
        ));
    }
    let key_id = options.key_id.clone().unwrap_or_else(|| Jwk::of(&bundle.key).thumbprint());
    let signer =
        TokenSigner { key: bundle.key, key_id, algorithm: options.algorithm.clone(), issuer: options.issuer.clone() };
    Ok((signer, bundle.key_set_json))
}
