CREATE SCHEMA IF NOT EXISTS netflow;

-- One row a place: which version of the tables stands there.
CREATE TABLE IF NOT EXISTS netflow.schema_version (
    target  text PRIMARY KEY,
    version integer NOT NULL
);

-- One row a place and log: everything up to this position of that log is stored.
CREATE TABLE IF NOT EXISTS netflow.cursors (
    target     text NOT NULL,
    log_id     uuid NOT NULL,
    position   bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (target, log_id)
);

-- Above the cursor: ranges of positions, both ends included, that one of several connections has stored.
CREATE TABLE IF NOT EXISTS netflow.cursor_ranges (
    target text NOT NULL,
    log_id uuid NOT NULL,
    first  bigint NOT NULL,
    last   bigint NOT NULL,
    PRIMARY KEY (target, log_id, first)
);

-- Buckets of rollups of which this log has stored rows that are not folded into one for each key yet.
CREATE TABLE IF NOT EXISTS netflow.unfolded (
    target text NOT NULL,
    log_id uuid NOT NULL,
    rollup text NOT NULL,
    bucket timestamptz NOT NULL,
    PRIMARY KEY (target, log_id, rollup, bucket)
);
