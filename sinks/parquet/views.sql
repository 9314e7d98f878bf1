-- Views for DuckDB over the store's files: text addresses, country letters, direction names.
--
--   cd <the folder that holds `data`>; duckdb -init sinks/parquet/views.sql
--   duckdb -c "SET VARIABLE netflow = '/var/lib/rgz/data'" ...          -- another place
--
-- Reads every file under the folder. While the collector merges files, a moment may show rows twice; the collector's own
-- answers go by the manifest and never do. `flows` carries the columns under the names that the other stores use.

SET VARIABLE netflow = coalesce(getvariable('netflow'), 'data');

CREATE OR REPLACE MACRO netflow_ip4(n) AS
    concat_ws('.', n >> 24, (n >> 16) & 255, (n >> 8) & 255, n & 255);

-- Eight groups of four hexadecimal digits: the full form of RFC 4291, 2.2.1.
CREATE OR REPLACE MACRO netflow_ip6(b) AS
    lower(regexp_replace(hex(b), '(....)(....)(....)(....)(....)(....)(....)(....)', '\1:\2:\3:\4:\5:\6:\7:\8'));

CREATE OR REPLACE MACRO netflow_ip(v4, v6) AS
    CASE WHEN v4 IS NOT NULL THEN netflow_ip4(v4::BIGINT) WHEN v6 IS NOT NULL THEN netflow_ip6(v6) END;

CREATE OR REPLACE MACRO netflow_country(n) AS
    CASE WHEN n IS NOT NULL THEN chr((n::INTEGER >> 8) & 127) || chr(n::INTEGER & 127) END;

CREATE OR REPLACE MACRO netflow_direction(n) AS
    CASE n WHEN 1 THEN 'in' WHEN 2 THEN 'out' WHEN 3 THEN 'internal' WHEN 4 THEN 'transit' WHEN 5 THEN 'internal_in' END;

-- The files of one table, whatever their age: columns that older files lack are null.
CREATE OR REPLACE MACRO netflow_files(name) AS TABLE
    SELECT * FROM read_parquet(getvariable('netflow') || '/' || name || '/*/*.parquet', union_by_name = true);

CREATE OR REPLACE VIEW flows AS
SELECT
    time, flow_start, received_at,
    netflow_ip(exporter_ip4, exporter_ip6) AS exporter_ip,
    nas_id,
    netflow_ip(src_ip4, src_ip6) AS src_ip,
    netflow_ip(dst_ip4, dst_ip6) AS dst_ip,
    src_port, dst_port, protocol, bytes, packets, tcp_flags, tos, input_if, output_if,
    netflow_ip(next_hop4, next_hop6) AS next_hop,
    src_as, dst_as, src_mask, dst_mask, vlan_id, src_mac, dst_mac,
    netflow_ip(nat_src_ip4, nat_src_ip6) AS nat_src_ip,
    netflow_ip(nat_dst_ip4, nat_dst_ip6) AS nat_dst_ip,
    nat_src_port, nat_dst_port, sampling_rate, netflow_version,
    netflow_direction(direction) AS direction,
    netflow_country(src_country) AS src_country,
    netflow_country(dst_country) AS dst_country,
    service_port, app, app_category, subscriber_id, reseller_id, site,
    bidirectional = 1 AS bidirectional, rtt_ms
FROM netflow_files('flows');

-- Rollups: the sums of several rows of one key and bucket belong together.
CREATE OR REPLACE VIEW traffic AS
SELECT * REPLACE (netflow_direction(direction) AS direction) FROM netflow_files('traffic');

CREATE OR REPLACE VIEW talkers AS
SELECT * EXCLUDE (host4, host6), netflow_ip(host4, host6) AS host FROM netflow_files('talkers');

CREATE OR REPLACE VIEW usage AS
SELECT * REPLACE (netflow_direction(direction) AS direction) FROM netflow_files('usage');

CREATE OR REPLACE VIEW usage_apps AS
SELECT * REPLACE (netflow_direction(direction) AS direction) FROM netflow_files('usage_apps');

CREATE OR REPLACE VIEW geo AS
SELECT * REPLACE (netflow_direction(direction) AS direction, netflow_country(country) AS country)
FROM netflow_files('geo');
