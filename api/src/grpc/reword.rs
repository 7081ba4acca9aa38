//! Calls of methods that do not exist: what the callers are told.

use http::{Response, Uri};
use tonic::Status;
use tonic::body::Body;

/// Names the method in an answer of one of the own services to a call of `uri`, where tonic says nothing but the code.
pub(super) fn reword(response: Response<Body>, uri: &Uri) -> Response<Body> {
    let headers = response.headers();
    let is_unimplemented = headers.get(Status::GRPC_STATUS).is_some_and(|code| code == "12");
    if !is_unimplemented || headers.contains_key(Status::GRPC_MESSAGE) {
        return response;
    }
    unknown_method(uri.path()).into_http()
}

/// A call without a service and a method in its path cannot be anyone's.
pub(super) fn check_path(path: &str) -> Result<(), Status> {
    if path.strip_prefix('/').is_some_and(|path| path.contains('/')) {
        return Ok(());
    }
    Err(Status::unimplemented(format!("malformed method name: {path:?}")))
}

fn unknown_method(path: &str) -> Status {
    let (service, method) = path.trim_start_matches('/').rsplit_once('/').unwrap_or_default();
    Status::unimplemented(format!("unknown method {method} for service {service}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reworded(status: Status) -> Status {
        let uri = Uri::from_static("/dapr.proto.runtime.v1.Dapr/Nothing");
        Status::from_header_map(reword(status.into_http(), &uri).headers()).unwrap()
    }

    #[test]
    fn only_tonics_own_refusals_change() {
        let status = reworded(Status::unimplemented(""));
        assert_eq!(status.message(), "unknown method Nothing for service dapr.proto.runtime.v1.Dapr");
        for status in [Status::unimplemented("not yet"), Status::internal("")] {
            let same = reworded(status.clone());
            assert_eq!((same.code(), same.message()), (status.code(), status.message()));
        }
    }

    #[test]
    fn a_path_names_a_service_and_a_method() {
        for good in ["/a.B/C", "/a/b/c", "/a/"] {
            assert!(check_path(good).is_ok(), "{good}");
        }
        for bad in ["/abc", "/", "abc"] {
            assert_eq!(check_path(bad).unwrap_err().message(), format!("malformed method name: {bad:?}"));
        }
    }
}
