//! Secrets over HTTP. *Source:* spec http_api.md §8.

use pillion_core::error::ApiError;

use super::front::{Incall, Shared};
use super::path;
use super::respond::{self, HttpResponse};

impl Shared {
    pub(super) async fn get_secret(&self, store: &str, key: &str, call: &Incall) -> Result<HttpResponse, ApiError> {
        let metadata = path::query_metadata(call.uri.query().unwrap_or_default());
        Ok(respond::json(&self.api.secrets.get(store, key, &metadata).await?))
    }

    pub(super) async fn get_bulk_secret(&self, store: &str, call: &Incall) -> Result<HttpResponse, ApiError> {
        let metadata = path::query_metadata(call.uri.query().unwrap_or_default());
        Ok(respond::json(&self.api.secrets.bulk_get(store, &metadata).await?))
    }
}
