//! The routes: a file for each resource.
#![allow(
    unused_qualifications,
    reason = "the macro of utoipa repeats the types of parameters with their paths"
)]

mod access;
mod acl;
mod alarms;
mod bans;
mod clients;
mod config;
mod ctl;
mod list;
mod listeners;
mod login;
mod nodes;
mod publish;
mod retained;
mod sn;
mod stats;
mod status;
mod topics;
mod trace;
mod users;
mod v5;
mod why;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use nightjar_mqtt::QoS;
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::ApiError;
use crate::shared::Shared;

pub use trace::view as trace_view;

/// The state of every handler.
pub type App = axum::extract::State<Arc<Shared>>;

/// The QoS that a request names.
fn qos(number: u8) -> Result<QoS, ApiError> {
    QoS::try_from(number)
        .map_err(|_| ApiError::bad_request(format!("qos: expected 0, 1 or 2, got {number}")))
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Nightjar",
    description = "HTTP API of the Nightjar MQTT broker. Lists are read by cursor: pass `meta.cursor` of an answer \
                   as `cursor` of the next request.",
    license(name = "Apache-2.0")
))]
struct Document;

/// The resources of `/api/v1` and their description.
fn resources() -> OpenApiRouter<Arc<Shared>> {
    let mut document = Document::openapi();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let components = document.components.get_or_insert_default();
    for (name, scheme) in [
        ("token", HttpAuthScheme::Bearer),
        ("api_key", HttpAuthScheme::Basic),
    ] {
        components.add_security_scheme(name, SecurityScheme::Http(Http::new(scheme)));
    }
    document.security = Some(
        ["token", "api_key"]
            .map(|name| SecurityRequirement::new(name, Vec::<String>::new()))
            .to_vec(),
    );
    let v1 = OpenApiRouter::new()
        .routes(routes!(login::login))
        .routes(routes!(login::logout))
        .routes(routes!(login::whoami))
        .routes(routes!(access::accounts, access::add_account))
        .routes(routes!(access::change_account, access::remove_account))
        .routes(routes!(access::set_password))
        .routes(routes!(access::keys, access::add_key))
        .routes(routes!(access::remove_key))
        .routes(routes!(access::audit))
        .routes(routes!(status::status))
        .routes(routes!(nodes::nodes))
        .routes(routes!(nodes::node))
        .routes(routes!(nodes::cluster))
        .routes(routes!(stats::stats))
        .routes(routes!(stats::metrics))
        .routes(routes!(stats::monitor))
        .routes(routes!(clients::list))
        .routes(routes!(clients::one, clients::kick))
        .routes(routes!(clients::kick_bulk))
        .routes(routes!(clients::subscriptions_of))
        .routes(routes!(clients::timeline))
        .routes(routes!(clients::subscriptions))
        .routes(routes!(topics::list))
        .routes(routes!(topics::tree))
        .routes(routes!(publish::publish))
        .routes(routes!(publish::bulk))
        .routes(routes!(retained::list))
        .routes(routes!(retained::one, retained::remove))
        .routes(routes!(listeners::list))
        .routes(routes!(listeners::one))
        .routes(routes!(listeners::act))
        .routes(routes!(sn::gateways))
        .routes(routes!(sn::sleepers))
        .routes(routes!(sn::topics))
        .routes(routes!(users::list, users::add))
        .routes(routes!(users::change, users::remove))
        .routes(routes!(acl::test))
        .routes(routes!(acl::show))
        .routes(routes!(acl::reload))
        .routes(routes!(acl::clear_cache))
        .routes(routes!(acl::auth))
        .routes(routes!(bans::list, bans::add))
        .routes(routes!(bans::remove))
        .routes(routes!(alarms::list, alarms::clear))
        .routes(routes!(why::drops))
        .routes(routes!(why::explain))
        .routes(routes!(trace::list, trace::start))
        .routes(routes!(trace::stop))
        .routes(routes!(trace::remove))
        .routes(routes!(trace::download))
        .routes(routes!(trace::log))
        .routes(routes!(config::show))
        .routes(routes!(config::reload))
        .routes(routes!(config::log_level, config::set_log_level));
    OpenApiRouter::with_openapi(document).nest("/api/v1", v1)
}

/// The OpenAPI description.
pub fn openapi() -> utoipa::openapi::OpenApi {
    resources().split_for_parts().1
}

/// Everything the port answers.
pub fn router(shared: &Arc<Shared>) -> Router {
    let (resources, _) = resources().split_for_parts();
    resources
        .route("/api/v1/openapi.json", get(status::openapi))
        .route("/api/v1/live", get(crate::live::connect))
        .route("/api/v1/ctl", axum::routing::post(ctl::ctl))
        .merge(v5::router())
        .route("/status", get(status::text))
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/metrics", get(stats::prometheus))
        .fallback(crate::assets::serve)
        .method_not_allowed_fallback(status::method_not_allowed)
        .layer(DefaultBodyLimit::max(crate::server::MAX_BODY))
        .layer(from_fn_with_state(shared.clone(), crate::access::guard))
        .layer(from_fn(crate::assets::harden))
        .with_state(shared.clone())
}
