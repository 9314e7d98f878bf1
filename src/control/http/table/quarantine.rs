//! What was set aside, and what can be done about it.

use crate::control::http::answers::quarantine;
use crate::control::http::auth::Needs;
use crate::control::http::held::{HeldDropped, HeldPage, HeldRecord, HeldReplayed};
use crate::control::http::params::{Param, ParamKind};
use crate::control::http::route::{AnswerKind, Method, Route, Scope, Work};

/// Most records of one page: each costs a look into its file.
const RECORDS_MAX: u64 = 1000;
/// Most rows of a record that are shown.
const ROWS_MAX: u64 = 10_000;

const SINK: Param = Param { name: "sink", kind: ParamKind::Text, default: None, about: "Only what this sink refused." };
const ID: Param = Param {
    name: "id",
    kind: ParamKind::Text,
    default: None,
    about: "Only this record, by its `id` in the list. Either this or `sink` is needed.",
};

/// Its rows.
pub(super) const ROUTES: &[Route] = &[
    Route {
        method: Method::Get,
        path: "/api/v1/netflow/quarantine",
        summary: "What was set aside",
        about: "Records and rows that a sink's store refuses, kept on disk until they are replayed or dropped; then records that \
                cannot be true, the latest 1024 with their bytes. Sinks as configured, records by position.",
        needs: Needs::Read,
        scope: Scope::Refused,
        params: &[&[
            Param {
                name: "by",
                kind: ParamKind::OneOf(quarantine::BY),
                default: Some("all"),
                about: "Who set it aside.",
            },
            SINK,
            Param {
                name: "after",
                kind: ParamKind::Text,
                default: None,
                about: "Only what comes after this `id`: `next` of the page before.",
            },
            Param {
                name: "limit",
                kind: ParamKind::Whole { min: 1, max: RECORDS_MAX },
                default: Some("100"),
                about: "Most records.",
            },
        ]],
        body: None,
        answer: AnswerKind::Json(|schemas| schemas.add::<HeldPage>()),
        work: Work::Thread,
        handler: quarantine::list,
    },
    Route {
        method: Method::Get,
        path: "/api/v1/netflow/quarantine/record",
        summary: "A record that was set aside, row by row",
        about: "Columns without a value are left out.",
        needs: Needs::Read,
        scope: Scope::Refused,
        params: &[&[
            Param {
                name: "id",
                kind: ParamKind::Text,
                default: None,
                about: "The record, by its `id` in the list; needed.",
            },
            Param {
                name: "limit",
                kind: ParamKind::Whole { min: 1, max: ROWS_MAX },
                default: Some("100"),
                about: "Most rows.",
            },
        ]],
        body: None,
        answer: AnswerKind::Json(|schemas| schemas.add::<HeldRecord>()),
        work: Work::Thread,
        handler: quarantine::record,
    },
    Route {
        method: Method::Post,
        path: "/api/v1/netflow/quarantine/replay",
        summary: "Bring what a sink refused to it again",
        about: "Each record is stored once, however often this is asked. What is refused again stays. A replay takes a few \
                seconds at the most: where `next` is not null, ask again with it as `after`. 503 when the sink takes no data now; \
                then nothing has changed.",
        needs: Needs::Admin,
        scope: Scope::Refused,
        params: &[&[
            SINK,
            ID,
            Param {
                name: "after",
                kind: ParamKind::Text,
                default: None,
                about: "Only what comes after this `id`: `next` of the replay before.",
            },
        ]],
        body: Some("nothing"),
        answer: AnswerKind::Json(|schemas| schemas.add::<HeldReplayed>()),
        work: Work::Thread,
        handler: quarantine::replay,
    },
    Route {
        method: Method::Post,
        path: "/api/v1/netflow/quarantine/drop",
        summary: "Drop what a sink refused",
        about: "It is lost, and counted so.",
        needs: Needs::Admin,
        scope: Scope::Refused,
        params: &[&[SINK, ID]],
        body: Some("nothing"),
        answer: AnswerKind::Json(|schemas| schemas.add::<HeldDropped>()),
        work: Work::Thread,
        handler: quarantine::drop_records,
    },
];
