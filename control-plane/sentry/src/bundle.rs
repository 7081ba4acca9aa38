//! The material of the authority: verified when it is read, made when there is none.
//!
//! *Source:* spec internals.md §5.4 and §5.5.

use std::time::{Duration, SystemTime};

use pillion_security::certificate::chain_to_pem;
use pillion_security::issue::{self, Signer, Validity};
use pillion_security::jwk::{Jwk, JwkSet};
use pillion_security::{Certificate, PrivateKey, SpiffeId, TrustAnchors, TrustDomain};

use crate::store::Material;

/// How long a root and issuer made here hold.
const AUTHORITY_TTL: Duration = Duration::from_secs(365 * 24 * 3600);
/// *Source:* the id of sentry itself.
pub(crate) const SENTRY: &str = "dapr-sentry";
const DEFAULT_ALGORITHM: &str = "RS256";

/// What certificates are signed with.
#[derive(Clone, Debug)]
pub(crate) struct CertificateBundle {
    /// Whom everybody trusts.
    pub(crate) anchors: TrustAnchors,
    /// The issuer and what stands between it and the root; never empty.
    pub(crate) chain: Vec<Certificate>,
    /// The issuer's key.
    pub(crate) key: PrivateKey,
}

/// What tokens are signed with.
#[derive(Clone, Debug)]
pub(crate) struct TokenBundle {
    /// The key.
    pub(crate) key: PrivateKey,
    /// The public keys as JSON, as stored.
    pub(crate) key_set_json: String,
}

impl CertificateBundle {
    /// Verifies stored material; `None` when there is none.
    ///
    /// # Errors
    /// Says which part does not fit.
    pub(crate) fn read(material: &Material, now: SystemTime) -> Result<Option<Self>, String> {
        let (root, chain, key) = match (&material.root, &material.issuer_chain, &material.issuer_key) {
            (None, ..) => return Ok(None),
            (Some(root), Some(chain), Some(key)) => (root, chain, key),
            // Making a new issuer needs the root's key, which is not kept; a new root would cut off everybody who trusts this one.
            (Some(_), ..) => {
                return Err("there is a root certificate, but not both the issuer's certificate and key: add what is missing, or remove the root certificate to have all made anew".to_owned());
            }
        };
        let anchors = TrustAnchors::from_pem(root).map_err(|error| error.to_string())?;
        let mut chain = Certificate::from_pem(chain).map_err(|error| format!("issuer certificate: {error}"))?;
        // The root is not part of what clients are sent.
        if chain.len() > 1 && chain.last().is_some_and(|last| last.is_signed_by(last)) {
            chain.pop();
        }
        let key = PrivateKey::from_pem(key).map_err(|error| format!("issuer key: {error}"))?;
        let Some(issuer) = chain.first() else { return Err("issuer certificate: no certificate".to_owned()) };
        if !issuer.may_sign() {
            return Err("intermediate certificate is not valid for signing".to_owned());
        }
        if issuer.public_key_info() != key.public_key_info() {
            return Err("issuer key does not match issuer certificate".to_owned());
        }
        if !anchors.trusts_issuers(&chain, now) {
            return Err("issuer chain does not belong to trust anchors, or one of the certificates does not hold now"
                .to_owned());
        }
        Ok(Some(Self { anchors, chain, key }))
    }

    /// Makes a root and an issuer under it. The key of the root is forgotten.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(crate) fn generate(
        trust_domain: &TrustDomain,
        namespace: &str,
        clock_skew: Duration,
    ) -> Result<Self, pillion_security::Error> {
        let validity = Validity { now: SystemTime::now(), ttl: AUTHORITY_TTL, clock_skew };
        let (root_key, key) = (PrivateKey::generate()?, PrivateKey::generate()?);
        let root = issue::root(&root_key, trust_domain.as_str(), validity)?;
        let sentry = SpiffeId::new(trust_domain.clone(), namespace, SENTRY)?;
        let signer = Signer { certificate: &root, key: &root_key };
        let issuer = issue::issuer(&key.public_key_info(), &sentry.to_string(), signer, validity)?;
        Ok(Self { anchors: TrustAnchors::new(vec![root])?, chain: vec![issuer], key })
    }

    /// Puts the material where it is stored from.
    pub(crate) fn write(&self, material: &mut Material) {
        material.root = Some(self.anchors.to_pem().into_bytes());
        material.issuer_chain = Some(chain_to_pem(&self.chain).into_bytes());
        material.issuer_key = Some(self.key.to_pem().into_bytes());
    }
}

