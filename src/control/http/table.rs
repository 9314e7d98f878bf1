//! The table of routes. The router, the page at `/`, the OpenAPI document and the tests loop over it: a route exists by being a row
//! here.

use super::answers::{
    alerts, bandwidth_trend, exporters, flows_csv, health, ingest, leases, ledger, metrics, operate,
    protocol_breakdown, query, reports, sinks, top_talkers, usage,
};
use super::auth::Needs;
use super::collector::{Ingested, Readiness, Reloaded};
use super::describe;
use super::params::{Param, ParamKind};
use super::route::{AnswerKind, Method, Route, Scope, Work};

use crate::control::alerts::{AlertItem, Severity};

/// Most rows of one list. Longer lists are exports: `flows.csv`.
const ROWS_MAX: u64 = 100_000;

/// Path of the list of leases.
pub const LEASES_PATH: &str = "/api/v1/netflow/leases";
/// Path of an address's lease.
pub const LEASE_PATH: &str = "/api/v1/netflow/leases/{ip}";

/// Most addresses of one page of leases: about 3 MB of JSON.
const LEASES_MAX: u64 = 10_000;

const RANGE: &[Param] = &[
    Param {
        name: "period",
        kind: ParamKind::Period,
        default: Some("24h"),
        about: "Length of the time that is summed, before `to` or after `from`.",
    },
    Param { name: "from", kind: ParamKind::Time, default: None, about: "Start of the time; belongs to it." },
    Param {
        name: "to",
        kind: ParamKind::Time,
        default: None,
        about: "End of the time; does not belong to it. Now when not given.",
    },
];

const WEEK: &[Param] = &[
    Param {
        name: "period",
        kind: ParamKind::Period,
        default: Some("7d"),
        about: "Length of the time that is summed, before `to` or after `from`.",
    },
    Param { name: "from", kind: ParamKind::Time, default: None, about: "Start of the time; belongs to it." },
    Param {
        name: "to",
        kind: ParamKind::Time,
        default: None,
        about: "End of the time; does not belong to it. Now when not given.",
    },
];

const FLOWS: &[Param] = &[
    Param { name: "filter", kind: ParamKind::Filter, default: None, about: "Only flows that match." },
    NAS_ID,
    SITE,
    RESELLER_ID,
    Param { name: "country", kind: ParamKind::Country, default: None, about: "Only flows from or to this country." },
    Param {
        name: "asn",
        kind: ParamKind::Whole { min: 1, max: u32::MAX as u64 },
        default: None,
        about: "Only flows from or to this AS.",
    },
    Param { name: "app", kind: ParamKind::Text, default: None, about: "Only flows of this application." },
    Param { name: "app_category", kind: ParamKind::Text, default: None, about: "Only applications of this category." },
];

const PLACE: &[Param] = &[NAS_ID, SITE, RESELLER_ID];

const NAS_ID: Param =
    Param { name: "nas_id", kind: ParamKind::Text, default: None, about: "Only flows of this access server." };
const SITE: Param = Param { name: "site", kind: ParamKind::Text, default: None, about: "Only flows of this site." };
const RESELLER_ID: Param =
    Param { name: "reseller_id", kind: ParamKind::Uuid, default: None, about: "Only flows of this reseller." };

const UTC_OFFSET: &[Param] = &[Param {
    name: "utc_offset",
    kind: ParamKind::Offset,
    default: Some("Z"),
    about: "Where days, months and hours of the day begin.",
}];

/// Beside [`FLOWS`], where the path does not name the subscriber.
const SUBSCRIBER: &[Param] =
    &[Param { name: "subscriber_id", kind: ParamKind::Uuid, default: None, about: "Only flows of this subscriber." }];

const STORE: &[Param] = &[Param {
    name: "store",
    kind: ParamKind::Text,
    default: None,
    about: "Name of the sink whose store answers; the configured one when not given.",
}];

const TIER: &[Param] = &[Param {
    name: "tier",
    kind: ParamKind::Text,
    default: None,
    about: "Which data answer: `flows` or a rollup's name; the coarsest that can when not given.",
}];

