//! What the admin address tells of the config that runs.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;
use serde_json::json;

use super::admin::{Admin, told};

/// `GET /api/config`: what `weir check --show` prints of a file, as JSON; secrets are masked.
pub(super) async fn show(State(admin): State<Arc<Admin>>) -> Response {
    // A large one takes a while.
    let shown = tokio::task::spawn_blocking(move || {
        let config = Arc::clone(&admin.control.published.state().config);
        json!({
            "hash": config.hash,
            "file": config.file.display().to_string(),
            "config": config.tree(),
        })
    });
    match shown.await {
        Ok(shown) => Json(shown).into_response(),
        Err(_) => told(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the config could not be shown; see the log",
        ),
    }
}