impl TokenBundle {
    /// Verifies stored material; `None` when there is none. The key must be in the set, under `key_id` when one is given.
    ///
    /// # Errors
    /// Says what does not fit.
    pub(crate) fn read(material: &Material, key_id: Option<&str>) -> Result<Option<Self>, String> {
        let Some((key, key_set)) = material.token_key.as_ref().zip(material.key_set.as_ref()) else { return Ok(None) };
        let key = PrivateKey::from_pem(key).map_err(|error| format!("failed to load JWT signing key: {error}"))?;
        let set = JwkSet::parse(key_set).map_err(|error| format!("failed to verify JWKS: {error}"))?;
        let own = Jwk::of(&key);
        let matches = |jwk: &&Jwk| jwk.is_for_signatures() && jwk.is_same_key(&own);
        let named = |jwk: &&Jwk| key_id.is_none_or(|id| jwk.key_id.as_deref() == Some(id));
        let problem = if set.keys.is_empty() {
            "JWKS doesn't contain any keys".to_owned()
        } else if let Some(id) = key_id
            && !set.keys.iter().any(|jwk| named(&jwk))
        {
            format!("JWKS doesn't contain a key with user-provided key ID {id:?}")
        } else if !set.keys.iter().filter(named).any(|jwk| matches(&jwk)) {
            "JWKS doesn't contain a matching public key for the JWT signing key".to_owned()
        } else {
            return Ok(Some(Self { key, key_set_json: String::from_utf8_lossy(key_set).into_owned() }));
        };
        Err(format!("failed to verify JWKS: {problem}"))
    }

    /// Makes a key and the set with its public half; takes up to some seconds.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(crate) fn generate() -> Result<Self, pillion_security::Error> {
        let key = PrivateKey::generate_rsa()?;
        let mut jwk = Jwk::of(&key);
        jwk.key_id = Some(jwk.thumbprint());
        jwk.algorithm = Some(DEFAULT_ALGORITHM.to_owned());
        jwk.usage = Some("sig".to_owned());
        Ok(Self { key, key_set_json: JwkSet { keys: vec![jwk] }.to_json() })
    }

    /// Puts the material where it is stored from.
    pub(crate) fn write(&self, material: &mut Material) {
        material.token_key = Some(self.key.to_pem().into_bytes());
        material.key_set = Some(self.key_set_json.clone().into_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generated() -> (CertificateBundle, Material) {
        let bundle = CertificateBundle::generate(&TrustDomain::public(), "default", Duration::from_secs(60)).unwrap();
        let mut material = Material::default();
        bundle.write(&mut material);
        (bundle, material)
    }

    fn problem(material: &Material) -> String {
        CertificateBundle::read(material, SystemTime::now()).unwrap_err()
    }

    #[test]
    fn what_is_made_is_read_again() {
        let (bundle, mut material) = generated();
        let again = CertificateBundle::read(&material, SystemTime::now()).unwrap().unwrap();
        assert_eq!(again.chain, bundle.chain);
        // Comments and the root in the chain are no harm.
        let root = material.root.clone().unwrap();
        material.issuer_chain.as_mut().unwrap().extend_from_slice(&root);
        material.root = Some([b"# old root\n", &root[..]].concat());
        let again = CertificateBundle::read(&material, SystemTime::now()).unwrap().unwrap();
        assert_eq!((again.chain, again.anchors.to_pem()), (bundle.chain, bundle.anchors.to_pem()));
        assert!(CertificateBundle::read(&Material::default(), SystemTime::now()).unwrap().is_none());
    }

    #[test]
    fn an_issuer_under_either_of_two_roots_holds() {
        let ((_, old), (_, new)) = (generated(), generated());
        let both = [old.root.clone().unwrap(), new.root.clone().unwrap()].concat();
        for material in [old, new] {
            let material = Material { root: Some(both.clone()), ..material };
            let bundle = CertificateBundle::read(&material, SystemTime::now()).unwrap().unwrap();
            assert_eq!(bundle.anchors.certificates().len(), 2);
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let ((_, one), (_, two)) = (generated(), generated());
        assert!(
            problem(&Material { root: two.root.clone(), ..one.clone() }).contains("does not belong to trust anchors")
        );
        assert!(problem(&Material { issuer_key: two.issuer_key.clone(), ..one.clone() }).contains("does not match"));
        assert!(problem(&Material { issuer_key: None, ..one.clone() }).contains("add what is missing"));
        assert!(problem(&Material { root: one.issuer_chain.clone(), ..one.clone() }).contains("not self-signed"));
        assert!(problem(&Material { root: Some(Vec::new()), ..one.clone() }).contains("no certificate"));
        let late = SystemTime::now() + AUTHORITY_TTL * 2;
        assert!(CertificateBundle::read(&one, late).unwrap_err().contains("does not hold now"));
    }

    #[test]
    fn the_key_of_tokens_must_be_in_the_set() {
        let bundle = TokenBundle::generate().unwrap();
        let mut material = Material::default();
        bundle.write(&mut material);
        let id = JwkSet::parse(bundle.key_set_json.as_bytes()).unwrap().keys[0].key_id.clone().unwrap();
        assert!(TokenBundle::read(&material, None).unwrap().is_some());
        assert!(TokenBundle::read(&material, Some(&id)).unwrap().is_some());
        let told = |material: &Material, id: Option<&str>| TokenBundle::read(material, id).unwrap_err();
        assert!(told(&material, Some("x")).contains("user-provided key ID \"x\""));
        let other = JwkSet { keys: vec![Jwk::of(&PrivateKey::generate().unwrap())] };
        let mismatch = Material { key_set: Some(other.to_json().into_bytes()), ..material.clone() };
        assert!(told(&mismatch, None).contains("matching public key"));
        let empty = Material { key_set: Some(br#"{"keys":[]}"#.to_vec()), ..material.clone() };
        assert!(told(&empty, None).contains("doesn't contain any keys"));
        assert!(told(&Material { key_set: Some(Vec::new()), ..material }, None).contains("failed to parse JWKS"));
    }
}