/// Every route.
pub static ROUTES: &[Route] = &[
    Route {
        method: Method::Get,
        path: "/api/v1/netflow/top-talkers",
        summary: "Addresses with the most bytes",
        about: "From rollups the answer says whether it is exact: customer hosts always are.",
        needs: Needs::Read,
        scope: Scope::Filtered,
        params: &[
            RANGE,
            &[
                Param {
                    name: "by",
                    kind: ParamKind::OneOf(top_talkers::BY),
                    default: Some("src_ip"),
                    about: "Which address of a flow counts; `host` counts both.",
                },
                Param {
                    name: "limit",
                    kind: ParamKind::Whole { min: 1, max: ROWS_MAX },
                    default: Some("10"),
                    about: "Most rows.",
                },
            ],
            FLOWS,
            SUBSCRIBER,
            TIER,
            STORE,
        ],
        body: None,
        answer: AnswerKind::Json(|schemas| schemas.add::<top_talkers::TopTalkers>()),
        work: Work::Question,
        handler: top_talkers::answer,
    },
    Route {
        method: Method::Get,
        path: "/api/v1/netflow/bandwidth-trend",
        summary: "Bytes by direction over time",
        about: "Steps without traffic are there with 0.",
        needs: Needs::Read,
        scope: Scope::Filtered,
        params: &[
            RANGE,
            &[Param {
                name: "interval",
                kind: ParamKind::Interval,
                default: Some("1h"),
                about: "Width of a step; steps are aligned to the Unix epoch.",
            }],
            FLOWS,
            SUBSCRIBER,
            TIER,
            STORE,
        ],
        body: None,
        answer: AnswerKind::Json(|schemas| schemas.add::<bandwidth_trend::BandwidthTrend>()),
        work: Work::Question,
        handler: bandwidth_trend::answer,
    },
    Route {
        method: Method::Get,
        path: "/api/v1/netflow/protocol-breakdown",
        summary: "Shares of protocols and services",
        about: "`dst_port` is the service's port on whichever side it is. Shares are of everything that matched.",
        needs: Needs::Read,
        scope: Scope::Filtered,
        params: &[
            WEEK,
            &[Param {
                name: "limit",
                kind: ParamKind::Whole { min: 1, max: ROWS_MAX },
                default: Some("100"),
                about: "Most rows.",
            }],
            FLOWS,
            SUBSCRIBER,
            TIER,
            STORE,
        ],
        body: None,
        answer: AnswerKind::Json(|schemas| schemas.add::<protocol_breakdown::ProtocolBreakdown>()),
        work: Work::Question,
        handler: protocol_breakdown::answer,
    },
    Route {
        method: Method::Get,
        path: "/api/v1/netflow/subscriber/{subscriber_id}/usage",
        summary: "One subscriber's traffic",
        about: "Totals hold in, out and internal. The ports can rest on another tier than the totals; each says which.",
        needs: Needs::Read,
        scope: Scope::Filtered,
        params: &[
            &[Param { name: "subscriber_id", kind: ParamKind::PathUuid, default: None, about: "The subscriber." }],
            RANGE,
            &[Param {
                name: "limit",
                kind: ParamKind::Whole { min: 1, max: 1000 },
                default: Some("10"),
                about: "Most ports.",
            }],
            FLOWS,
            TIER,
            STORE,
        ],
        body: None,
        answer: AnswerKind::Json(|schemas| schemas.add::<usage::Usage>()),
        work: Work::Question,
        handler: usage::answer,
    },
    Route {
        method: Method::Get,
        path: "/api/v1/netflow/query",
        summary: "Any question",
        about: "Sums by any keys and time steps.",
        needs: Needs::Read,
        scope: Scope::Filtered,
        params: &[
            RANGE,
            &[
                Param {
                    name: "by",
                    kind: ParamKind::Keys,
                    default: None,
                    about: "Keys; one row in all when not given.",
                },
                Param {
                    name: "measures",
                    kind: ParamKind::SomeOf(query::MEASURES),
                    default: Some("bytes,packets,flows"),
                    about: "What each row holds.",
                },
                Param {
                    name: "interval",
                    kind: ParamKind::Interval,
                    default: None,
                    about: "Width of time steps; the whole range is one when not given.",
                },
                Param {
                    name: "order",
                    kind: ParamKind::OneOf(query::ORDERS),
                    default: None,
                    about: "Measures descending, time ascending; bytes when not given, time with an interval.",
                },
                Param {
                    name: "limit",
                    kind: ParamKind::Whole { min: 1, max: ROWS_MAX },
                    default: Some("10000"),
                    about: "Most rows.",
                },
            ],
            FLOWS,
            SUBSCRIBER,
            TIER,
            STORE,
        ],
        body: None,
        answer: AnswerKind::Json(|schemas| schemas.add::<query::QueryAnswer>()),
        work: Work::Question,
        handler: query::answer,
    },
    Route {
        method: Method::Get,
        path: "/api/v1/netflow/flows.csv",
        summary: "Flow records as CSV",
        about: "Streamed, in no order. A connection that ends without the end of the chunks means that the export is not \
                whole. The header X-Netflow-Note says when a part of the range has expired.",
        needs: Needs::Read,
        scope: Scope::Filtered,
        params: &[
            RANGE,
            &[
                Param {
                    name: "columns",
                    kind: ParamKind::Columns,
                    default: None,
                    about: "Which columns, in this order; all when not given.",
                },
                Param {
                    name: "limit",
                    kind: ParamKind::Whole { min: 1, max: u64::MAX },
                    default: None,
                    about: "Most rows; all when not given.",
                },
            ],
            FLOWS,
            SUBSCRIBER,
            STORE,
        ],
        body: None,
        answer: AnswerKind::Text(&["text/csv"]),
        work: Work::Export,
        handler: flows_csv::answer,
    },
    Route {
        method: Method::Get,
        path: "/api/v1/netflow/reports/monthly",
        summary: "A month by reseller and site",
        about: "Traffic, busy hour, 95th percentile, subscribers, growth, and when the site's line will be full. Hours without \
                traffic count as 0 from the first data on.",
        needs: Needs::Read,
        scope: Scope::Filtered,
        params: &[
            &[
                Param {
                    name: "month",
                    kind: ParamKind::Month,
                    default: None,
                    about: "The month; the last one that is over when not given.",
                },
                Param {
                    name: "compare",
                    kind: ParamKind::Whole { min: 0, max: 11 },
                    default: Some("3"),
                    about: "Earlier months for growth and trend.",
                },
                Param {
                    name: "bucket",
                    kind: ParamKind::OneOf(reports::monthly::BUCKETS),
                    default: Some("1h"),
                    about: "Width of the buckets whose 95th percentile is taken. Hours are kept 12 months, 5 minutes as long as \
                            detail.",
                },
            ],
            UTC_OFFSET,
            PLACE,
            STORE,
        ],
        body: None,
        answer: AnswerKind::Json(|schemas| schemas.add::<reports::MonthlyReport>()),
        work: Work::Export,
        handler: reports::monthly::answer,
    },
    Route {
        method: Method::Get,
        path: "/api/v1/netflow/reports/peak-hours",
        summary: "Traffic by hour of the day and day of the week",
        about: "Means over the whole hours of the last days, from the first hour with traffic on.",
        needs: Needs::Read,
        scope: Scope::Filtered,
        params: &[
            &[Param {
                name: "days",
                kind: ParamKind::Whole { min: 1, max: reports::peak_hours::DAYS_MAX },
                default: Some("28"),
                about: "Days before now.",
            }],
            UTC_OFFSET,
            PLACE,
            STORE,
        ],
        body: None,
        answer: AnswerKind::Json(|schemas| schemas.add::<reports::peak_hours::PeakHours>()),
        work: Work::Question,
        handler: reports::peak_hours::answer,
    },
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
    Route {
        method: Method::Get,
        path: "/api/v1/netflow/alerts",
        summary: "Alerts that last, and those of the past days",
        about: "The newest first. A token that is limited to a reseller sees its alerts only.",
        needs: Needs::Read,
        scope: Scope::Filtered,
        params: &[&[
            Param {
                name: "severity",
                kind: ParamKind::OneOf(Severity::NAMES),
                default: None,
                about: "Only of this severity.",
            },
            Param {
                name: "days",
                kind: ParamKind::Whole { min: 0, max: 3660 },
                default: Some("7"),
                about: "With those that ended in so many days.",
            },
            Param {
                name: "state",
                kind: ParamKind::OneOf(alerts::STATES),
                default: Some("all"),
                about: "`firing`: only those that last.",
            },
            Param { name: "type", kind: ParamKind::OneOf(alerts::TYPES), default: None, about: "Only of this type." },
            Param { name: "subscriber_id", kind: ParamKind::Uuid, default: None, about: "Only of this subscriber." },
            Param { name: "reseller_id", kind: ParamKind::Uuid, default: None, about: "Only of this reseller." },
            Param {
                name: "limit",
                kind: ParamKind::Whole { min: 1, max: ROWS_MAX },
                default: Some("1000"),
                about: "Most rows.",
            },
        ]],
        body: None,
        answer: AnswerKind::Json(|schemas| schemas.add::<alerts::Alerts>()),
        work: Work::Thread,
        handler: alerts::list,
    },
    Route {
        method: Method::Post,
        path: "/api/v1/netflow/alerts/acknowledge",
        summary: "Say that an alert was seen",
        about: "It stays until its condition is over. 404 when there is no such alert.",
        needs: Needs::Admin,
        scope: Scope::Refused,
        params: &[&[Param {
            name: "id",
            kind: ParamKind::Whole { min: 0, max: u64::MAX },
            default: None,
            about: "The alert's number; needed.",
        }]],
        body: Some("nothing"),
        answer: AnswerKind::Json(|schemas| schemas.add::<AlertItem>()),
        work: Work::Thread,
        handler: alerts::acknowledge,
    },
    Route {
        method: Method::Get,
        path: "/api/v1/netflow/exporters",
        summary: "What is known of each exporter",
        about: "",
        needs: Needs::Read,
        scope: Scope::Refused,
        params: &[],
        body: None,
        answer: AnswerKind::Json(|schemas| schemas.add::<exporters::Exporters>()),
        work: Work::Thread,
        handler: exporters::answer,
    },
    Route {
        method: Method::Get,
        path: "/api/v1/netflow/sinks",
        summary: "State of each sink",
        about: "",
        needs: Needs::Read,
        scope: Scope::Refused,
        params: &[],
        body: None,
        answer: AnswerKind::Json(|schemas| schemas.add::<sinks::Sinks>()),
        work: Work::Thread,
        handler: sinks::answer,
    },
    Route {
        method: Method::Get,
        path: "/api/v1/netflow/ledger",
        summary: "Where every datagram and every flow ended",
        about: "The sums close: what was received equals what was stored, waits, was left out or was dropped, by reason.",
        needs: Needs::Read,
        scope: Scope::Refused,
        params: &[],
        body: None,
        answer: AnswerKind::Json(|schemas| schemas.add::<ledger::LedgerAnswer>()),
        work: Work::Thread,
        handler: ledger::answer,
    },
    Route {
        method: Method::Get,
        path: "/api/v1/netflow/config",
        summary: "The configuration in force",
        about: "Secrets are masked.",
        needs: Needs::Admin,
        scope: Scope::Refused,
        params: &[],
        body: None,
        answer: AnswerKind::Json(|_| serde_json::json!({ "type": "object" })),
        work: Work::Thread,
        handler: operate::config,
    },
    Route {
        method: Method::Post,
        path: "/api/v1/netflow/reload",
        summary: "Read the configuration again",
        about: "What can change while running does; what cannot is named with its reason; a bad file changes nothing (422).",
        needs: Needs::Admin,
        scope: Scope::Refused,
        params: &[],
        body: Some("nothing"),
        answer: AnswerKind::Json(|schemas| schemas.add::<Reloaded>()),
        work: Work::Thread,
        handler: operate::reload,
    },
    Route {
        method: Method::Get,
        path: "/metrics",
        summary: "Counters and gauges for Prometheus",
        about: "Text format 0.0.4, or OpenMetrics where Accept prefers it. On a port of its own it needs no token.",
        needs: Needs::Read,
        scope: Scope::Refused,
        params: &[],
        body: None,
        answer: AnswerKind::Text(&["text/plain", "application/openmetrics-text"]),
        work: Work::Thread,
        handler: metrics::answer,
    },
    Route {
        method: Method::Get,
        path: "/healthz",
        summary: "The process runs",
        about: "",
        needs: Needs::Nothing,
        scope: Scope::Free,
        params: &[],
        body: None,
        answer: AnswerKind::Text(&["text/plain"]),
        work: Work::Inline,
        handler: health::healthz,
    },
    Route {
        method: Method::Get,
        path: "/readyz",
        summary: "Whether it receives, stores and can answer",
        about: "503 with the same body when it does not.",
        needs: Needs::Read,
        scope: Scope::Free,
        params: &[],
        body: None,
        answer: AnswerKind::Json(|schemas| schemas.add::<Readiness>()),
        work: Work::Thread,
        handler: health::readyz,
    },
    Route {
        method: Method::Get,
        path: "/",
        summary: "This description, as a page",
        about: "It says nothing about this collector, so it needs no token.",
        needs: Needs::Nothing,
        scope: Scope::Free,
        params: &[],
        body: None,
        answer: AnswerKind::Text(&["text/html"]),
        work: Work::Inline,
        handler: describe::page,
    },
    Route {
        method: Method::Get,
        path: "/openapi.json",
        summary: "This description, as OpenAPI 3.1",
        about: "It says nothing about this collector, so it needs no token.",
        needs: Needs::Nothing,
        scope: Scope::Free,
        params: &[],
        body: None,
        answer: AnswerKind::Json(|_| serde_json::json!({ "type": "object" })),
        work: Work::Inline,
        handler: describe::openapi,
    },
];
