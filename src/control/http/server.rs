//! The listeners and the router over the table of routes.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::flow::sink::KeyError;

use super::answers::metrics;
use super::endpoint::Endpoint;
use super::error::ApiError;
use super::listener::{Listener, Peer};
use super::rate::Caller;
use super::route::{Method, Route};
use super::table::ROUTES;
use crate::flow::nearest;

/// Nothing of the page may come from elsewhere, run, or stand in another site's frame.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Longest wait for open requests when the server stops: past it connections are cut.
const STOP_WAIT_MAX: Duration = Duration::from_secs(5);

/// Bound listeners, not serving yet: what cannot be bound shows before anything else starts.
pub struct Server {
    endpoint: Arc<Endpoint>,
    api: Listener,
    metrics: Option<Listener>,
}

impl Server {
    /// Binds the addresses of the configuration.
    ///
    /// # Errors
    /// The key whose address cannot be bound, and why.
    pub async fn bind(endpoint: Arc<Endpoint>) -> Result<Self, KeyError> {
        let config = &endpoint.config;
        let api = Listener::bind(config.listen_addr()?, config).await.map_err(|p| key("listen", p))?;
        let metrics = match config.metrics_addr()? {
            None => None,
            Some(addr) => Some(Listener::bind(addr, config).await.map_err(|p| key("metrics_port", p))?),
        };
        Ok(Self { api, metrics, endpoint })
    }

    /// The address of the API, with the port that the system chose where the configuration says 0.
    pub fn api_addr(&self) -> SocketAddr {
        self.api.addr()
    }

    /// The address of the second listener.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(Listener::addr)
    }

    /// Serves until `stop` is ready, then ends open requests, for a moment at the most.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) {
        let (sender, receiver) = tokio::sync::watch::channel(false);
        let stopped = move || {
            let mut receiver = receiver.clone();
            async move {
                // An error means that the sender is gone: the same.
                let _ = receiver.wait_for(|stop| *stop).await;
            }
        };
        let api = run(self.api, router(self.endpoint.clone()), stopped());
        let own = self.metrics.map(|listener| run(listener, metrics_router(self.endpoint), stopped()));
        let both = async {
            match own {
                Some(own) => drop(tokio::join!(api, own)),
                None => api.await,
            }
        };
        tokio::pin!(both);
        tokio::select! {
            () = &mut both => return,
            () = stop => {}
        }
        sender.send_replace(true);
        // What is still open after the wait is cut by dropping it.
        let _ = tokio::time::timeout(STOP_WAIT_MAX, both).await;
    }
}

fn key(key: &str, problem: String) -> KeyError {
    KeyError { key: key.into(), problem }
}

async fn run(listener: Listener, router: Router, stopped: impl Future<Output = ()> + Send + 'static) {
    let service = router.into_make_service_with_connect_info::<Peer>();
    // Listener::accept handles every error itself, so serving has none.
    let _ = axum::serve(listener, service).with_graceful_shutdown(stopped).await;
}

/// The router of the API.
pub fn router(endpoint: Arc<Endpoint>) -> Router {
    let mut router: Router<Arc<Endpoint>> = Router::new();
    let metrics = endpoint.config.metrics;
    for route in ROUTES.iter().filter(|route| metrics || route.path != "/metrics") {
        router = router.route(route.path, method_router(route));
    }
    layered(router.fallback(not_found).method_not_allowed_fallback(not_allowed).with_state(endpoint))
}

/// The router of the second listener: no token, nothing but health and metrics.
pub fn metrics_router(endpoint: Arc<Endpoint>) -> Router {
    let scrape = |State(endpoint): State<Arc<Endpoint>>, ConnectInfo(peer): ConnectInfo<Peer>, request: Request| async move {
        if let Err(error) = endpoint.admit(Caller::of_addr(peer.addr.ip()), 1.0) {
            return error.into_response();
        }
        let headers = request.headers().clone();
        match tokio::task::spawn_blocking(move || metrics::render(&endpoint, &headers)).await {
            Ok(response) => response,
            Err(_) => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the scrape failed inside").into_response(),
        }
    };
    let router = Router::new()
        .route("/metrics", on(MethodFilter::GET, scrape))
        .route("/healthz", on(MethodFilter::GET, || async { "ok\n" }))
        .fallback(|uri: Uri| async move {
            ApiError::new(StatusCode::NOT_FOUND, format!("there is no {}; there are /metrics and /healthz", uri.path()))
        });
    layered(router.method_not_allowed_fallback(not_allowed).with_state(endpoint))
}

fn method_router(route: &'static Route) -> MethodRouter<Arc<Endpoint>, Infallible> {
    let filter = match route.method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Put => MethodFilter::PUT,
        Method::Delete => MethodFilter::DELETE,
    };
    on(
        filter,
        move |State(endpoint): State<Arc<Endpoint>>,
              ConnectInfo(peer): ConnectInfo<Peer>,
              path_params: Result<RawPathParams, axum::extract::rejection::RawPathParamsRejection>,
              request: Request| async move {
            match path_params {
                Ok(found) => {
                    let params = found.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                    route.serve(endpoint, peer, params, request).await
                }
                Err(_) => ApiError::new(StatusCode::BAD_REQUEST, "the path is not UTF-8").into_response(),
            }
        },
    )
}

fn layered(router: Router) -> Router {
    let header = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    router
        .layer(CatchPanicLayer::custom(panicked))
        .layer(CompressionLayer::new())
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(header::CACHE_CONTROL, "no-store"))
        .layer(header(header::REFERRER_POLICY, "no-referrer"))
        .layer(header(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
}

// The signature that the layer asks for.
#[allow(clippy::needless_pass_by_value)]
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the request failed inside; see the log").into_response()
}

async fn not_found(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(128).collect();
    let hint =
        nearest(&path, ROUTES.iter().map(|r| r.path)).map_or(String::new(), |near| format!("; did you mean {near}?"));
    ApiError::new(StatusCode::NOT_FOUND, format!("there is no {path}{hint} (/ lists what there is)"))
}

async fn not_allowed(request: Request) -> ApiError {
    let text = format!("{} is not a method of {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, text)
}
