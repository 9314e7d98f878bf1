//! What is sent: datagrams, and who has which address.

use crate::control::http::answers::{ingest, leases};
use crate::control::http::auth::Needs;
use crate::control::http::collector::Ingested;
use crate::control::http::params::{Param, ParamKind};
use crate::control::http::route::{AnswerKind, Method, Route, Scope, Work};

/// Path of the list of leases.
pub const LEASES_PATH: &str = "/api/v1/netflow/leases";
/// Path of an address's lease.
pub const LEASE_PATH: &str = "/api/v1/netflow/leases/{ip}";

/// Most addresses of one page of leases: about 3 MB of JSON.
const LEASES_MAX: u64 = 10_000;

/// Its rows.
pub(super) const ROUTES: &[Route] = &[
    Route {
        method: Method::Post,
        path: "/api/v1/netflow/v5-ingest",
        summary: "Send NetFlow v5 datagrams",
        about: "Answered when everything accepted is in the log; 503 with Retry-After when the queue is full.",
        needs: Needs::Ingest,
        scope: Scope::Refused,
        params: &[&[Param {
            name: "exporter",
            kind: ParamKind::Ip,
            default: None,
            about: "Address of the exporter; the sender's when not given.",
        }]],
        body: Some("datagrams back to back, each 24 + 48 x count bytes"),
        answer: AnswerKind::Json(|schemas| schemas.add::<Ingested>()),
        work: Work::Thread,
        handler: ingest::answer,
    },
    Route {
        method: Method::Get,
        path: LEASES_PATH,
        summary: "Who has which address",
        about: "By address. Ended leases are kept for a day, for flows that come late.",
        needs: Needs::Read,
        scope: Scope::Filtered,
        params: &[&[
            Param { name: "ip", kind: ParamKind::Ip, default: None, about: "Only this address." },
            Param { name: "subscriber_id", kind: ParamKind::Uuid, default: None, about: "Only of this subscriber." },
            Param { name: "reseller_id", kind: ParamKind::Uuid, default: None, about: "Only of this reseller." },
            Param { name: "nas_id", kind: ParamKind::Text, default: None, about: "Only of this access server." },
            Param { name: "site", kind: ParamKind::Text, default: None, about: "Only of this site." },
            Param {
                name: "which",
                kind: ParamKind::OneOf(leases::WHICH),
                default: Some("current"),
                about: "Leases in force now, or ended and future ones as well.",
            },
            Param {
                name: "after",
                kind: ParamKind::Ip,
                default: None,
                about: "Only addresses after this: `next` of the page before.",
            },
            Param {
                name: "limit",
                kind: ParamKind::Whole { min: 1, max: LEASES_MAX },
                default: Some("1000"),
                about: "Most addresses.",
            },
        ]],
        body: None,
        answer: AnswerKind::Json(|schemas| schemas.add::<leases::Leases>()),
        work: Work::Question,
        handler: leases::list,
    },
    Route {
        method: Method::Post,
        path: LEASES_PATH,
        summary: "State who has many addresses",
        about: "Answered when everything accepted is in force and on disk. Rows with `\"op\": \"delete\"` end leases. Rows \
                that cannot be taken are told and change nothing.",
        needs: Needs::Ingest,
        scope: Scope::Refused,
        params: &[],
        body: Some("a JSON array of leases, or one JSON object a line (NDJSON); each with its ip"),
        answer: AnswerKind::Json(|schemas| schemas.add::<leases::LeasesTaken>()),
        work: Work::Thread,
        handler: leases::bulk,
    },
    Route {
        method: Method::Put,
        path: LEASE_PATH,
        summary: "State who has an address",
        about: "In force at once, answered when it is on disk. It ends the lease that holds its begin; a lease renewed \
                for the same subscriber goes on.",
        needs: Needs::Ingest,
        scope: Scope::Refused,
        params: &[&[Param { name: "ip", kind: ParamKind::PathIp, default: None, about: "The address." }]],
        body: Some("a lease: subscriber_id, and if wished reseller_id, nas_id, site, mac, from, to"),
        answer: AnswerKind::Json(|schemas| schemas.add::<leases::LeaseChanged>()),
        work: Work::Thread,
        handler: leases::put,
    },
    Route {
        method: Method::Delete,
        path: LEASE_PATH,
        summary: "End an address's lease",
        about: "Answered when it is on disk; `changed` is false when there was none.",
        needs: Needs::Ingest,
        scope: Scope::Refused,
        params: &[&[
            Param { name: "ip", kind: ParamKind::PathIp, default: None, about: "The address." },
            Param {
                name: "to",
                kind: ParamKind::Time,
                default: None,
                about: "From when on nobody has the address. Now when not given.",
            },
        ]],
        body: None,
        answer: AnswerKind::Json(|schemas| schemas.add::<leases::LeaseChanged>()),
        work: Work::Thread,
        handler: leases::delete,
    },
];
