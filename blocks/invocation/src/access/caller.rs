//! What a call says of its caller, held against the caller's certificate.

use http::{HeaderMap, HeaderValue};
use pillion_runtime::message::{CALLER_APP_ID, CALLER_NAMESPACE};
use pillion_security::SpiffeId;

/// Corrects the headers by which the app learns who calls. A sidecar says the same as its certificate; whoever does not is no
/// sidecar, and the app shall not believe it. Without mutual TLS there is nothing to hold them against.
///
/// *Source:* spec internals.md §7.2; the original believes the headers.
pub(crate) fn correct_caller(headers: &mut HeaderMap, peer: Option<&SpiffeId>) {
    let Some(peer) = peer else { return };
    for (name, truth) in [(CALLER_APP_ID, peer.app_id()), (CALLER_NAMESPACE, peer.namespace())] {
        if headers.get_all(name).iter().any(|said| said.as_bytes() != truth.as_bytes())
            && let Ok(truth) = HeaderValue::from_str(truth)
        {
            headers.insert(name, truth);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_believed() {
        let peer = SpiffeId::parse("spiffe://public/ns/default/caller").unwrap();
        let mut headers = HeaderMap::new();
        correct_caller(&mut headers, Some(&peer));
        assert!(headers.is_empty(), "what is not said is not added");
        for value in ["somebody", "caller"] {
            headers.append(CALLER_APP_ID, HeaderValue::from_static(value));
        }
        headers.insert(CALLER_NAMESPACE, HeaderValue::from_static("other"));
        let mut believed = headers.clone();
        correct_caller(&mut believed, None);
        assert_eq!(believed, headers);
        correct_caller(&mut headers, Some(&peer));
        assert_eq!(headers.get_all(CALLER_APP_ID).iter().collect::<Vec<_>>(), ["caller"]);
        assert_eq!(headers[CALLER_NAMESPACE], "default");
    }
}
