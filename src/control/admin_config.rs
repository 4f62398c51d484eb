//! What the admin address does with configs: show the one that runs, take the file, return to an earlier one.

use std::sync::{Arc, Weak};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::admin::{Admin, told, whole};
use super::core::{Control, ReloadError, chain};
use super::reload::{Attempt, Source};

/// What may be said of a rollback.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollback {
    /// Where to. Else to the one before.
    hash: Option<String>,
}

/// `GET /api/config`: what `weir check --show` prints of a file, as JSON; secrets are masked.
pub(super) async fn show(State(admin): State<Arc<Admin>>) -> Response {
    // A large one takes a while.
    let shown = tokio::task::spawn_blocking(move || {
        let config = Arc::clone(&admin.control.published.state().config);
        json!({
            "hash": config.hash,
            "file": config.file.display().to_string(),
            "source": admin.control.standing().word(),
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

/// `POST /api/reload`
pub(super) async fn reload(State(admin): State<Arc<Admin>>) -> Response {
    let (source, place) = match source(&admin) {
        Ok(source) => source,
        Err((status, text)) => return told(status, text),
    };
    // In a task of its own: the answer may go out over a server that the reload replaces.
    let attempt = tokio::spawn(async move {
        let _place = place;
        source.take_file(false).await
    });
    let attempt = attempt.await.ok().flatten();
    match attempt {
        Some(attempt) => outcome(&admin.control, attempt),
        None => told(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the config could not be read; see the log",
        ),
    }
}

/// `POST /api/rollback`
pub(super) async fn rollback(State(admin): State<Arc<Admin>>, body: Body) -> Response {
    let body = match whole(body).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    let asked: Rollback = match &*body {
        b"" => Rollback::default(),
        body => match serde_json::from_slice(body) {
            Ok(asked) => asked,
            Err(_) => {
                let message = "the body is neither empty nor `{\"hash\": \"…\"}`";
                return told(StatusCode::BAD_REQUEST, message);
            }
        },
    };
    let (source, place) = match source(&admin) {
        Ok(source) => source,
        Err((status, text)) => return told(status, text),
    };
    // In a task of its own, as a reload.
    let attempt = tokio::spawn(async move {
        let _place = place;
        source.rollback(asked.hash.as_deref()).await
    });
    match attempt.await {
        Ok(Ok(attempt)) => outcome(&admin.control, attempt),
        Ok(Err(not_kept)) => {
            let body = json!({ "error": not_kept.to_string() });
            (StatusCode::CONFLICT, Json(body)).into_response()
        }
        Err(_) => told(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the config could not be checked; see the log",
        ),
    }
}

/// What takes configs, and a place among those who wait for it; or what to say instead.
fn source(
    admin: &Admin,
) -> Result<(Arc<Source>, OwnedSemaphorePermit), (StatusCode, &'static str)> {
    let source = admin.source.get().and_then(Weak::upgrade).ok_or((
        StatusCode::CONFLICT,
        "this process runs by an embedded config; there is no file to take",
    ))?;
    let place = source.place().ok_or((
        StatusCode::SERVICE_UNAVAILABLE,
        "too many reloads and rollbacks wait for each other; ask again when they are done",
    ))?;
    Ok((source, place))
}

fn outcome(control: &Control, attempt: Attempt) -> Response {
    match attempt.result {
        Ok(taken) => {
            let body = json!({
                "result": "ok",
                "hash": attempt.hash,
                "message": control.message(&taken),
                "changes": taken.changes,
            });
            Json(body).into_response()
        }
        // Whoever asks again reaches that one.
        Err(error @ ReloadError::HandedOver { process }) => {
            let body = json!({
                "result": "handed_over",
                "process": process,
                "message": error.to_string(),
            });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
        Err(error) => {
            let body = json!({ "result": "refused", "message": chain(&error) });
            (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
        }
    }
}
